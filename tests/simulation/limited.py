"""Constructs under limits, runs that are tried again, and results that are kept: drawn like all others.

Nothing here holds a limit's place while it waits for another place of the same limit, which no engine could untie: what a
run under a limit does is never a run under a limit.
"""

# A program is JSON, and its lists are of anything.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from dramaturg import ChildFailed, Limit, RetryPolicy, child, current_step, info, step, workflow
from tests.simulation.grammar import (
    Construct,
    Draw,
    Program,
    double,
    expect,
    perform,
)

_QUICK = RetryPolicy(max_attempts=6, backoff="fixed", initial="2s")
_SOON = RetryPolicy(max_attempts=3, backoff="fixed", initial="5s")

#: Of the key under which a client's own runs are limited: no child has it.
OF_CLIENTS = "clients"


@step(name="simulated_one_each", concurrency=Limit(1, key="key"))
def one_each(key: int, value: int) -> int:
    return 2 * value


@step(name="simulated_two_at_once", concurrency=2, retries=_QUICK)
def two_at_once(key: int, value: int) -> int:
    """Fails as often as its key says: each attempt has a place of its own."""
    context = current_step()
    assert context is not None
    if context.attempt <= key:
        raise ValueError(f"attempt {context.attempt}")
    return 2 * value


@step(name="simulated_paced", rate_limit="2/20s", retries=_QUICK)
def paced(key: int, value: int) -> int:
    return 2 * value


@step(name="simulated_one_paced", concurrency=Limit(1, key="key"), rate_limit=Limit("3/m", key="key"))
def one_paced(key: int, value: int) -> int:
    return 2 * value


@step(name="simulated_limited_undoing", concurrency=1)
def undo_one(_: int, key: int, value: int) -> None:
    """Undoing is under a limit, too."""


@step(name="simulated_limited_doing", concurrency=Limit(1, key="key"), compensate=undo_one)
def do_one(key: int, value: int) -> int:
    return 2 * value


@step(name="simulated_fail_in_the_first_try", retries=0)
def fail_in_the_first_try() -> None:
    context = current_step()
    assert context is not None
    generation = int(context.idempotency_key.split(":")[-2])
    if context.attempt == 1 and generation == 1:
        raise ValueError("not before the run is tried again")


_STEPS: dict[str, Callable[[], Any]] = {
    "one each": lambda: one_each,
    "with a time-out": lambda: one_each.options(timeout="1h"),
    "local": lambda: one_each.options(local=True),
    "urgent": lambda: one_each.options(priority=-1),
    "two at once": lambda: two_at_once,
    "paced": lambda: paced,
    "one, paced": lambda: one_paced,
    "undone": lambda: do_one,
}


@workflow(name="simulated_queued", concurrency=Limit(1, key="key"))
async def queued(key: str, program: str) -> Any:
    return await perform(json.loads(program))


@workflow(name="simulated_skipped", concurrency=Limit(1, key="key", on_conflict="skip"))
async def skipped(key: str, program: str) -> Any:
    return await perform(json.loads(program))


@workflow(name="simulated_superseding", concurrency=Limit(1, key="key", on_conflict="cancel_running"))
async def superseding(key: str, program: str) -> Any:
    return await perform(json.loads(program))


@workflow(name="simulated_tried_again", retries=_SOON)
async def tried_again(program: str, failures: int, of_a_step: bool) -> Any:
    """Fails of its own, or because of a step, as often as it is told; what it did in a try that failed is undone."""
    value = await perform(json.loads(program))
    if of_a_step:
        await fail_in_the_first_try()
    elif info().attempt <= failures:
        raise ValueError(f"try {info().attempt}")
    return value


#: By what becomes of a start that finds the limit reached.
LIMITED_WORKFLOWS: dict[str, Any] = {"queue": queued, "skip": skipped, "cancel_running": superseding}


class UnderALimit(Construct):
    """Steps that ask for places of limits at the same moment."""

    name = "steps under a limit"

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        kinds = list(_STEPS)
        return [[[draw.number(2), kinds[draw.number(len(kinds))], draw.number(100)] for _ in range(1 + draw.number(4))]]

    async def perform(self, calls: list[list[Any]]) -> list[int]:
        return list(await asyncio.gather(*(_STEPS[kind]()(key, value) for key, kind, value in calls)))

    def expect(self, calls: list[list[Any]]) -> list[int]:
        return [2 * value for _, _, value in calls]


class Contended(UnderALimit):
    """All want the same place."""

    name = "steps that want the same place"

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        kinds = list(_STEPS)
        kind, key = kinds[draw.number(len(kinds))], draw.number(2)
        return [[[key, kind, draw.number(100)] for _ in range(2 + draw.number(3))]]


class LimitedChildren(Construct):
    """Runs of which one at a time is let through: the others wait, are skipped, or take its place."""

    name = "children under a limit"
    depth = 1
    is_run = True

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        kinds = list(LIMITED_WORKFLOWS)
        bodies = [draw.program(0) for _ in range(1 + draw.number(3))]
        return [kinds[draw.number(len(kinds))], draw.number(2), bodies]

    async def perform(self, on_conflict: str, key: int, bodies: list[Program]) -> Any:
        limited = LIMITED_WORKFLOWS[on_conflict]
        runs = [child(limited, str(key), json.dumps(body)) for body in bodies]
        if on_conflict == "queue":
            return list(await asyncio.gather(*runs))
        ends = await asyncio.gather(*runs, return_exceptions=True)
        return [_end_of(end, expect(body)) for end, body in zip(ends, bodies, strict=True)]

    def expect(self, on_conflict: str, key: int, bodies: list[Program]) -> Any:
        return [expect(body) if on_conflict == "queue" else "well or not at all" for body in bodies]


def _end_of(end: Any, expected: Any) -> Any:
    """Of a run that may be skipped or cancelled; nothing else may become of it."""
    is_stopped = isinstance(end, ChildFailed) and end.status == "CANCELLED"
    return "well or not at all" if is_stopped or end == expected else repr(end)


class TriedAgain(Construct):
    """A run with retries of its own."""

    name = "child that is tried again"
    depth = 1
    is_run = True

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [draw.program(depth), draw.number(3), bool(draw.number(2))]

    async def perform(self, body: Program, failures: int, of_a_step: bool) -> Any:
        return await child(tried_again, json.dumps(body), failures, of_a_step)

    def expect(self, body: Program, failures: int, of_a_step: bool) -> Any:
        return expect(body)


class Kept(Construct):
    """Results are used again, for the same arguments, by whichever run asks next."""

    name = "steps with kept results"

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [[draw.number(3) for _ in range(1 + draw.number(3))], bool(draw.number(2))]

    async def perform(self, values: list[int], is_limited: bool) -> list[int]:
        results: list[int] = []
        for value in values:
            again = one_each.options(cache="1h")(0, value) if is_limited else double.options(cache="1h")(value)
            results.append(await again)
        return results

    def expect(self, values: list[int], is_limited: bool) -> list[int]:
        return [2 * value for value in values]
