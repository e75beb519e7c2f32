"""The workflows under load, and what each has to give: also the module that coordinators and workers serve.

A new shape is a workflow and one line in `SHAPES`; load, books and report take it from there.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chaos.ledger import note
from dramaturg import (
    FatalError,
    Graph,
    Limit,
    RetryPolicy,
    StepFailed,
    StepTimeout,
    Workflow,
    child,
    current_step,
    fan_out,
    fan_out_spread,
    fanning,
    sleep,
    start_child,
    step,
    wait_signal,
    workflow,
)

# Large is then what a few dozen steps are: a fan-out beyond it is spread over child runs, several of each.
fanning.FEW, fan_out_spread.BLOCK, fan_out_spread.LEAST_IN_LANE = 20, 8, 12

#: Many quick attempts: a run must not fail because its step met ten faults.
PATIENT = RetryPolicy(max_attempts=60, backoff="fixed", initial="500ms", jitter=False)


@contextmanager
def _noted() -> Generator[None, None, None]:
    note("begun")
    try:
        yield
    finally:
        note("done")


@step(retries=PATIENT)
def add(number: int) -> int:
    """Adds one."""
    with _noted():
        time.sleep(0.002)
        return number + 1


@step(retries=PATIENT)
def flaky(number: int, failures: int) -> int:
    """Fails in its first attempts."""
    context = current_step()
    with _noted():
        if context is not None and context.attempt <= failures:
            raise RuntimeError(f"attempt {context.attempt} fails on purpose")
        return number + 1


@step
def hopeless(number: int) -> int:
    """Fails for good."""
    with _noted():
        raise FatalError(f"{number} fails on purpose")


def _dawdle() -> None:
    # In small pieces: an interrupt lands between two of them.
    for _ in range(1500):
        time.sleep(0.02)


@step(timeout="1s", retries=PATIENT)
def slow_once(number: int) -> int:
    """Takes too long the first time."""
    context = current_step()
    with _noted():
        if context is not None and context.attempt == 1:
            _dawdle()
        return number + 1


@step(timeout="1s", retries=0)
def slow_always(number: int) -> int:
    """Takes too long."""
    with _noted():
        _dawdle()
        return number + 1


@step(retries=PATIENT)
async def add_async(number: int) -> int:
    """Adds one on the worker's event loop."""
    with _noted():
        await asyncio.sleep(0.002)
        return number + 1


@step
def mended(number: int) -> int:
    """Fails for good until somebody has mended what was wrong and its run is tried again."""
    context = current_step()
    with _noted():
        if context is not None and context.attempt == 1:
            raise FatalError(f"{number} fails until its run is retried")
        return number + 1


@workflow(name="chaos-chain")
async def chain(number: int, length: int) -> int:
    """Steps one after the other."""
    for _ in range(length):
        number = await add(number)
    return number


@workflow(name="chaos-wide")
async def wide(number: int, width: int) -> list[int]:
    """Steps side by side, a join, and one more."""
    parts = await asyncio.gather(*[add(number + each) for each in range(width)])
    return [*parts, await add_async(sum(parts))]


@workflow(name="chaos-retried")
async def retried(number: int, failures: int) -> int:
    """A step that succeeds late, between two that do at once."""
    return await add(await flaky(await add(number), failures))


@workflow(name="chaos-caught")
async def caught(number: int) -> str:
    """A step that fails for good, and a workflow that goes on."""
    try:
        await hopeless(number)
    except StepFailed as error:
        return f"{error.error_type.rpartition('.')[2]} after {await add(number)}"
    return "it did not fail"


@workflow(name="chaos-failed")
async def failed(number: int) -> int:
    """A step that fails for good, and its run with it."""
    return await hopeless(await add(number))


@workflow(name="chaos-sleepy")
async def sleepy(number: int, seconds: float) -> int:
    """Durable timers between steps."""
    number = await add(number)
    await sleep(seconds)
    number = await add(number)
    await asyncio.sleep(seconds / 2)
    return number


@workflow(name="chaos-timed-out")
async def timed_out(number: int) -> list[str | int]:
    """Attempts that are out of time: one that is repeated, one that is not, and a wait of the workflow itself."""
    ends: list[str | int] = [await slow_once(number)]
    try:
        await slow_always(number)
    except StepTimeout:
        ends.append("step")
    try:
        async with asyncio.timeout(1):
            await sleep(600)
    except TimeoutError:
        ends.append("timer")
    return ends


@workflow(name="chaos-revived")
async def revived(number: int) -> int:
    """Fails beside a step that succeeds; tried again it goes on from there."""
    first, second = await asyncio.gather(add(number), add(number + 1))
    return await mended(first) + second


@step(local=True, retries=PATIENT)
def add_here(number: int) -> int:
    """Adds one beside the workflow, in the coordinator."""
    with _noted():
        return number + 1


@workflow(name="chaos-local")
async def local(number: int, length: int) -> int:
    """Steps in the coordinator, one on a worker between them."""
    for each in range(length):
        number = await (add(number) if each == length // 2 else add_here(number))
    return number


@step(retries=PATIENT, concurrency=Limit(3, key="lane"))
def add_in_lane(number: int, lane: int) -> int:
    """Adds one, three at once in each lane."""
    with _noted():
        time.sleep(0.002)
        return number + 1


@workflow(name="chaos-limited")
async def limited(number: int, width: int) -> int:
    """Steps side by side that wait for each other, and for those of other runs."""
    parts = await asyncio.gather(*[add_in_lane(number, each % 4) for each in range(width)])
    return sum(parts)


@workflow(name="chaos-family")
async def family(number: int, length: int) -> int:
    """Runs of its own, in other partitions, beside a step."""
    first, second, third = await asyncio.gather(child(chain, number, length), child(listening, number), add(number))
    return first + second + third


@workflow(name="chaos-listening")
async def listening(number: int) -> int:
    """A child of its own that is told to go on."""
    told = start_child(told_to, number)
    await told.signal("add", await add(number))
    return await told.result()


@workflow(name="chaos-told")
async def told_to(number: int) -> int:
    """Waits for a signal."""
    return number + await wait_signal("add", type=int)


@workflow(name="chaos-endless")
async def endless(number: int) -> int:
    """Sleeps far beyond the end: only a cancel or a terminate closes it."""
    number = await add(number)
    await sleep(86_400)
    return number


@workflow(name="chaos-spread")
async def spread(number: int, width: int) -> int:
    """A fan-out that is spread over child runs."""
    return sum(await fan_out(add, [number + each for each in range(width)]))


@step(retries=PATIENT)
def sum_up(numbers: list[int]) -> int:
    """Adds them all up."""
    with _noted():
        return sum(numbers)


def _diamond() -> Graph:
    graph = Graph("chaos-graph")
    first = graph.add(add, 1, name="first")
    middle = graph.map(add, [first, 10, 100], name="middle")
    graph.add(sum_up, middle, name="last", after=[graph.add(add_async, first, name="beside")])
    return graph


diamond = _diamond()


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of run.

    Attributes:
      weight: how often it is started, against the others.
      draw: arguments of the next run.
      result: what a run with such arguments gives; ``None`` where it gives nothing.
      status: of a run that nobody stopped.
      then: what its client does with every one of its runs: ``stop`` or ``retry`` it, ``talk`` to it, or ``gather`` in it
        what starts carry; nothing: now and then some verb.
    """

    workflow: Workflow[..., Any]
    weight: int
    draw: Callable[[random.Random], tuple[Any, ...]]
    result: Callable[[tuple[Any, ...]], Any]
    status: str = "COMPLETED"
    then: str = ""


def _number(chance: random.Random) -> int:
    return chance.randrange(1_000_000)


def _of_wide(arguments: tuple[Any, ...]) -> list[int]:
    number, width = arguments
    parts = [number + each + 1 for each in range(width)]
    return [*parts, sum(parts) + 1]


def _of_spread(arguments: tuple[Any, ...]) -> int:
    number, width = arguments
    return sum(range(number + 1, number + 1 + width))


SHAPES: tuple[Shape, ...] = (
    Shape(chain, 8, lambda r: (_number(r), r.randint(1, 12)), lambda given: given[0] + given[1]),
    Shape(wide, 3, lambda r: (_number(r), r.randint(2, 20)), _of_wide),
    Shape(retried, 4, lambda r: (_number(r), r.randint(1, 4)), lambda given: given[0] + 3),
    Shape(caught, 2, lambda r: (_number(r),), lambda given: f"FatalError after {given[0] + 1}"),
    Shape(failed, 2, lambda r: (_number(r),), lambda _: None, status="FAILED"),
    Shape(sleepy, 4, lambda r: (_number(r), round(r.uniform(0.5, 15), 1)), lambda given: given[0] + 2),
    Shape(timed_out, 1, lambda r: (_number(r),), lambda given: [given[0] + 1, "step", "timer"]),
    Shape(local, 3, lambda r: (_number(r), r.randint(2, 20)), lambda given: given[0] + given[1]),
    Shape(limited, 2, lambda r: (_number(r), r.randint(2, 12)), lambda given: given[1] * (given[0] + 1)),
    Shape(family, 2, lambda r: (_number(r), r.randint(1, 4)), lambda given: 4 * given[0] + given[1] + 2),
    Shape(revived, 2, lambda r: (_number(r),), lambda given: 2 * given[0] + 4, then="retry"),
    Shape(spread, 1, lambda r: (_number(r), r.randint(21, 50)), _of_spread),
    Shape(diamond, 2, lambda _: (), lambda _: {"first": 2, "middle": [3, 11, 101], "beside": 3, "last": 115}),
    Shape(endless, 1, lambda r: (_number(r),), lambda _: None, status="CANCELLED", then="stop"),
)
