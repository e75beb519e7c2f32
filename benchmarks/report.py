"""What was measured, for people and as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import plot
from benchmarks.baseline import NAME as BARE
from benchmarks.measure import (
    BYTES_PER_RUN,
    COMMITS,
    CPU,
    DATABASE_COMMITS,
    FLUSH,
    GROWTH,
    IDLE_CPU,
    LAST_TO_FIRST,
    LAST_TO_FIRST_CPU,
    LOAD,
    P50,
    P95,
    PARTS_OF_RUN,
    PER_SECOND,
    STARTS,
    STARTS_BESIDE,
    WAL_BYTES,
    Figures,
    medians,
    ms_of_part,
)
from benchmarks.stacks import Stack
from benchmarks.workloads import Workload

_PACKAGES = ("dramaturg", "dramatiq", "redis", "sqlalchemy", "psycopg", "pydantic")


@dataclass(frozen=True, slots=True)
class Target:
    """What a stack is to reach, on whatever machine.

    Attributes:
      is_ceiling: the figure is to stay at or below the limit; otherwise at or above it.
      is_ratio: it is the figure against bare Dramatiq's that counts.
    """

    workload: str
    figure: str
    limit: float
    text: str
    is_ceiling: bool = True
    is_ratio: bool = False

    def is_met(self, value: float) -> bool:
        """Whether a figure is good enough."""
        return value <= self.limit if self.is_ceiling else value >= self.limit


_FLAT = Target("W4", LAST_TO_FIRST, 1.2, "the last 200 of 2,000 steps take at most 1.2 times the first 200")
_ONE_BY_ONE = Target(
    "W5", STARTS, 1000, "one thread starts at least 1,000 runs a second one by one, each durable", is_ceiling=False
)
_LOCAL = (
    Target("W3 local", P50, 1.0, "a local step takes at most 1 ms when nothing else runs"),
    Target("W4 local", PER_SECOND, 3000, "at least 3,000 local steps a second, one after the other", False),
)
INSIDE = (
    Target("W3", P50, 2.0, "a step takes at most 2 ms when nothing else runs"),
    _FLAT,
    _ONE_BY_ONE,
    *_LOCAL,
    Target("growth", GROWTH, 20, "memory does not grow with the steps that were done: at most 20 bytes for each"),
    Target("sleepers", BYTES_PER_RUN, 8192, "a sleeping run takes at most 8 KiB"),
    Target("sleepers", IDLE_CPU, 2.0, "10,000 sleeping runs take at most 2 % of a CPU"),
)
OVER_REDIS = (
    Target("W1", PER_SECOND, 2.0, "twice as many steps a second as bare Dramatiq has messages", False, True),
    Target("W1", CPU, 0.9, "at most 0.9 times the CPU of bare Dramatiq's messages", is_ratio=True),
    Target("W1", COMMITS, 0.05, "at most 0.05 commits for a step"),
    Target("W2", PER_SECOND, 1.5, "1.5 times as many steps a second as bare Dramatiq has messages", False, True),
    Target("W3", P50, 4.5, "a step takes at most 4.5 ms when nothing else runs"),
    Target("W4", PER_SECOND, 300, "at least 300 steps a second, one after the other", False),
    _FLAT,
    Target("W5", PER_SECOND, 1.25, "1.25 times as many runs a second as bare Dramatiq has messages", False, True),
    _ONE_BY_ONE,
    Target("W1 local", PER_SECOND, 3.0, "three times as many local steps a second as bare messages", False, True),
    *_LOCAL,
)


@dataclass(frozen=True, slots=True)
class Results:
    """Figures of every repetition on a stack, by workload; bare Dramatiq is one of them."""

    stack: Stack
    repetitions: Mapping[str, Sequence[Figures]]

    def of(self, name: str) -> Figures:
        """The medians of a workload."""
        return medians(self.repetitions[name])

    def ratio(self, name: str, figure: str) -> float:
        """A figure against bare Dramatiq's: the median of the ratios within each repetition."""
        # What is measured once only was so in the first repetition.
        pairs = zip(self.repetitions[name], self.repetitions[BARE], strict=False)
        return medians([{figure: ours[figure] / bare[figure]} for ours, bare in pairs])[figure]

    def cost_along_run(self) -> list[float]:
        """Milliseconds per step in each part of a long run."""
        figures = self.of("W4") if "W4" in self.repetitions else {}
        return [figures[ms_of_part(number)] for number in range(PARTS_OF_RUN)] if figures else []

    def verdicts(self) -> list[tuple[Target, float, bool]]:
        """The targets that were measured, with the figure, and whether it is good enough."""
        targets = INSIDE if self.stack.is_inside else OVER_REDIS
        measured = [target for target in targets if target.workload in self.repetitions]
        values = [self._value(target) for target in measured]
        return [(target, value, target.is_met(value)) for target, value in zip(measured, values, strict=True)]

    def _value(self, target: Target) -> float:
        if target.is_ratio:
            return self.ratio(target.workload, target.figure)
        return self.of(target.workload)[target.figure]


def surroundings(processes: int, threads: int) -> dict[str, str]:
    """The machine and the versions."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "machine": f"{os.cpu_count()} × {_processor()}, {platform.system()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **versions,
        "worker": f"{processes} × {threads} threads",
    }


def show(results: Results, workloads: Sequence[Workload], console: Console) -> None:
    """Print table and verdicts of a stack."""
    console.print(_table(results, workloads))
    for target, value, is_met in results.verdicts():
        verdict = "[green]PASS[/]       " if is_met else "[red]FALLS SHORT[/]"
        console.print(f"{verdict} {target.workload}: {target.text}: {_number(value)}", highlight=False)
    console.print()


def save(every: Sequence[Results], around: Mapping[str, str], path: Path) -> None:
    """Write everything, every repetition too, as JSON, and draw it beside."""
    stacks = {results.stack.name: _content(results) for results in every}
    path.write_text(json.dumps({"surroundings": dict(around), "stacks": stacks}, indent=2) + "\n")
    names = ("W1", "W1x", "W2", "W3", "W4", "W5", "W1 local", "W4 local")
    ratios = {
        results.stack.name: {name: results.ratio(name, PER_SECOND) for name in names if name in results.repetitions}
        for results in every
    }
    costs = {results.stack.name: results.cost_along_run() for results in every}
    plot.write(path.with_suffix(".svg"), ratios, {name: each for name, each in costs.items() if each})


def _content(results: Results) -> dict[str, Any]:
    measured: dict[str, Any] = {
        name: {"median": results.of(name), "repetitions": list(each)} for name, each in results.repetitions.items()
    }
    for name, each in measured.items():
        each["ratio_to_bare"] = {figure: results.ratio(name, figure) for figure in (PER_SECOND, CPU)}
    verdicts = [
        {"target": target.text, "workload": target.workload, "value": value, "passes": is_met}
        for target, value, is_met in results.verdicts()
    ]
    return {"results": measured, "targets": verdicts}


def _table(results: Results, workloads: Sequence[Workload]) -> Table:
    table = Table(
        title=f"{results.stack.name}: {results.stack.title}",
        title_justify="left",
        caption="B is bare Dramatiq in the same run: a null actor, the same broker, default settings.\n"
        "flush: what the disk took to make 8 KiB durable, just before and after; W3 and W4 wait for one at each step",
    )
    table.add_column("")
    table.add_column("what")
    for title in ("a second", "× B", "ms p50 · p95", "CPU s per 1,000", "× B", "flush ms", "load"):
        table.add_column(title, justify="right")
    table.add_column("besides")
    titles = {BARE: "one actor, no workflow (messages)"}
    titles |= {each.name: f"{each.title} ({each.unit})" for each in workloads}
    for name, title in titles.items():
        figures = results.of(name)
        is_bare = name == BARE
        table.add_row(
            "B" if is_bare else name,
            title,
            _number(figures[PER_SECOND]),
            "" if is_bare else f"{results.ratio(name, PER_SECOND):.2f}",
            f"{figures[P50]:.2f} · {figures[P95]:.2f}" if P50 in figures else "",
            f"{figures[CPU]:.3f}",
            "" if is_bare else f"{results.ratio(name, CPU):.2f}",
            f"{figures[FLUSH]:.2f}",
            f"{figures[LOAD]:.1f}",
            _besides(figures),
        )
    return table


def _besides(figures: Figures) -> str:
    texts = {
        COMMITS: "{} commits each",
        DATABASE_COMMITS: "{} of the database",
        WAL_BYTES: "{} bytes of log",
        LAST_TO_FIRST: "last 200 ÷ first 200: {}",
        LAST_TO_FIRST_CPU: "in CPU: {}",
        STARTS: "one by one: {} starts a second",
        STARTS_BESIDE: "{} beside the engine",
        GROWTH: "{} bytes more a step",
        BYTES_PER_RUN: "{} bytes a run",
        IDLE_CPU: "{} % of a CPU",
    }
    return ", ".join(text.format(_number(figures[name])) for name, text in texts.items() if name in figures)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
