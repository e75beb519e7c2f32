"""What a commit costs: one step alone, and each of two hundred that share one.

    python benchmarks/store.py [URL]

Without a URL: a SQLite file in the current folder, WAL, ``synchronous=FULL``, removed at the end.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from statistics import median, quantiles

from dramaturg_protocol.events import HistoryEvent, RunStarted, StepCompleted, StepScheduled
from dramaturg_protocol.ids import new_run_id
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import Lease, RunRecord, RunWrites, StartOrder, WorkItem, WorkKind
from dramaturg_store.database import Database

NOW = datetime.now(UTC)
RUNS = 1000
MESSAGE = "m" * 400
VALUE = Payload('{"cents":1250}')


def microseconds(call: Callable[[], object]) -> tuple[float, float]:
    """By the clock, and of this process's CPU: a server's is not in it."""
    begun, used = time.perf_counter(), time.process_time()
    call()
    return (time.perf_counter() - begun) * 1e6, (time.process_time() - used) * 1e6


def record(run_id: str, partition: int, last_event: int) -> RunRecord:
    return RunRecord(run_id, "dramatiq", partition, run_id, "checkout", 1, "RUNNING", 1, last_event, "{}", NOW, NOW)


def started(run_id: str, partition: int) -> RunWrites:
    events = [
        HistoryEvent(1, NOW, RunStarted(f"start {run_id}", run_id, "checkout", 1, VALUE)),
        HistoryEvent(2, NOW, StepScheduled(1, "charge", VALUE, "default")),
    ]
    work = [WorkItem(run_id, 1, 1, partition, WorkKind.STEP, None, 1, MESSAGE)]
    return RunWrites(run_id, record(run_id, partition, 2), is_new=True, events=events, work=work)


def stepped(run_id: str, partition: int, seq: int) -> RunWrites:
    """One step is done and the next is asked for."""
    number = 2 * seq
    events = [
        HistoryEvent(number + 1, NOW, StepCompleted(seq, "charge", 1, VALUE, "worker", 0.1)),
        HistoryEvent(number + 2, NOW, StepScheduled(seq + 1, "charge", VALUE, "default")),
    ]
    work = [WorkItem(run_id, 1, seq + 1, partition, WorkKind.STEP, None, 1, MESSAGE)]
    return RunWrites(run_id, record(run_id, partition, number + 2), events=events, work=work, settled=[(1, seq)])


def shown(what: str, times: list[tuple[float, float]], per: int = 1, unit: str = "") -> None:
    wall, cpu = [each[0] for each in times], [each[1] for each in times]
    slow = quantiles(wall, n=20)[-1]
    typical = f"{median(wall) / per:9.1f} µs{unit:<9} (95 %: {slow / per:.1f})"
    print(f"{what:<34}{typical:<38} CPU {median(cpu) / per:.1f} µs, {1e6 * per / median(wall):.0f}/s")


def measure(database: Database, lease: Lease) -> None:
    names = [new_run_id() for _ in range(RUNS)]
    where = [database.partition_of(name) for name in names]
    for first in range(0, RUNS, 200):
        part = range(first, first + 200)
        database.store.commit([started(names[i], where[i]) for i in part], lease, NOW)

    alone = [[stepped(name, partition, 1)] for name, partition in zip(names, where, strict=True)]
    shown(
        "commit of one step",
        [microseconds(partial(database.store.commit, turn, lease, NOW)) for turn in alone],
    )
    shared = [
        [stepped(names[i], where[i], seq) for i in range(first, first + 200)]
        for seq in range(2, 7)
        for first in range(0, RUNS, 200)
    ]
    times = [microseconds(partial(database.store.commit, turn, lease, NOW)) for turn in shared]
    shown("commit of 200 steps", times, 200, " a step")
    shown("  of five rows each", times, 1000, " a row")
    shown(
        "load of 100 runs",
        [microseconds(lambda: database.store.load(names[:100])) for _ in range(20)],
        1400,
        " an event",
    )
    orders = [StartOrder(name, name, "checkout", name, "{}") for name in (new_run_id() for _ in range(300))]
    many = [[StartOrder(name, name, "checkout", name, "{}") for name in names] for names in _names(20, 200)]
    shown("200 starts", [microseconds(partial(database.starts.submit, each)) for each in many], 200, " each")
    shown("one start", [microseconds(partial(database.starts.submit, [order])) for order in orders])
    shown("empty look into the inbox", [microseconds(lambda: database.inbox.take([-1], 100)) for _ in range(300)])


def _names(parts: int, size: int) -> list[list[str]]:
    return [[new_run_id() for _ in range(size)] for _ in range(parts)]


def main() -> None:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/store.db"
        with Database(url, upgrade_first=True) as database:
            lease = database.leases.acquire("benchmark")
            if lease is None:
                sys.exit("another coordinator holds the database")
            measure(database, lease)
            database.leases.release(lease)


if __name__ == "__main__":
    main()
