"""Write the tables of docs/performance.md from the figures that are kept beside it: `python docs/make_performance.py`.

`make bench` and `make bench-peers` write such files; those in `docs/figures/` are the ones that the page shows.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import regions

from benchmarks.peers import table

SCRIPT: Final = "make_performance.py"

Figures: TypeAlias = Mapping[str, float]

_FIGURES: Final = regions.HERE / "figures"
_BENCH: Final = _FIGURES / "bench.json"
_CALLS: Final = _FIGURES / "calls.json"
_PEERS: Final = _FIGURES / "peers"
_SLEEPERS: Final = _FIGURES / "sleepers.json"
_NOT_TAKEN: Final = "No figures are kept."


def stacks() -> str:
    """What `make bench` measured, a column for each stack."""
    if not _BENCH.exists():
        return _NOT_TAKEN
    content = json.loads(_BENCH.read_text(encoding="utf-8"))
    names = list(content["stacks"])
    every = [content["stacks"][name]["results"] for name in names]
    lines = ["| | " + " | ".join(names) + " |", "| --- " * (len(names) + 1) + "|"]
    for title, workload, text in _ROWS:
        cells = [
            text(each[workload]["median"], each[workload]["ratio_to_bare"]) if workload in each else "–"
            for each in every
        ]
        if any(cell not in ("", "–") for cell in cells):
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    around = ", ".join(f"{name} {value}" for name, value in content["surroundings"].items())
    return f"Taken on: {around}. {_load_of(every)}\n\n" + "\n".join(lines)


def targets() -> str:
    """Which of the figures are good enough, and which are not."""
    if not _BENCH.exists():
        return _NOT_TAKEN
    content = json.loads(_BENCH.read_text(encoding="utf-8"))
    lines = ["| to reach | " + " | ".join(content["stacks"]) + " |", "| --- " * (len(content["stacks"]) + 1) + "|"]
    found: dict[str, dict[str, str]] = {}
    for stack, each in content["stacks"].items():
        for target in each["targets"]:
            verdict = (
                f"**{_number(target['value'])}**" if target["passes"] else f"{_number(target['value'])}, falls short"
            )
            found.setdefault(f"{target['workload']}: {target['target']}", {})[stack] = verdict
    lines += [
        f"| {title} | " + " | ".join(cells.get(stack, "") for stack in content["stacks"]) + " |"
        for title, cells in found.items()
    ]
    return "\n".join(lines)


def peers() -> str:
    """What `make bench-peers` measured, a row for each system."""
    found = [f"| {' | '.join(row)} |" for row in table.rows(_PEERS)]
    read = [json.loads(path.read_text(encoding="utf-8")) for path in _PEERS.glob("*.json")]
    loads = [each["load"] for each in read if "load" in each]
    if loads:
        found.append(f"\nThe load average beside the peers was {min(loads):.1f} to {max(loads):.1f}.")
    return (
        "\n".join([f"| {' | '.join(table.HEAD)} |", "| --- " * len(table.HEAD) + "|", *found]) if found else _NOT_TAKEN
    )


def sleepers() -> str:
    """What `python -m benchmarks.sleepers` measured."""
    if not _SLEEPERS.exists():
        return _NOT_TAKEN
    content = json.loads(_SLEEPERS.read_text(encoding="utf-8"))
    figures = content["figures"]
    rows = (
        ("runs that sleep", f"{figures['runs']:,.0f}"),
        ("asleep, runs/s from the first start to the last", _number(figures["begun_per_second"])),
        ("memory of the coordinator, MiB", _number(figures["coordinator_bytes"] / 2**20)),
        ("grown by, bytes for each run", _number(figures["bytes_per_run"])),
        ("CPU of the coordinator, % of one", _number(figures["coordinator_idle_cpu_percent"])),
        ("CPU of all processes, servers too, % of one", _number(figures["idle_cpu_percent"])),
        ("a new run of one step, ms, p50 · p95: none beside", _two(figures, "alone")),
        ("a new run of one step, ms, p50 · p95: beside all that sleep", _two(figures, "beside")),
        ("all awake and ended after the moment, s", _number(figures["all_awake_seconds"])),
        ("runs/s that wake and end", _number(figures["woken_per_second"])),
    )
    lines = ["| | |", "| --- | --- |", *(f"| {title} | {cell} |" for title, cell in rows)]
    around = ", ".join(f"{name} {value}" for name, value in content["surroundings"].items())
    return f"Taken on: {around}. The load average was {content['load']:.1f} in the end.\n\n" + "\n".join(lines)


def _two(figures: Figures, kind: str) -> str:
    return f"{figures[f'{kind}_p50_ms']:.1f} · {figures[f'{kind}_p95_ms']:.1f}"


def calls() -> str:
    """What `benchmarks.calls` counted, a row for each time that it was kept."""
    if not _CALLS.exists():
        return _NOT_TAKEN
    kept = json.loads(_CALLS.read_text(encoding="utf-8"))
    names = list(next(iter(kept.values()))["calls"])
    lines = ["| calls a step | python | " + " | ".join(names) + " |", "| --- " * (len(names) + 2) + "|"]
    for label, counted in kept.items():
        cells = [f"{counted['calls'][name]:,.0f}" for name in names]
        lines.append(f"| {label} | {counted['python']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _load_of(every: list[Mapping[str, Mapping[str, Figures]]]) -> str:
    loads = [each["median"]["load"] for results in every for each in results.values()]
    return f"The load average was {min(loads):.1f} to {max(loads):.1f}, the run's own included, its median {statistics.median(loads):.1f}."


def _rate(figures: Figures, ratio: Figures) -> str:
    return f"{_number(figures['per_second'])} ({ratio['per_second']:.2f})"


def _times(figures: Figures, _: Figures) -> str:
    return f"{figures['p50_ms']:.2f} · {figures['p95_ms']:.2f}"


def _of(*names: str) -> Callable[[Figures, Figures], str]:
    return lambda figures, _: " · ".join(_number(figures[name]) for name in names if name in figures)


_ROWS: Final[Sequence[tuple[str, str, Callable[[Figures, Figures], str]]]] = (
    ("B, messages/s · CPU s per 1,000", "bare", _of("per_second", "cpu_seconds_per_1000")),
    ("W1, steps/s (× B)", "W1", _rate),
    ("W1x, steps/s (× B)", "W1x", _rate),
    ("W2, steps/s (× B)", "W2", _rate),
    ("W3, ms a step, p50 · p95", "W3", _times),
    ("bare Dramatiq, ms for one message, p50 · p95", "bare", _times),
    ("W4, steps/s", "W4", _of("per_second")),
    ("W4, last 200 ÷ first 200, time", "W4", _of("last_to_first")),
    ("W5, runs/s (× B)", "W5", _rate),
    (
        "starts one by one, a second · beside the engine",
        "W5",
        _of("starts_per_second", "starts_per_second_beside_engine"),
    ),
    ("W1 local, steps/s (× B)", "W1 local", _rate),
    ("W3 local, ms a step, p50 · p95", "W3 local", _times),
    ("W4 local, steps/s", "W4 local", _of("per_second")),
    (
        "W1, CPU s per 1,000 · × B",
        "W1",
        lambda figures, ratio: f"{figures['cpu_seconds_per_1000']:.2f} · {ratio['cpu_seconds_per_1000']:.1f}",
    ),
    ("commits of the coordinator for a step, W1", "W1", _of("commits_per_unit")),
    ("commits of the database for a step, W1", "W1", _of("database_commits_per_unit")),
    ("bytes of write-ahead log for a step, W1", "W1", _of("wal_bytes_per_unit")),
    ("flush beside W3, ms", "W3", _of("flush_ms")),
)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


PAGES: Final[Mapping[str, regions.Parts]] = {
    "performance.md": {"stacks": stacks, "targets": targets, "peers": peers, "sleepers": sleepers, "calls": calls},
}

if __name__ == "__main__":
    regions.write(SCRIPT, PAGES)
