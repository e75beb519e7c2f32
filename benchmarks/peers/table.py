"""The table of a folder of figures: ours, and those of every peer that was measured or could not be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers.systems import SYSTEMS

OURS = "dramaturg"
HEAD = ("system", "W1 /s", "W2 /s", "W3 ms p50 · p95", "W4 /s", "W5 /s", "CPU s per 1,000, W1", "besides")


def rows(place: Path) -> Iterator[tuple[str, ...]]:
    """The table of a folder of figures, a row for each system that was measured or could not be."""
    ours = place / f"{OURS}.json"
    if ours.exists():
        results = json.loads(ours.read_text(encoding="utf-8"))["stacks"]["redis-postgresql"]["results"]
        figures = {name: each["median"] for name, each in results.items()}
        bare = figures["bare"]
        yield _row("bare Dramatiq, messages", {"W1": bare}, "no workflow")
        yield _row("**Dramaturg**, fleet steps, PostgreSQL", figures, "durable; any worker")
        local = {name.removesuffix(" local"): each for name, each in figures.items() if name.endswith(" local")}
        yield _row(
            "**Dramaturg**, local steps, PostgreSQL",
            local,
            "durable; in the coordinator; steps share commits: a crash may repeat the last few",
        )
    for system in SYSTEMS:
        path = place / f"{system.name}.json"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            durable = "durable" if found["durable"] == "yes" else "not durable"
            said = [durable, found["kind"], found["note"], found["problem"].splitlines()[0] if found["problem"] else ""]
            version = next(iter(found.get("versions", {}).values()), "")
            yield _row(f"{found['title']} {version}".strip(), found["figures"], "; ".join(filter(None, said)))


def _row(title: str, figures: dict[str, Any], besides: str) -> tuple[str, ...]:
    def rate(name: str) -> str:
        value = figures.get(name, {}).get("per_second")
        return "–" if value is None else f"{value:,.0f}"

    latency = figures.get("W3", {})
    milliseconds = f"{latency['p50_ms']:.1f} · {latency['p95_ms']:.1f}" if latency else "–"
    cpu = figures.get("W1", {}).get("cpu_seconds_per_1000")
    return (
        title,
        rate("W1"),
        rate("W2"),
        milliseconds,
        rate("W4"),
        rate("W5"),
        "–" if cpu is None else f"{cpu:.2f}",
        besides,
    )
