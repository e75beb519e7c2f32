"""What generated programs are made of: one small class for each construct.

A program is a list ``[construct, parameter, …]``, where a parameter may be a program, or a list of some. It travels to
the run as JSON. A construct draws its parameters, performs itself inside a workflow, and says what that gives. A new
construct is a subclass with `name`; nothing else has to know of it.
"""

# A program is JSON, and its lists are of anything.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar, TypeAlias, TypeGuard

from dramaturg import (
    FatalError,
    RetryPolicy,
    StepFailed,
    StepTimeout,
    child,
    compensate,
    compensate_now,
    current_step,
    logger,
    now,
    patched,
    random,
    side_effect,
    sleep,
    step,
    uuid4,
    workflow,
)
from dramaturg.testing.simulation.chance import Chance
from dramaturg.testing.simulation.clients import Call
from dramaturg_protocol.errors import StepTimedOut

Program: TypeAlias = list[Any]

_QUICK = RetryPolicy(max_attempts=6, backoff="fixed", initial="2s")

CONSTRUCTS: dict[str, Any] = {}


@step(name="simulated_double")
def double(value: int) -> int:
    return 2 * value


@step(name="simulated_double_async")
async def double_async(value: int) -> int:
    return 2 * value


@step(name="simulated_succeed_after", retries=_QUICK)
def succeed_after(failures: int, value: int) -> int:
    context = current_step()
    assert context is not None
    if context.attempt <= failures:
        raise ValueError(f"attempt {context.attempt}")
    return value


@step(name="simulated_fail")
def fail(is_fatal: bool) -> None:
    raise FatalError("never again") if is_fatal else ValueError("no")


@step(name="simulated_fail_first", retries=0)
def fail_first(value: int) -> int:
    """Fails for good, and succeeds where its run is retried after that."""
    context = current_step()
    assert context is not None
    generation = int(context.idempotency_key.split(":")[-2])
    if context.attempt == 1 and generation == 1:
        raise FatalError("not before somebody asks again")
    return value


@step(name="simulated_undo", retries=_QUICK)
def undo(*_: int) -> None:
    """Fails once: undoing is retried."""
    context = current_step()
    assert context is not None
    if context.attempt == 1:
        raise ValueError("undo me again")


@step(name="simulated_undo_as_well", retries=_QUICK)
def undo_as_well(_: int) -> None:
    """A compensation that the code itself asks for."""


@step(name="simulated_doing", compensate=undo)
def do(value: int) -> int:
    return value


@step(name="simulated_run_out_of_time")
def run_out_of_time() -> None:
    context = current_step()
    assert context is not None
    context.interrupted = StepTimedOut("too long")
    raise context.interrupted


@workflow
async def simulated_program(program: str) -> Any:
    return await perform(json.loads(program))


async def perform(program: Program) -> Any:
    return await CONSTRUCTS[program[0]].perform(*program[1:])


def expect(program: Program) -> Any:
    return CONSTRUCTS[program[0]].expect(*program[1:])


class Draw:
    """Draws programs.

    Parameters:
      size: how many constructs there may be in all.
    """

    def __init__(self, chance: Chance, size: int) -> None:
        self._chance = chance
        self._left = size

    def number(self, limit: int) -> int:
        return self._chance.below("number", limit)

    def program(self, depth: int) -> Program:
        self._left = max(self._left - 1, 0)
        names = [name for name, each in CONSTRUCTS.items() if each.depth <= depth and each.depth <= self._left]
        name = self._chance.pick("construct", names)
        return [name, *CONSTRUCTS[name].draw(self, depth - 1)]

    def name(self) -> str:
        """One that nothing else has."""
        return f"n{self._chance.below('name', 1 << 30)}"

    def programs(self, depth: int, most: int) -> list[Program]:
        return [self.program(depth) for _ in range(1 + self.number(max(1, min(most, self._left))))]


class Construct:
    """One thing that a workflow can do: ``async def perform(self, *parameters)`` does it, ``expect(self, *parameters)``
    says what that gives, without any engine.

    Attributes:
      name: in programs.
      depth: 0 for one that holds no other.
      is_run: what it holds is done by a run of its own.
    """

    name: ClassVar[str]
    depth: ClassVar[int] = 0
    is_run: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        CONSTRUCTS[cls.name] = cls()

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        """Parameters."""
        return []

    def calls(self, run_id: str, parameters: list[Any]) -> Iterator[Call]:
        """What clients send to it while it is under way.

        Parameters:
          run_id: of the run that performs it; empty where clients do not know that beforehand.
        """
        yield from ()


# Steps.


class Succeeding(Construct):
    name = "step"

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [draw.number(100)]

    async def perform(self, value: int) -> int:
        return await double(value)

    def expect(self, value: int) -> int:
        return 2 * value


class SucceedingAsync(Succeeding):
    name = "async step"

    async def perform(self, value: int) -> int:
        return await double_async(value)


class Timed(Succeeding):
    """Reports its pick-up, and has a row with a due time while it runs."""

    name = "step with a time-out"

    async def perform(self, value: int) -> int:
        return await double.options(timeout="1h")(value)


class Local(Succeeding):
    """The coordinator runs it, before the commit that records it."""

    name = "local step"

    async def perform(self, value: int) -> int:
        return await double.options(local=True)(value)


class LocalInARow(Construct):
    name = "local steps in a row"

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [1 + draw.number(3), draw.number(100)]

    async def perform(self, failures: int, value: int) -> list[int]:
        again = succeed_after.options(local=True)
        return [await double.options(local=True)(value), await again(failures, value)]

    def expect(self, failures: int, value: int) -> list[int]:
        return [2 * value, value]


class Retried(Construct):
    name = "retried step"

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [1 + draw.number(3), draw.number(100)]

    async def perform(self, failures: int, value: int) -> int:
        return await succeed_after(failures, value)

    def expect(self, failures: int, value: int) -> int:
        return value


class Failing(Construct):
    name = "failing step"

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [bool(draw.number(2)), draw.number(3)]

    async def perform(self, is_fatal: bool, retries: int) -> list[Any]:
        try:
            await fail.options(retries=retries)(is_fatal)
        except StepFailed as error:
            # A retry of its run makes them more.
            return [error.error_type.rpartition(".")[2], min(error.attempts, self._attempts(is_fatal, retries))]
        raise AssertionError("it must fail")

    def expect(self, is_fatal: bool, retries: int) -> list[Any]:
        return ["FatalError" if is_fatal else "ValueError", self._attempts(is_fatal, retries)]

    def _attempts(self, is_fatal: bool, retries: int) -> int:
        return 1 if is_fatal else retries + 1


class TimingOut(Construct):
    name = "step that runs out of time"

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [draw.number(2)]

    async def perform(self, retries: int) -> list[Any]:
        try:
            await run_out_of_time.options(timeout="5m", retries=retries)()
        except StepTimeout as error:
            return ["too late", min(error.attempts, retries + 1)]
        raise AssertionError("it must run out of time")

    def expect(self, retries: int) -> list[Any]:
        return ["too late", retries + 1]


# Going on, and undoing.


class Doomed(Construct):
    """Fails its run; it is put where a person will retry it, never drawn."""

    name = "step that fails its run"
    depth = 99

    async def perform(self, value: int) -> int:
        return await fail_first(value)

    def expect(self, value: int) -> int:
        return value


class Undone(Construct):
    """What is on the stack is undone once, here or where the run does not end well."""

    name = "steps that are undone"

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [draw.number(3), bool(draw.number(2))]

    async def perform(self, value: int, now: bool) -> int:
        await do(value)
        compensate(undo_as_well, value)
        await do(value + 1)
        if now:
            await compensate_now()
        return value

    def expect(self, value: int, now: bool) -> int:
        return value


# Time.


class Sleeping(Construct):
    name = "sleep"

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [(1, 45, 3600, 200_000)[draw.number(4)]]

    async def perform(self, seconds: int) -> bool:
        before = now()
        await sleep(seconds)
        return now() - before >= timedelta(seconds=seconds)

    def expect(self, seconds: int) -> bool:
        return True


class WaitingTooLong(Construct):
    name = "time-out of a wait"

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [1 + draw.number(100)]

    async def perform(self, seconds: int) -> str:
        try:
            async with asyncio.timeout(seconds):
                await asyncio.Event().wait()
        except TimeoutError:
            return "timed out"
        raise AssertionError("nothing sets it")

    def expect(self, seconds: int) -> str:
        return "timed out"


class InTime(Construct):
    name = "wait in time"
    depth = 1

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [draw.program(depth)]

    async def perform(self, body: Program) -> Any:
        return await asyncio.wait_for(perform(body), timedelta(days=90).total_seconds())

    def expect(self, body: Program) -> Any:
        return expect(body)


class Racing(Construct):
    """Either end is right; what counts is that replay takes the same."""

    name = "race with a time-out"
    depth = 1

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [1 + draw.number(5), draw.program(depth)]

    async def perform(self, seconds: int, body: Program) -> str:
        try:
            async with asyncio.timeout(seconds):
                await perform(body)
        except TimeoutError:
            await double(seconds)
        return "raced"

    def expect(self, seconds: int, body: Program) -> str:
        return "raced"


# Several at once.


class Several(Construct):
    """Some at once, with their results in order."""

    name = "gather"
    depth = 1

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [draw.programs(depth, 4)]

    async def perform(self, bodies: list[Program]) -> Any:
        return list(await asyncio.gather(*map(perform, bodies)))

    def expect(self, bodies: list[Program]) -> Any:
        return [expect(body) for body in bodies]


class Grouped(Several):
    name = "task group"

    async def perform(self, bodies: list[Program]) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(perform(body)) for body in bodies]
        return [task.result() for task in tasks]


class Tasks(Several):
    name = "tasks"

    async def perform(self, bodies: list[Program]) -> list[Any]:
        tasks = [asyncio.create_task(perform(body)) for body in bodies]
        await asyncio.wait(tasks)
        return [task.result() for task in tasks]


class Limited(Several):
    name = "semaphore"

    async def perform(self, bodies: list[Program]) -> list[Any]:
        semaphore = asyncio.Semaphore(2)

        async def limited(body: Program) -> Any:
            async with semaphore:
                return await perform(body)

        return list(await asyncio.gather(*map(limited, bodies)))


class Queued(Several):
    name = "queue"

    async def perform(self, bodies: list[Program]) -> list[Any]:
        queue: asyncio.Queue[tuple[int, Any]] = asyncio.Queue(1)

        async def produce(number: int, body: Program) -> None:
            await queue.put((number, await perform(body)))

        async with asyncio.TaskGroup() as group:
            for number, body in enumerate(bodies):
                group.create_task(produce(number, body))
            got = [await queue.get() for _ in bodies]
        return [value for _, value in sorted(got, key=lambda pair: pair[0])]


class Signalled(Several):
    name = "event"

    async def perform(self, bodies: list[Program]) -> list[Any]:
        event, done = asyncio.Event(), list[Any]()

        async def work() -> None:
            done.extend([await perform(body) for body in bodies])
            event.set()

        task = asyncio.create_task(work())
        await event.wait()
        await task
        return done


class First(Several):
    """The first counts, the others are cancelled."""

    name = "first of some"

    async def perform(self, bodies: list[Program]) -> Any:
        tasks = [asyncio.create_task(perform(body)) for body in bodies]
        _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return "one came first"

    def expect(self, bodies: list[Program]) -> Any:
        return "one came first"


class Failed(Construct):
    """A member fails: the others of its group are cancelled."""

    name = "task group that fails"
    depth = 1

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [draw.programs(depth, 3)]

    async def perform(self, bodies: list[Program]) -> str:
        outcome = "no member failed"
        try:
            async with asyncio.TaskGroup() as group:
                for body in bodies:
                    group.create_task(perform(body))
                group.create_task(fail.options(retries=0)(True))
        except* StepFailed:
            outcome = "failed"
        return outcome

    def expect(self, bodies: list[Program]) -> str:
        return "failed"


class Child(Construct):
    """A run of its own."""

    name = "child"
    depth = 1
    is_run = True

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [draw.program(depth)]

    async def perform(self, body: Program) -> Any:
        return await child(simulated_program, json.dumps(body))

    def expect(self, body: Program) -> Any:
        return expect(body)


class Cancelled(Construct):
    name = "cancelled task"
    depth = 1

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [draw.program(depth)]

    async def perform(self, body: Program) -> str:
        task = asyncio.create_task(perform(body))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return "cancelled"

    def expect(self, body: Program) -> str:
        return "cancelled"


class CleaningUp(Construct):
    """What stands in a ``finally`` happens once."""

    name = "finally"
    depth = 1

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [draw.program(depth), draw.program(depth)]

    async def perform(self, body: Program, end: Program) -> list[Any]:
        done: list[Any] = []
        try:
            done.append(await perform(body))
        finally:
            done.append(await perform(end))
        return done

    def expect(self, body: Program, end: Program) -> list[Any]:
        return [expect(body), expect(end)]


# What is the same on replay.


class Recorded(Construct):
    name = "side effect"

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [draw.number(100)]

    async def perform(self, value: int) -> int:
        return side_effect(lambda: value)

    def expect(self, value: int) -> int:
        return value


class Patched(Construct):
    name = "patched"

    async def perform(self) -> bool:
        return patched("a change")

    def expect(self) -> bool:
        return True


class Derived(Construct):
    """Another value in a replay would be another argument, and block the run."""

    name = "uuid4 and random"

    async def perform(self) -> bool:
        value = uuid4().int % 1000 + random().randrange(1000)
        return await double(value) == 2 * value

    def expect(self) -> bool:
        return True


class Logging(Construct):
    name = "log"

    async def perform(self) -> None:
        logger.warning("a line of the history")

    def expect(self) -> None:
        return None


def calls_for(program: Program, run_id: str) -> Iterator[Call]:
    """What clients send to a run that performs a program, and to those that it starts."""
    construct = CONSTRUCTS[program[0]]
    yield from construct.calls(run_id, program[1:])
    for part in parts_of(program):
        yield from calls_for(part, "" if construct.is_run else run_id)


def parts_of(program: Program) -> Iterator[Program]:
    """The programs that one holds directly."""
    for parameter in program[1:]:
        if is_program(parameter):
            yield parameter
        else:
            yield from programs_in(parameter)


def programs_in(parameter: Any) -> list[Program]:
    """Of a parameter that is a list of programs."""
    if not isinstance(parameter, list):
        return []
    parts: list[Any] = parameter
    return list(filter(is_program, parts))


def is_program(value: Any) -> TypeGuard[Program]:
    if not isinstance(value, list):
        return False
    parts: list[Any] = value
    return bool(parts) and isinstance(parts[0], str)


class InOrder(Several):
    name = "in order"

    async def perform(self, bodies: list[Program]) -> list[Any]:
        return [await perform(body) for body in bodies]
