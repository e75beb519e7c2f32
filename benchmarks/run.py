"""Measure the engine as it comes: ``python -m benchmarks.run``, in one process, and as processes over real servers.

Bare Dramatiq is measured in the same run, before the workloads of each repetition: a machine has good and bad minutes,
and only what was measured within one of them can be compared. There is no assertion on time anywhere: the run says
which targets are met and leaves it at that.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from benchmarks.baseline import NAME as BARE
from benchmarks.measure import Figures, with_flushes
from benchmarks.processes import Missing
from benchmarks.report import Results, save, show, surroundings
from benchmarks.stacks import STACKS, Running, Size, Stack
from benchmarks.workloads import WORKLOADS, Bench, Workload

RESULTS = Path(__file__).parent / "results"
PARTS = ("payloads", "store", "worker", "calls")
MESSAGES = 5000
QUICK = 0.2
WIDTH = 150

Named = TypeVar("Named", Stack, Workload)


def main(
    stack: Annotated[list[str] | None, typer.Option("--stack", "-s", help="One of them; may be repeated.")] = None,
    workload: Annotated[
        list[str] | None, typer.Option("--workload", "-w", help="One of them; may be repeated.")
    ] = None,
    repetitions: Annotated[int, typer.Option(min=1, help="How often all of it is measured; medians are shown.")] = 3,
    processes: Annotated[int, typer.Option(min=1, help="Of workers, ours and bare Dramatiq's, over Redis.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Of each worker, and of bare Dramatiq's.")] = 8,
    quick: Annotated[bool, typer.Option(help="A fifth of the work, once: to see that it runs.")] = False,
    output: Annotated[Path | None, typer.Option(help="The JSON file; the plot goes beside it.")] = None,
    parts: Annotated[bool, typer.Option(help="Measure parts alone instead: payloads, store, worker, calls.")] = False,
) -> None:
    """Measure, print tables, and keep the figures as JSON and as a plot under benchmarks/results/."""
    if parts:
        _measure_parts()
        return
    logging.disable(logging.WARNING)
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    workloads = _chosen(WORKLOADS, workload) or [each for each in WORKLOADS if not each.is_inside]
    RESULTS.mkdir(exist_ok=True)
    around = surroundings(processes, threads)
    console.print(", ".join(f"{name} {value}" for name, value in around.items()), highlight=False)
    size = Size(processes, threads, QUICK if quick else 1.0)
    every: list[Results] = []
    for each in _chosen(STACKS, stack) or STACKS:
        try:
            each.look()
        except Missing as error:
            console.print(f"SKIPPED {each.name}: {error}\n", highlight=False)
            continue
        chosen = [one for one in workloads if each.is_inside or not one.is_inside]
        repeated = [one for one in chosen if workload or not one.is_once]
        results = Results(each, _measure(each, chosen, repeated, 1 if quick else repetitions, size, console))
        show(results, chosen, console)
        every.append(results)
    path = output or RESULTS / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}.json"
    save(every, around, path)
    console.print(f"all figures: {path}\nplot: {path.with_suffix('.svg')}", highlight=False, soft_wrap=True)


def _chosen(there: Sequence[Named], names: Sequence[str] | None) -> list[Named]:
    known = {each.name: each for each in there}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise typer.BadParameter(f"there is no {unknown[0]!r}; it is one of {', '.join(known)}")
    return [each for each in there if each.name in (names or ())]


def _measure(
    stack: Stack,
    workloads: Sequence[Workload],
    repeated: Sequence[Workload],
    repetitions: int,
    size: Size,
    console: Console,
) -> dict[str, list[Figures]]:
    measured: dict[str, list[Figures]] = defaultdict(list)
    with (
        TemporaryDirectory(dir=RESULTS if stack.is_inside else None, prefix="dramaturg-bench-") as place,
        console.status("") as status,
        stack.running(Path(place), size) as running,
    ):
        for number in range(repetitions):
            status.update(f"{stack.name}, {number + 1} of {repetitions}: bare Dramatiq")
            messages = round(MESSAGES * size.scale)
            measured[BARE].append(with_flushes(Path(place), partial(running.bare, messages)))
            for each, bench in _benches(stack, running, repeated if number else workloads):
                status.update(f"{stack.name}, {number + 1} of {repetitions}: {each.name}, {each.title}")
                with bench as one:
                    measured[each.name].append(with_flushes(Path(place), partial(each.measure, one)))
    return measured


def _benches(
    stack: Stack, running: Running, workloads: Sequence[Workload]
) -> Iterator[tuple[Workload, AbstractContextManager[Bench]]]:
    """A new database for each workload; where processes serve it, one for all of a repetition."""
    if stack.is_inside:
        for each in workloads:
            yield each, running.bench()
        return
    with running.bench() as bench:
        for each in workloads:
            yield each, nullcontext(bench)


def _measure_parts() -> None:
    for part in PARTS:
        print(f"== benchmarks.{part}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{part}"], check=True)


if __name__ == "__main__":
    typer.run(main)
