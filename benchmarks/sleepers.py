"""A hundred thousand runs that sleep: what they cost while they do, and how fast all of them wake at one moment.

    python -m benchmarks.sleepers [--runs 100000] [--output docs/figures/sleepers.json]

Over a Redis and a PostgreSQL of its own, with a coordinator and a worker in processes of their own. All runs sleep until
the same moment, which is chosen from how fast the first of them were started.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer

from benchmarks.measure import Figures, latencies, milliseconds_of
from benchmarks.processes import cpu_seconds_of, resident_bytes_of, served_by
from benchmarks.report import surroundings
from benchmarks.stacks import STACKS, Size
from benchmarks.workloads import Bench, chain, sleeps_until
from dramaturg_coordinator.timers import HORIZON

STACK: Final = "redis-postgresql"
#: Runs that are started first, to see how fast that goes.
_FIRST: Final = 1000
_PART: Final = 5000
_SINGLE_RUNS: Final = 50
_IDLE_SECONDS: Final = 20.0
#: All have to be asleep so long before they wake: what falls due within the horizon is in memory again by then.
_MEASURING_SECONDS: Final = HORIZON.total_seconds() + _IDLE_SECONDS + 30
#: How much longer than the first ones, which meet an idle coordinator, the others may take.
_MARGIN: Final = 4.0


def measure(bench: Bench, runs: int) -> Figures:
    """Have so many runs sleep, look at them, and let them wake.

    Raises:
      RuntimeError: they were not all asleep early enough.
    """
    coordinator = served_by("coordinator")
    alone = _latencies(bench)
    rate = _first_rate(bench)
    before, begun = resident_bytes_of(coordinator), time.perf_counter()
    wakes_at = datetime.now(UTC) + timedelta(seconds=_MARGIN * runs / rate + _MEASURING_SECONDS)
    for first in range(0, runs, _PART):
        bench.client.start_many(sleeps_until, [(wakes_at,)] * min(_PART, runs - first))
    while _asleep(bench) < runs:
        if _seconds_until(wakes_at) < _MEASURING_SECONDS:
            raise RuntimeError(
                f"{_asleep(bench):,} of {runs:,} runs slept {_MEASURING_SECONDS:g} s before they are to wake"
            )
        threading.Event().wait(0.5)
    figures = {"runs": float(runs), "begun_per_second": runs / (time.perf_counter() - begun)}
    figures |= _idle(coordinator)
    held = resident_bytes_of(coordinator)
    figures |= {"coordinator_bytes": float(held), "bytes_per_run": (held - before) / runs}
    beside = _latencies(bench)
    for name in alone:
        figures |= {f"alone_{name}": alone[name], f"beside_{name}": beside[name]}
    with bench.ends.awaited(runs):
        threading.Event().wait(max(_seconds_until(wakes_at), 0))
    late = -_seconds_until(wakes_at)
    return {**figures, "all_awake_seconds": late, "woken_per_second": runs / late}


def _latencies(bench: Bench) -> Figures:
    """Runs of one step, one at a time, from the start to the result."""
    return latencies([milliseconds_of(lambda: bench.client.start(chain, 1).result(60)) for _ in range(_SINGLE_RUNS)])


def _first_rate(bench: Bench) -> float:
    """How many runs begin in a second; these end at once."""
    begun = time.perf_counter()
    with bench.ends.awaited(_FIRST):
        bench.client.start_many(sleeps_until, [(datetime.now(UTC),)] * _FIRST)
    return _FIRST / (time.perf_counter() - begun)


def _asleep(bench: Bench) -> int:
    return bench.client.count(workflow="sleeps_until", status="WAITING")


def _idle(coordinator: int) -> Figures:
    """The share of a CPU that the coordinator takes, and all processes here, while nothing happens."""
    mine, every = cpu_seconds_of(coordinator), cpu_seconds_of(os.getpid())
    threading.Event().wait(_IDLE_SECONDS)
    mine, every = cpu_seconds_of(coordinator) - mine, cpu_seconds_of(os.getpid()) - every
    return {
        "coordinator_idle_cpu_percent": mine / _IDLE_SECONDS * 100,
        "idle_cpu_percent": every / _IDLE_SECONDS * 100,
    }


def _seconds_until(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()


def main(
    runs: Annotated[int, typer.Option(min=1, help="How many sleep.")] = 100_000,
    output: Annotated[Path | None, typer.Option(help="The JSON file.")] = None,
) -> None:
    """Measure, print, and keep the figures where a file is named."""
    logging.disable(logging.WARNING)
    size = Size(processes=1, threads=8, scale=1.0)
    stack = next(each for each in STACKS if each.name == STACK)
    stack.look()
    with (
        TemporaryDirectory(prefix="dramaturg-bench-") as place,
        stack.running(Path(place), size) as running,
        running.bench() as bench,
    ):
        figures = measure(bench, runs)
    content = {
        "surroundings": surroundings(size.processes, size.threads),
        "load": os.getloadavg()[0],
        "figures": figures,
    }
    for name, value in figures.items():
        print(f"{name:30} {value:,.2f}")
    if output is not None:
        output.write_text(json.dumps(content, indent=2) + "\n")
        print(f"all figures: {output}")


if __name__ == "__main__":
    typer.run(main)
