"""The work that every peer does, and how it is measured; plain Python, since it runs in each peer's environment.

A program gives `measure` a peer: how it runs chains and a fan-out to their ends. Each figure is a line of JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

_TICKS = os.sysconf("SC_CLK_TCK")


class Peer(Protocol):
    def chains(self, runs: int, length: int) -> None:
        """Start so many workflows of null steps in sequence, and wait until all have ended, with right results."""

    def fan_out(self, width: int) -> None:
        """One workflow of null steps side by side, and a join."""


#: How many runs of how many steps; a program says where its peer needs less.
SIZES: dict[str, tuple[int, int]] = {"W1": (200, 10), "W2": (1, 1000), "W3": (20, 10), "W4": (1, 2000), "W5": (2000, 1)}


def measure(peer: Peer, **smaller: tuple[int, int]) -> None:
    """Do all the work and print the figures."""
    scale = float(os.environ.get("PEER_SCALE", "1"))
    sizes = {name: _scaled(name, *size, scale) for name, size in {**SIZES, **smaller}.items()}
    peer.chains(10, 5)
    peer.fan_out(10)
    for name, (runs, length) in sizes.items():
        if name == "W3":
            times = [_seconds(partial(peer.chains, 1, length)) * 1000 / length for _ in range(runs)]
            figures = {"p50_ms": statistics.median(times), "p95_ms": statistics.quantiles(times, n=20)[18]}
            _say(name, runs * length, figures)
            continue
        work = partial(peer.fan_out, length) if name == "W2" else partial(peer.chains, runs, length)
        used, seconds = cpu_seconds(), _seconds(work)
        count = runs * length
        cpu = (cpu_seconds() - used) / count * 1000
        _say(name, count, {"per_second": count / seconds, "cpu_seconds_per_1000": cpu})


def _scaled(name: str, runs: int, length: int, scale: float) -> tuple[int, int]:
    """A smaller size: fewer runs, or a shorter one where there is only one."""
    if name in ("W2", "W4"):
        return runs, max(round(length * scale), 10)
    return max(round(runs * scale), 5), length


def cpu_seconds() -> float:
    """What this process, its children and the servers that were named to it have used."""
    servers = [int(pid) for pid in os.environ.get("PEER_SERVERS", "").split()]
    return sum(_cpu_of_tree(pid) for pid in (os.getpid(), *servers))


def wait_until(is_done: Callable[[], Any], timeout: float = 120.0, period: float = 0.005) -> None:
    """Ask again and again."""
    due = time.monotonic() + timeout
    while not is_done():
        if time.monotonic() > due:
            raise TimeoutError("the peer does not come to an end")
        time.sleep(period)


def _say(name: str, count: int, figures: dict[str, float]) -> None:
    print(json.dumps({"workload": name, "size": count, **figures}), flush=True)


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _cpu_of_tree(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [child for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS + sum(_cpu_of_tree(int(child)) for child in children)
