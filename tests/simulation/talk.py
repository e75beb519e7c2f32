"""Constructs of generated programs that hear from outside and from other runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from dramaturg import (
    approval,
    continue_as_new,
    external,
    hook,
    info,
    on_query,
    on_update,
    start_child,
    wait_signal,
    wait_until,
    workflow,
)
from dramaturg.testing.simulation.clients import Call
from tests.simulation import outside
from tests.simulation.grammar import Construct, Draw, Program, double, simulated_program

#: Within how many seconds a client speaks: at once, while something is under way, or much later.
MOMENTS = (1, 10, 100, 4000)


class Hearing(Construct):
    """Somebody sends numbers, each after the one before was accepted: so they come in this order."""

    name = "signals in order"

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [draw.name(), 1 + draw.number(4), MOMENTS[draw.number(len(MOMENTS))]]

    async def perform(self, name: str, count: int, within: int) -> list[int]:
        heard: list[int] = []
        for number in range(count):
            heard.append(await wait_signal(name, type=int))
            if number % 2:
                await double(number)
        return heard

    def expect(self, name: str, count: int, within: int) -> list[int]:
        return list(range(count))

    def calls(self, run_id: str, parameters: list[Any]) -> Iterator[Call]:
        name, count, within = parameters
        yield Call(within, finds=outside.signals(name, count, run_id, in_order=True))


class HearingAtOnce(Hearing):
    """Somebody sends numbers without waiting; each is heard once, by one of those who wait."""

    name = "signals at once"

    async def perform(self, name: str, count: int, within: int) -> list[int]:
        return sorted([await wait_signal(name, type=int) for _ in range(count)])

    def calls(self, run_id: str, parameters: list[Any]) -> Iterator[Call]:
        name, count, within = parameters
        yield Call(within, finds=outside.signals(name, count, run_id, in_order=False))


class HearingInTime(Construct):
    """A signal may come in time or not; one that comes late is heard by whoever waits next."""

    name = "signal or time-out"

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [draw.name(), (1, 20, 300)[draw.number(3)], MOMENTS[draw.number(len(MOMENTS))]]

    async def perform(self, name: str, seconds: int, within: int) -> int:
        while True:
            try:
                return await wait_signal(name, timeout=seconds, type=int)
            except TimeoutError:
                await double(seconds)
                seconds = 10 * min(seconds, 100_000)

    def expect(self, name: str, seconds: int, within: int) -> int:
        return 0

    def calls(self, run_id: str, parameters: list[Any]) -> Iterator[Call]:
        name, _, within = parameters
        yield Call(within, finds=outside.signals(name, 1, run_id, in_order=True))


class ToldByItsParent(Construct):
    """A child hears numbers of the run that started it, in the order in which it sends them."""

    name = "child that is told"
    is_run = True

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [draw.name(), 1 + draw.number(3), bool(draw.number(2))]

    async def perform(self, name: str, count: int, by_name: bool) -> Any:
        started = start_child(simulated_program, json.dumps([Hearing.name, name, count, 0]))
        for number in range(count):
            # As which run it goes on is said by its handle.
            told = external(started.workflow_id) if by_name else started
            told.signal(name, number)
            if number % 2:
                await double(number)
        return await started.result()

    def expect(self, name: str, count: int, by_name: bool) -> list[int]:
        return list(range(count))


class Telling(Construct):
    """What a run tells the one that started it; it is put into a child, never drawn."""

    name = "telling"
    depth = 99

    async def perform(self, workflow_id: str, count: int) -> None:
        for number in range(count):
            external(workflow_id).signal(info().run_id, number)
            await double(number)

    def expect(self, workflow_id: str, count: int) -> None:
        return None


class ToldByAChild(Construct):
    """In any order: what came while the run had failed is said again later."""

    name = "told by a child"

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [1 + draw.number(3)]

    async def perform(self, count: int) -> list[int]:
        telling: Program = [Telling.name, info().workflow_id, count]
        started = start_child(simulated_program, json.dumps(telling))
        await started.result()
        # Under the name of the child that ended well; what one told that was stopped stays where it is.
        return sorted([await wait_signal(started.run_id, type=int) for _ in range(count)])

    def expect(self, count: int) -> list[int]:
        return list(range(count))


# What clients ask, and what people decide.


class Updating(Construct):
    """Clients change something and ask how it stands; what the validator refuses changes nothing."""

    name = "updates"

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [draw.name(), 1 + draw.number(3), MOMENTS[draw.number(len(MOMENTS))]]

    async def perform(self, name: str, count: int, within: int) -> list[int]:
        done: set[int] = set()

        async def take(number: int) -> int:
            if number % 2:
                await double(number)
            done.add(number)
            return len(done)

        def check(number: int) -> None:
            if number < 0:
                raise ValueError("less than nothing")

        on_query(name, lambda: len(done))
        on_update(name, take, validator=check)
        await wait_until(lambda: len(done) >= count)
        return sorted(done)

    def expect(self, name: str, count: int, within: int) -> list[int]:
        return list(range(count))

    def calls(self, run_id: str, parameters: list[Any]) -> Iterator[Call]:
        name, count, within = parameters
        yield Call(within, finds=outside.questions(name, range(-1, count), run_id))


class Deciding(Construct):
    """Each approval is decided by what was said to it, or nobody says anything in time."""

    name = "approvals"

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [draw.name(), 1 + draw.number(3), (0, 0, 5, 300)[draw.number(4)], MOMENTS[draw.number(len(MOMENTS))]]

    async def perform(self, name: str, count: int, seconds: int, within: int) -> list[bool]:
        told: list[bool] = []
        for number in range(count):
            decision = await approval(name, timeout=seconds or None, details=number)
            told.append(decision.timed_out or (decision.approved and decision.comment == str(number)))
        return told

    def expect(self, name: str, count: int, seconds: int, within: int) -> list[bool]:
        return [True] * count

    def calls(self, run_id: str, parameters: list[Any]) -> Iterator[Call]:
        name, _, _, within = parameters
        yield Call(within, finds=outside.decisions(name))


class Called(Construct):
    """A hook is resolved once, or expires."""

    name = "hook"

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [draw.name(), (0, 0, 5, 300)[draw.number(4)], MOMENTS[draw.number(len(MOMENTS))]]

    async def perform(self, name: str, seconds: int, within: int) -> bool:
        try:
            return await hook(name, int, timeout=seconds or None) == outside.FIRST
        except TimeoutError:
            return True

    def expect(self, name: str, seconds: int, within: int) -> bool:
        return True

    def calls(self, run_id: str, parameters: list[Any]) -> Iterator[Call]:
        name, _, within = parameters
        yield Call(within, finds=outside.resolutions(name))


# Going on as a new run.


@workflow
async def simulated_chain(name: str, count: int, heard: list[int]) -> list[int]:
    heard = [*heard, await wait_signal(name, type=int)]
    if len(heard) == count:
        return heard
    if len(heard) % 2:
        await double(count)
    continue_as_new(name, count, heard)


class Chained(Construct):
    """Each run of a chain takes one number; those that came meanwhile go on, none lost and none twice."""

    name = "chain"
    is_run = True

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [draw.name(), 2 + draw.number(3), ("client", "handle", "id")[draw.number(3)], MOMENTS[draw.number(4)]]

    async def perform(self, name: str, count: int, sender: str, within: int) -> list[int]:
        started = start_child(simulated_chain, name, count, [])
        for number in range(0 if sender == "client" else count):
            told = external(started.workflow_id) if sender == "id" else started
            told.signal(name, number)
            if number % 2:
                await double(number)
        heard = await started.result()
        return heard if sender == "client" else sorted(heard)

    def expect(self, name: str, count: int, sender: str, within: int) -> list[int]:
        return list(range(count))

    def calls(self, run_id: str, parameters: list[Any]) -> Iterator[Call]:
        name, count, sender, within = parameters
        if sender == "client":
            yield Call(within, finds=outside.signals(name, count, "", in_order=True))
