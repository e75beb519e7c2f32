"""How late schedules fire: ten thousand, each due every minute, spread over it or all at once.

    python -m benchmarks.schedules [URL]

Without a URL: a SQLite file in a folder of its own, removed at the end. Firing alone: the starts stay in the inbox, and
nobody advances the runs meanwhile, which would share the processor.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from statistics import median, quantiles

from dramaturg import workflow
from dramaturg.scheduled_calls import scheduled_call
from dramaturg_coordinator.core.schedule_rows import new_row
from dramaturg_coordinator.schedules import Firer
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.schedule_checks import spec_of
from dramaturg_protocol.schedule_records import Fired
from dramaturg_store.database import Database

SCHEDULES = 10_000
SECONDS = 60.0


@workflow
async def tick() -> None:
    """Does nothing."""


class _Now:
    def now(self) -> datetime:
        return datetime.now(UTC)


def measure(database: Database, *, spread: bool) -> list[float]:
    """Seconds by which each firing of a minute was late."""
    begin = datetime.now(UTC) + timedelta(seconds=20)
    call = scheduled_call(tick, (), {}, None, namespace=database.namespace, max_payload=1 << 20)
    for number in range(SCHEDULES):
        anchor = begin + timedelta(seconds=SECONDS * number / SCHEDULES if spread else 0)
        name = f"{spread}-{number}"
        spec = spec_of(every="1m", start_at=anchor, end_at=anchor + timedelta(seconds=1))
        row = new_row(
            name, database.partition_of(name), spec, begin, workflow=call.workflow, body=call.body,
            overlap="skip", catchup=3600, declared="client", paused=False, note="",
        )  # fmt: skip
        rows.append(Fired(row))
    for first in range(0, SCHEDULES, 1000):
        database.schedules.put(rows[first : first + 1000])
    rows.clear()
    late: list[float] = []

    def fired(decided: Sequence[Fired]) -> None:
        late.extend(seconds for each in decided for seconds in each.late)

    lease = database.leases.acquire("bench")
    assert lease is not None
    firer = Firer(
        database.schedules, namespace=database.namespace, lease=lease, clock=_Now(), registry=registry, on_fired=fired
    )
    until = time.monotonic() + SECONDS + 40
    while len(late) < SCHEDULES and time.monotonic() < until:
        if not firer.fire(looks=False):
            time.sleep(0.01)
    database.leases.release(lease)
    return late


rows: list[Fired] = []


def main() -> None:
    """Measure both ways and print."""
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/bench.db"
        with Database(url) as database:
            for spread, words in ((True, "spread over the minute"), (False, "all at once")):
                late = measure(database, spread=spread)
                print(
                    f"{len(late)} schedules, {words}: late by {median(late):.3f} s at the median, "
                    f"{quantiles(late, n=100)[98]:.3f} s at p99, {max(late):.3f} s at most"
                )


if __name__ == "__main__":
    main()
