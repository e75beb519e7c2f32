"""The work that is measured: also the module that coordinators and workers of a stack serve."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from benchmarks.measure import (
    BYTES_PER_RUN,
    GROWTH,
    IDLE_CPU,
    LAST_TO_FIRST,
    LAST_TO_FIRST_CPU,
    PARTS_OF_RUN,
    STARTS,
    STARTS_BESIDE,
    Figures,
    Stopwatch,
    cpu_seconds,
    latencies,
    milliseconds_of,
    ms_of_part,
    resident_bytes,
)
from dramaturg import Client, Handle, Settings, Workflow, sleep, step, workflow


@step
def null(value: int) -> int:
    """The least that a step can do."""
    return value + 1


@workflow
async def chain(length: int) -> int:
    """Steps one after the other, each with the result of the one before."""
    value = 0
    for _ in range(length):
        value = await null(value)
    return value


@step(local=True)
def null_here(value: int) -> int:
    """The same beside the workflow, in the coordinator."""
    return value + 1


@workflow
async def local_chain(length: int) -> int:
    """As `chain`, with steps in the coordinator."""
    value = 0
    for _ in range(length):
        value = await null_here(value)
    return value


@workflow
async def fan_out(width: int) -> int:
    """Steps side by side, and a join."""
    return sum(await asyncio.gather(*[null(0) for _ in range(width)]))


@workflow
async def sleeper(seconds: float) -> int:
    """One step, and then nothing for long."""
    value = await null(0)
    await sleep(seconds)
    return value


@workflow
async def sleeps_until(moment: datetime) -> None:
    """Nothing, until then."""
    await sleep(moment)


class Awaited(Protocol):
    """Waits for ends of runs without asking the database.

    Attributes:
      cpu: what was used after each commit since the last wait began; empty where it is not known.
    """

    cpu: list[float]

    def awaited(self, count: int) -> AbstractContextManager[None]:
        """Leave the block when so many runs have ended since it was entered."""
        ...


@dataclass(frozen=True, slots=True)
class Bench:
    """A running stack that nobody else uses.

    Attributes:
      apart: settings of a database, or a namespace, that no coordinator serves.
      watch: begins to measure all of its processes.
      scale: what part of the work is done: 1 for all of it.
    """

    client: Client
    apart: Settings
    ends: Awaited
    watch: Callable[[], Stopwatch]
    scale: float

    def size(self, full: int) -> int:
        """So many, or fewer where the run is to be quick."""
        return max(round(full * self.scale), 1)


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of work.

    Attributes:
      title: what is done.
      unit: what is counted in a second.
      measure: does it once, and gives its figures.
      is_once: measured in the first repetition only, unless asked for by name.
      is_inside: looks into the engine's process, so only where that is this one, and only when asked for by name.
    """

    name: str
    title: str
    unit: str
    measure: Callable[[Bench], Figures]
    is_once: bool = False
    is_inside: bool = False


def warm_up(bench: Bench) -> None:
    """Have code and tables loaded."""
    run_chains(bench, 20, 5)


def many_chains(bench: Bench, runs: int, wf: Workflow[[int], int] = chain) -> Figures:
    """Many runs at once of ten steps each; from the first start to the last end."""
    watch = bench.watch()
    handles = run_chains(bench, runs, 10, wf)
    figures = watch.figures(runs * 10)
    _expect(handles, 10)
    return figures


def wide_fan_out(bench: Bench) -> Figures:
    """One run with many steps at once."""
    width = bench.size(1000)
    watch = bench.watch()
    with bench.ends.awaited(1):
        handle = bench.client.start(fan_out, width)
    figures = watch.figures(width)
    _expect([handle], width)
    return figures


def latency(bench: Bench, wf: Workflow[[int], int] = chain) -> Figures:
    """Runs of ten steps, each alone, as whoever waits for the result sees it: start and end are in the time."""
    runs = max(bench.size(20), 5)
    watch = bench.watch()
    times = [milliseconds_of(lambda: bench.client.start(wf, 10).result(60)) / 10 for _ in range(runs)]
    return {**watch.figures(runs * 10), **latencies(times)}


def long_history(bench: Bench, wf: Workflow[[int], int] = chain) -> Figures:
    """One run of many steps; what the last tenth takes against what the first tenth took, by the events' own times,
    and in CPU, which a slow moment of the disk does not change: each step has a commit of its own.
    """
    length = bench.size(2000)
    watch = bench.watch()
    with bench.ends.awaited(1):
        handle = bench.client.start(wf, length)
    figures, cpu = watch.figures(length), list(bench.ends.cpu)
    _expect([handle], length)
    if wf is not chain:
        # Local steps share commits, and those of one commit have one time.
        return figures
    ends = [event.time for event in handle.events() if event.type == "step.completed"]
    tenth, part = length // 10, length // PARTS_OF_RUN
    figures[LAST_TO_FIRST] = _seconds(ends[-tenth - 1 :]) / _seconds(ends[: tenth + 1])
    for number in range(PARTS_OF_RUN):
        of_part = ends[number * part : (number + 1) * part]
        figures[ms_of_part(number)] = _seconds(of_part) / (part - 1) * 1000
    if cpu:
        figures[LAST_TO_FIRST_CPU] = (cpu[-1] - cpu[-tenth - 1]) / (cpu[tenth] - cpu[0])
    return figures


def many_starts(bench: Bench) -> Figures:
    """Runs of one step, started hundreds in a commit; then durable starts one by one, while the engine in the same
    process runs them, and where nobody does."""
    runs = bench.size(2000)
    watch = bench.watch()
    handles = run_chains(bench, runs, 1)
    figures = watch.figures(runs)
    _expect(handles, 1)
    singles = bench.size(500)
    with bench.ends.awaited(singles):
        beside = _starts_per_second(bench.client, singles)
    with Client(bench.apart) as client:
        return {**figures, STARTS_BESIDE: beside, STARTS: _starts_per_second(client, singles)}


def _starts_per_second(client: Client, count: int) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        client.start(chain, 1)
    return count / (time.perf_counter() - begun)


def growth(bench: Bench) -> Figures:
    """What memory grows by for each step, once what is kept on purpose is full: pydantic keeps the last 16,384 texts
    that it decoded, and each start brings one.
    """
    warm, runs = bench.size(17_000), bench.size(5000)
    run_chains(bench, warm, 1)
    before = resident_bytes()
    watch = bench.watch()
    for _ in range(10):
        run_chains(bench, runs // 10, 10)
    figures = watch.figures(runs * 10)
    return {**figures, GROWTH: (resident_bytes() - before) / (runs * 10)}


def sleepers(bench: Bench) -> Figures:
    """Runs that sleep for a month: the memory of each, and the CPU that all of them take while they do."""
    runs = bench.size(10_000)
    before = resident_bytes()
    watch = bench.watch()
    bench.client.start_many(sleeper, [(30 * 86_400.0,)] * runs)
    while bench.client.count(workflow="sleeper", status="WAITING") < runs:
        time.sleep(0.1)
    figures = watch.figures(runs)
    held = resident_bytes() - before
    cpu, seconds = cpu_seconds(), 10.0
    time.sleep(seconds)
    return {**figures, BYTES_PER_RUN: held / runs, IDLE_CPU: (cpu_seconds() - cpu) / seconds * 100}


def run_chains(bench: Bench, runs: int, length: int, wf: Workflow[[int], int] = chain) -> list[Handle[int]]:
    with bench.ends.awaited(runs):
        return bench.client.start_many(wf, [(length,)] * runs)


def _expect(handles: Sequence[Handle[int]], value: int) -> None:
    wrong = [handle for handle in handles if handle.result(10) != value]
    if wrong:
        raise RuntimeError(f"{len(wrong)} of {len(handles)} runs have a wrong result, the first is {wrong[0]}")


def _seconds(moments: Sequence[datetime]) -> float:
    return (moments[-1] - moments[0]).total_seconds()


WORKLOADS = (
    Workload("W1", "200 runs at once, 10 steps each", "steps", lambda bench: many_chains(bench, bench.size(200))),
    Workload(
        "W1x",
        "2,000 runs at once, 10 steps each",
        "steps",
        lambda bench: many_chains(bench, bench.size(2000)),
        is_once=True,
    ),
    Workload("W2", "1 run, 1,000 steps side by side", "steps", wide_fan_out),
    Workload("W3", "1 run of 10 steps, nothing else, 20 times", "steps", latency),
    Workload("W4", "1 run of 2,000 steps", "steps", long_history, is_once=True),
    Workload("W5", "2,000 runs of one step", "runs", many_starts),
    Workload(
        "W1 local",
        "W1 with local steps",
        "steps",
        lambda bench: many_chains(bench, bench.size(200), local_chain),
    ),
    Workload("W3 local", "W3 with local steps", "steps", lambda bench: latency(bench, local_chain)),
    Workload("W4 local", "W4 with local steps", "steps", lambda bench: long_history(bench, local_chain), is_once=True),
    Workload("growth", "50,000 steps, memory before and after", "steps", growth, is_inside=True),
    Workload("sleepers", "10,000 runs that sleep for a month", "runs", sleepers, is_inside=True),
)
