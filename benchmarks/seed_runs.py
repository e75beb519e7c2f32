"""Fill an empty database with runs that are over and some that are not, to see what a million of them cost.

    python -m benchmarks.seed_runs URL [--runs 1000000] [--events 10] [--detailed 100000]

The URL names a server (PostgreSQL or MariaDB) and a database that exists. `--detailed` runs have their events, the others
only their row, so that the disk holds it. Statuses, workflows and tags are mixed as where most runs end well, some fail,
and some thousands are open with a step or a timer under way. A second call adds others.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from sqlalchemy import Connection, Table, insert, text

from dramaturg_protocol.event_codec import encode_body
from dramaturg_protocol.events import RunStarted, StepCompleted, StepScheduled, type_of
from dramaturg_protocol.payloads import Payload
from dramaturg_store.database import Database
from dramaturg_store.schema import CLOSED, events, open_work, runs

WORKFLOWS = ("checkout", "invoice", "import_products", "nightly_report", "sync_customer")
STATUSES = {"COMPLETED": 930, "FAILED": 30, "CANCELLED": 8, "TERMINATED": 2, "RUNNING": 12, "WAITING": 16, "BLOCKED": 2}
TENANTS = 200
PERIOD = timedelta(days=90)
PART = 10_000
INPUT = Payload('{"args":[17,1250],"kwargs":{}}')

Row = tuple[Any, ...]


class Seed:
    """Rows of runs that might have been.

    Parameters:
      already: how many were seeded before; others follow them.
    """

    def __init__(self, partitions: Sequence[int], namespace: str, events_per_run: int, already: int = 0) -> None:
        self._partitions = partitions
        self._namespace = namespace
        self._events = events_per_run
        self._chance = random.Random(already)
        self._now = datetime.now(UTC)

    def part(self, first: int, count: int, *, with_events: bool) -> dict[Table, list[Row]]:
        """The rows of so many runs, by table."""
        rows: dict[Table, list[Row]] = {runs: [], events: [], open_work: []}
        for number in range(first, first + count):
            self._add(rows, number, with_events=with_events)
        return rows

    def _add(self, rows: dict[Table, list[Row]], number: int, *, with_events: bool) -> None:
        chance = self._chance
        run_id = f"{chance.getrandbits(128):032x}"
        partition = self._partitions[number % len(self._partitions)]
        workflow = chance.choice(WORKFLOWS)
        status = chance.choices(tuple(STATUSES), tuple(STATUSES.values()))[0]
        started = self._now - PERIOD * chance.random()
        closed = started + timedelta(seconds=chance.expovariate(1 / 60)) if status in CLOSED else None
        tags = f'{{"tenant":"t{chance.randrange(TENANTS)}"}}'
        last = self._events if with_events else 0
        identity = (run_id, self._namespace, partition, f"{workflow}-{number}", workflow, 1, status, 1, last, tags)
        result = '{"receipt":"r-17"}' if status == "COMPLETED" else None
        rows[runs].append((*identity, started, closed or started, closed, result, None))
        if with_events:
            rows[events] += self._history(run_id, workflow, started)
        if status in ("RUNNING", "WAITING"):
            kind, due = ("step", None) if status == "RUNNING" else ("timer", self._now + PERIOD * chance.random())
            message = '{"step":"charge","args":[17]}' if kind == "step" else None
            rows[open_work].append((run_id, 1, self._events, partition, kind, due, 1, message))

    def _history(self, run_id: str, workflow: str, at: datetime) -> Iterator[Row]:
        yield self._event(run_id, 1, at, RunStarted(f"start {run_id}", run_id, workflow, 1, INPUT))
        for number in range(2, self._events + 1):
            seq = number // 2
            is_asked = number % 2 == 0
            body = StepScheduled(seq, "charge", INPUT, "default") if is_asked else _completed(seq)
            yield self._event(run_id, number, at + timedelta(seconds=number), body)

    def _event(self, run_id: str, number: int, at: datetime, body: Any) -> Row:
        return (run_id, number, type_of(body), at, encode_body(body))


def _completed(seq: int) -> StepCompleted:
    return StepCompleted(seq, "charge", 1, Payload('{"cents":1250}'), "worker", 0.1)


def write(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Add rows: with COPY on PostgreSQL, with inserts of many elsewhere."""
    names = [column.name for column in table.columns]
    if connection.dialect.name != "postgresql":
        connection.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows])
        return
    raw: Any = connection.connection.driver_connection
    with raw.cursor() as cursor, cursor.copy(f"COPY {table.name} ({', '.join(names)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def main(
    url: str,
    count: Annotated[int, typer.Option("--runs", help="How many runs.")] = 1_000_000,
    events_per_run: Annotated[int, typer.Option("--events", help="Of each run that has any.")] = 10,
    detailed: Annotated[int, typer.Option(help="How many of the runs have events.")] = 100_000,
) -> None:
    """Add runs to a database."""
    begun = time.perf_counter()
    with Database(url, upgrade_first=True) as database:
        seed = Seed(database.partitions, database.namespace, events_per_run, database.reads.count_runs())
        for first in range(0, count, PART):
            part = seed.part(first, min(PART, count - first), with_events=first < detailed)
            with database.engine.begin() as connection:
                for table, rows in part.items():
                    if rows:
                        write(connection, table, rows)
        with database.engine.begin() as connection:
            for table in (runs, events, open_work):
                words = "ANALYZE" if connection.dialect.name == "postgresql" else "ANALYZE TABLE"
                connection.execute(text(f"{words} {table.name}")).close()
    print(f"{count} runs in {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    typer.run(main)
