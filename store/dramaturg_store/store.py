"""The port `Store` over SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import bindparam, exists, insert, literal_column, select, tuple_

from dramaturg_protocol.limits import Slot
from dramaturg_protocol.records import (
    DeadLetter,
    KeptResult,
    Lease,
    RunWrites,
    StoredRun,
    Unreadable,
    WorkItem,
    WorkKind,
)
from dramaturg_store.claims import claim_id, holders_of
from dramaturg_store.clock import Now
from dramaturg_store.database_time import time_of
from dramaturg_store.dialects import is_one_of
from dramaturg_store.histories import load_runs
from dramaturg_store.kept_results import kept_results_of
from dramaturg_store.rows import letter_values, work_item
from dramaturg_store.schema import dead_letters, inbox, open_work, runs
from dramaturg_store.slices import SLICE
from dramaturg_store.slots import forget_spent, forgotten_waiters, leaked_slots, slots_of
from dramaturg_store.transactions import Transactions
from dramaturg_store.writes import write_turn

_KEY = (open_work.c.run_id, open_work.c.generation, open_work.c.seq)
_UNDER_WAY = (
    select(open_work)
    .where(
        open_work.c.partition == bindparam("partition"),
        open_work.c.kind == bindparam("kind"),
        tuple_(*_KEY) > tuple_(bindparam("run_id"), bindparam("generation"), bindparam("seq")),
    )
    .order_by(*_KEY)
    .limit(SLICE)
)
_WITH_STATUS = (
    select(runs.c.run_id)
    .where(runs.c.partition.in_(bindparam("partitions", expanding=True)), runs.c.status == bindparam("status"))
    .order_by(runs.c.started_at, runs.c.run_id)
)
_IDLE = (
    select(runs.c.run_id)
    .where(
        runs.c.partition == bindparam("partition"),
        runs.c.status.in_(("RUNNING", "WAITING")),
        runs.c.waits.is_(None),
        ~exists().where(open_work.c.run_id == runs.c.run_id),
        ~exists().where(inbox.c.run_id == runs.c.run_id),
    )
    .limit(bindparam("limit"))
)
_ORPHANS = (
    select(open_work.c.run_id)
    .join(runs, runs.c.run_id == open_work.c.message)
    .where(
        open_work.c.partition == bindparam("partition"),
        open_work.c.kind == literal_column(f"'{WorkKind.CHILD.value}'"),
        runs.c.closed_at.is_not(None),
        # The next of its chain goes on for it.
        runs.c.status != literal_column("'CONTINUED'"),
        ~exists().where(inbox.c.run_id == open_work.c.run_id),
    )
    .distinct()
    .limit(bindparam("limit"))
)


class SqlStore:
    """Runs, histories and open work of one namespace."""

    def __init__(self, transactions: Transactions, *, namespace: str, now: Now) -> None:
        self._transactions = transactions
        self._namespace = namespace
        self._now = now

    def commit(self, writes: Sequence[RunWrites], lease: Lease, now: datetime) -> None:
        """Write a turn in one transaction; see the port for what it raises."""
        with self._transactions.writing() as connection:
            write_turn(connection, writes, lease, self._namespace, now)

    def load(self, run_ids: Collection[str]) -> Mapping[str, StoredRun | Unreadable]:
        """The runs with their histories; an unknown id is absent, a damaged run is an `Unreadable`."""
        with self._transactions.reading() as connection:
            return load_runs(connection, run_ids)

    def due_work(self, partitions: Collection[int], until: datetime, limit: int) -> Sequence[WorkItem]:
        """Open work whose due time is at most `until`, earliest first."""
        with self._transactions.reading() as connection:
            values = {"partitions": list(partitions), "until": until, "limit": limit}
            return [work_item(row) for row in connection.execute(_due(connection.dialect.name), values)]

    def sent_work(self, partitions: Collection[int], kind: WorkKind = WorkKind.STEP) -> Iterator[WorkItem]:
        """Steps that are with workers, or with the coordinator itself, read in slices as they are asked for."""
        for partition in sorted(partitions):
            yield from self._under_way_in(partition, kind)

    def runs_with_status(self, partitions: Collection[int], status: str) -> Sequence[str]:
        """Ids of the runs with this status, oldest first."""
        with self._transactions.reading() as connection:
            values = {"partitions": list(partitions), "status": status}
            return connection.scalars(_WITH_STATUS, values).all()

    def idle_runs(self, partition: int, limit: int) -> Sequence[str]:
        """Ids of runs that run or wait, for nobody, and have neither open work nor a request: there should be none."""
        with self._transactions.reading() as connection:
            return connection.scalars(_IDLE, {"partition": partition, "limit": limit}).all()

    def orphans(self, partition: int, limit: int) -> Sequence[str]:
        """Ids of runs that wait for a child which is closed, and have no request: there should be none."""
        with self._transactions.reading() as connection:
            return connection.scalars(_ORPHANS, {"partition": partition, "limit": limit}).all()

    def claim_id(self, workflow_id: str, run_id: str) -> str | None:
        """Give a workflow id to a run that is to begin; the open run that has it instead, where that is another one."""
        return self._transactions.written(lambda own: claim_id(own, self._namespace, workflow_id, run_id))

    def holders(self, workflow_ids: Collection[str]) -> Mapping[str, str]:
        """The newest run of each of these workflow ids that somebody chose; others are absent."""
        with self._transactions.reading() as connection:
            return holders_of(connection, self._namespace, workflow_ids)

    def kept_results(self, keys: Collection[str]) -> Mapping[str, KeptResult]:
        """Results of steps that a later call with the same arguments may have; others are absent."""
        with self._transactions.reading() as connection:
            return kept_results_of(connection, keys)

    def slots(self, partitions: Collection[int], now: datetime) -> Sequence[Slot]:
        """What counts for limits, or waits for them, in order of arrival."""
        with self._transactions.reading() as connection:
            return slots_of(connection, partitions, now)

    def leaked_slots(self, partition: int, limit: int) -> Sequence[Slot]:
        """Grants and waiters whose execution is over: there should be none."""
        with self._transactions.reading() as connection:
            return leaked_slots(connection, partition, limit)

    def forgotten_waiters(self, partition: int, limit: int) -> Sequence[str]:
        """Ids of runs with a row that waits for a limit, of which no limit knows that it waits."""
        with self._transactions.reading() as connection:
            return forgotten_waiters(connection, partition, limit)

    def forget_spent(self, partitions: Collection[int], before: datetime) -> None:
        """What was spent of a rate and counts no more goes."""
        with self._transactions.writing() as connection:
            forget_spent(connection, partitions, before)

    def put_aside(self, letters: Sequence[DeadLetter]) -> None:
        """Keep what could not be processed, in a transaction of its own."""
        if not letters:
            return
        with self._transactions.writing() as connection:
            now = time_of(connection, self._now)
            connection.execute(insert(dead_letters), [letter_values(each, self._namespace, now) for each in letters])

    def _under_way_in(self, partition: int, kind: WorkKind) -> Iterator[WorkItem]:
        after = ("", -1, -1)
        while items := self._under_way_after(partition, kind, after):
            yield from items
            after = items[-1].key

    def _under_way_after(self, partition: int, kind: WorkKind, after: tuple[str, int, int]) -> Sequence[WorkItem]:
        run_id, generation, seq = after
        values = {"partition": partition, "kind": kind.value, "run_id": run_id, "generation": generation, "seq": seq}
        with self._transactions.reading() as connection:
            return [work_item(row) for row in connection.execute(_UNDER_WAY, values)]


@cache
def _due(dialect: str) -> Any:
    is_due = open_work.c.due <= bindparam("until")
    wanted = select(open_work).where(is_one_of(open_work.c.partition, "partitions", dialect), is_due)
    return wanted.order_by(open_work.c.due, *_KEY).limit(bindparam("limit"))
