"""Clocks, and figures from what they say."""

from __future__ import annotations

import gc
import os
import resource
import statistics
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from dramaturg_protocol.records import RunWrites

#: What one measurement says, by the names below.
Figures: TypeAlias = dict[str, float]

PER_SECOND = "per_second"
FLUSH = "flush_ms"
CPU = "cpu_seconds_per_1000"
P50, P95 = "p50_ms", "p95_ms"
LAST_TO_FIRST = "last_to_first"
LAST_TO_FIRST_CPU = "last_to_first_cpu"
STARTS = "starts_per_second"
STARTS_BESIDE = "starts_per_second_beside_engine"
GROWTH = "grown_bytes_per_step"
BYTES_PER_RUN = "bytes_per_run"
IDLE_CPU = "idle_cpu_percent"
COMMITS = "commits_per_unit"
DATABASE_COMMITS = "database_commits_per_unit"
WAL_BYTES = "wal_bytes_per_unit"
LOAD = "load"
#: Milliseconds per step in each twentieth of a long run: `ms_of_part(0)` to `ms_of_part(PARTS_OF_RUN - 1)`.
PARTS_OF_RUN = 20


class Stopwatch:
    """Seconds of the wall clock and of the CPU since it was made; user and system time of all threads.

    Parameters:
      cpu: what was used so far; by default by this process.
      counts: what was counted so far, by the name of the figure for one unit of work.
    """

    def __init__(
        self, cpu: Callable[[], float] | None = None, counts: Callable[[], Mapping[str, float]] | None = None
    ) -> None:
        # What was left by the measurement before is not this one's affair.
        gc.collect()
        self._counts = counts or dict[str, float]
        self._counted = self._counts()
        self._used = cpu or cpu_seconds
        self._cpu = self._used()
        self._begun = time.perf_counter()

    def figures(self, count: int) -> Figures:
        """What it cost to do so many of something."""
        seconds, cpu = time.perf_counter() - self._begun, self._used() - self._cpu
        figures = {PER_SECOND: count / seconds, CPU: cpu / count * 1000}
        return figures | {name: (now - self._counted[name]) / count for name, now in self._counts().items()}


def cpu_seconds() -> float:
    """What this process has used so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident_bytes() -> int:
    """Memory that this process has now, without what nothing refers to any more."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def latencies(milliseconds: Sequence[float]) -> Figures:
    """Median and 95th percentile."""
    return {P50: statistics.median(milliseconds), P95: statistics.quantiles(milliseconds, n=20)[18]}


def medians(repetitions: Sequence[Mapping[str, float]]) -> Figures:
    """The median of each figure."""
    return {name: statistics.median(each[name] for each in repetitions) for name in repetitions[0]}


def milliseconds_of(work: Callable[[], object]) -> float:
    """How long a call takes."""
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def flush_times(folder: Path) -> list[float]:
    """How long the disk takes to make 8 KiB durable, in milliseconds, twenty-five times."""
    path = folder / "flush"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        return [milliseconds_of(lambda: _flush(descriptor)) for _ in range(25)]
    finally:
        os.close(descriptor)
        path.unlink()


def with_flushes(folder: Path, measure: Callable[[], Figures]) -> Figures:
    """Figures, and beside them what a flush took just before and just after: a disk has good and bad minutes too."""
    before = flush_times(folder)
    figures = measure()
    return {**figures, FLUSH: statistics.median([*before, *flush_times(folder)]), LOAD: os.getloadavg()[0]}


def ms_of_part(number: int) -> str:
    """The name of the figure for one part of a long run."""
    return f"ms_of_part_{number:02}"


def _flush(descriptor: int) -> None:
    os.write(descriptor, b"x" * 8192)
    os.fdatasync(descriptor)


class Ends:
    """Counts the runs that end: an observer of the coordinator, so that waiting asks the database nothing.

    Attributes:
      commits: how many there were.
      cpu: what the process had used after each commit since somebody last began to wait.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._count = 0
        self.commits = 0
        self.cpu: list[float] = []

    def committed(self, writes: Sequence[RunWrites]) -> None:
        """A turn was committed."""
        self.commits += 1
        self.cpu.append(cpu_seconds())
        ended = sum(each.is_closed for each in writes)
        if ended:
            with self._condition:
                self._count += ended
                self._condition.notify_all()

    @contextmanager
    def awaited(self, count: int, timeout: float = 300.0) -> Generator[None, None, None]:
        """Leave the block when so many runs have ended since it was entered."""
        with self._condition:
            wanted = self._count + count
            self.cpu.clear()
        yield
        with self._condition:
            if not self._condition.wait_for(lambda: self._count >= wanted, timeout):
                raise TimeoutError(f"{wanted - self._count} of {count} runs are still open after {timeout:g} s")
