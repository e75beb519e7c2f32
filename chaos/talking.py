"""The workflows that clients talk to: updates and queries, approvals, hooks, chains of runs that signals feed.

What is said bears a name of its own, so that the books find it again in a history. `conversations` has what clients say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Any

from chaos.shapes import Shape, add
from dramaturg import (
    approval,
    continue_as_new,
    hook,
    on_query,
    on_update,
    start_child,
    wait_signal,
    wait_until,
    workflow,
)

#: So many signals one run of a chain takes before it goes on as the next.
TAKEN_BY_ONE = 3


@workflow(name="chaos-counted")
async def counted(number: int, updates: int) -> int:
    """Counts what updates bring, with a step in each, until it has heard all."""
    heard: list[int] = []

    def check(name: str, value: int) -> None:
        if value < 0:
            raise ValueError(f"{name}: {value} is below zero")

    @on_update("add", validator=check)
    async def take(name: str, value: int) -> int:
        told = await add(number + value)
        heard.append(value)
        return told

    @on_query("heard")
    def ask() -> int:
        return len(heard)

    await wait_until(lambda: len(heard) == updates)
    return await add(number + sum(heard))


@workflow(name="chaos-approved")
async def approved(number: int, approvals: int) -> int:
    """Asks for one decision after the other, with a step between them."""
    for each in range(approvals):
        decision = await approval(f"go {each}", prompt="Whoever comes first decides.")
        number = await add(number if decision.by else -1)
    return number


@workflow(name="chaos-hooked")
async def hooked(number: int, value: int) -> int:
    """Waits for one call from outside."""
    call = hook("call", type=tuple[str, int])
    on_query("token", lambda: call.token)
    _, told = await call
    return await add(number + value if told == value else -1)


@workflow(name="chaos-rounds")
async def rounds(total: int, left: int, heard: Sequence[str]) -> int:
    """A chain of runs: each takes a few signals, does a step, and leaves the other signals to the next."""
    taken = 0
    known = list(heard)
    while left and taken < TAKEN_BY_ONE:
        name, value = await wait_signal("add", type=tuple[str, int])
        if name not in known:
            known.append(name)
            total, left, taken = total + value, left - 1, taken + 1
    total = await add(total)
    if left:
        continue_as_new(total, left, known)
    return total


@workflow(name="chaos-leading")
async def leading(number: int, signals: int) -> int:
    """Feeds a chain of runs that is its child, wherever that stands meanwhile."""
    chain = start_child(rounds, number, signals, [])
    for place in range(signals):
        await chain.signal("add", [f"signal {place}", value_of(place)])
        await add(place)
    return await chain.result()


@workflow(name="chaos-gathered")
async def gathered(number: int, signals: int) -> int:
    """Gathers what starts bring that carry a signal: the first one begins it."""
    heard: dict[str, int] = {}
    while len(heard) < signals:
        name, value = await wait_signal("add", type=tuple[str, int])
        heard[name] = value
    return await add(number + sum(heard.values()))


def value_of(place: int) -> int:
    """What the client says in this place, from 0."""
    return 10 * (place + 1)


def _sum_of(count: int) -> int:
    return sum(map(value_of, range(count)))


def _number(chance: Random) -> int:
    return chance.randrange(1_000_000)


def _of_rounds(arguments: tuple[Any, ...]) -> int:
    number, signals, *_ = arguments
    # Each run of the chain adds one.
    return int(number + _sum_of(signals) + math.ceil(signals / TAKEN_BY_ONE))


TALKS: tuple[Shape, ...] = (
    Shape(counted, 3, lambda r: (_number(r), r.randint(1, 5)), lambda a: a[0] + _sum_of(a[1]) + 1, then="talk"),
    Shape(approved, 3, lambda r: (_number(r), r.randint(1, 3)), lambda a: a[0] + a[1], then="talk"),
    Shape(hooked, 3, lambda r: (_number(r), value_of(0)), lambda a: a[0] + a[1] + 1, then="talk"),
    Shape(rounds, 3, lambda r: (_number(r), r.randint(1, 10), []), _of_rounds, then="talk"),
    Shape(leading, 2, lambda r: (_number(r), r.randint(1, 10)), _of_rounds, then="talk"),
    Shape(gathered, 3, lambda r: (_number(r), r.randint(1, 5)), lambda a: a[0] + _sum_of(a[1]) + 1, then="gather"),
)
