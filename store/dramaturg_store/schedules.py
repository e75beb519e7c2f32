"""Schedules: their rows, what fires them, and what people ask of them.

Whoever changes a schedule locks its row first, reads it then, and writes it with all that follows (starts in the inbox,
firings, cancels) in that transaction. So a time is decided once, whoever looks at it, however late; the fence of a
coordinator comes on top.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from functools import cache
from operator import attrgetter
from typing import Any, TypeAlias

from pydantic_core import from_json, to_json
from sqlalchemy import Connection, bindparam, delete, func, insert, select

from dramaturg_protocol.messages import RequestKind
from dramaturg_protocol.records import Lease
from dramaturg_protocol.schedule_records import Fired, Firing, FiringKind, Found, Paused, ScheduleCounts, ScheduleRecord
from dramaturg_store.clock import Now
from dramaturg_store.database_time import time_of
from dramaturg_store.dialects import by_primary_key, is_one_of, storable, upsert
from dramaturg_store.fences import LOCKED_EPOCHS, check_epochs
from dramaturg_store.inbox import SqlInbox
from dramaturg_store.registry import SILENCE
from dramaturg_store.rows import StoredRow, Values, letter_values
from dramaturg_store.schema import coordinators, dead_letters, firings, inbox, runs, schedules
from dramaturg_store.slices import slices
from dramaturg_store.transactions import Transactions

_NONE = "[]"

Decide: TypeAlias = Callable[[Found], Fired]

#: Of the firings of one schedule that wait, so many are read to decide about it.
WAITING_READ = 100
#: A firing that has its run is listed for so long.
FIRINGS_LIVE = timedelta(days=90)

_NAMES = tuple(each.name for each in fields(ScheduleRecord))
# In the order of a record's fields.
_COLUMNS = tuple(schedules.c[name] for name in _NAMES)
_RUNNING = _NAMES.index("running")
_values_of = attrgetter(*_NAMES)
_LOCK = (
    select(*_COLUMNS)
    .where(
        schedules.c.namespace == bindparam("namespace"),
        schedules.c.id.in_(bindparam("ids", expanding=True)),
    )
    .order_by(schedules.c.id)
)
_WAITING = (
    select(firings)
    .where(
        firings.c.namespace == bindparam("namespace"),
        firings.c.schedule_id == bindparam("id"),
        firings.c.run_id.is_(None),
    )
    .order_by(firings.c.time)
    .limit(WAITING_READ)
)
_DROP_WAITING = delete(firings).where(
    firings.c.namespace == bindparam("b_namespace"),
    firings.c.schedule_id == bindparam("b_id"),
    firings.c.run_id.is_(None),
)
# A run has its own id as its workflow id, and so have those that it continues as.
_STARTS = select(inbox.c.run_id).where(
    inbox.c.run_id.in_(bindparam("run_ids", expanding=True)), inbox.c.kind == RequestKind.START.value
)
_STATUSES = (
    select(runs.c.workflow_id, runs.c.status, runs.c.closed_at)
    .where(runs.c.namespace == bindparam("namespace"), runs.c.workflow_id.in_(bindparam("run_ids", expanding=True)))
    .order_by(runs.c.started_at, runs.c.run_id)
)
_LATEST = (
    select(firings)
    .where(firings.c.namespace == bindparam("namespace"), firings.c.schedule_id == bindparam("id"))
    .order_by(firings.c.time.desc())
)
_AMONG = (
    select(firings.c.time)
    .where(
        firings.c.namespace == bindparam("namespace"),
        firings.c.schedule_id == bindparam("id"),
        firings.c.time >= bindparam("since"),
        firings.c.time <= bindparam("until"),
    )
    .order_by(firings.c.time)
)
_COUNTS = (
    select(
        schedules.c.paused,
        func.count().label("number"),
        func.sum(schedules.c.waiting).label("waiting"),
        func.min(schedules.c.next_due, type_=schedules.c.next_due.type).label("next_due"),
    )
    .where(schedules.c.namespace == bindparam("namespace"))
    .group_by(schedules.c.paused)
)


class SqlSchedules:
    """The schedules of one namespace. All methods raise `Unreachable`."""

    def __init__(
        self,
        transactions: Transactions,
        sql_inbox: SqlInbox,
        *,
        namespace: str,
        partition_of: Callable[[str], int],
        now: Now,
    ) -> None:
        self._transactions = transactions
        self._inbox = sql_inbox
        self._namespace = namespace
        self._partition_of = partition_of
        self._now = now

    def partition_of(self, workflow_id: str) -> int:
        """The partition of a workflow id, and of a schedule by its own id."""
        return self._partition_of(workflow_id)

    # For a coordinator.

    def next_due(self, numbers: Collection[int], limit: int) -> Sequence[tuple[str, datetime]]:
        """The schedules of these partitions that are due next, with the moment, in this order."""
        with self._transactions.reading() as connection:
            values = {"partitions": list(numbers), "limit": limit}
            rows = connection.execute(_next_due(connection.dialect.name), values)
            return [(row.id, row.next_due) for row in rows]

    def waiting(self, numbers: Collection[int]) -> Mapping[str, Sequence[str]]:
        """The schedules of these partitions of which firings wait, each with the runs that it waits for."""
        with self._transactions.reading() as connection:
            rows = connection.execute(_some_wait(connection.dialect.name), {"partitions": list(numbers)})
            return {row.id: _runs_in(row.running) for row in rows}

    def open_among(self, run_ids: Collection[str]) -> frozenset[str]:
        """Those of these runs that are open, or whose start still waits."""
        if not run_ids:
            return frozenset()
        with self._transactions.reading() as connection:
            return _open_runs(connection, self._namespace, run_ids)

    def fire(self, ids: Collection[str], lease: Lease, decide: Decide) -> Sequence[Fired]:
        """Decide about schedules, and write what follows, in one transaction under the fence.

        Raises:
          Fenced: a partition has another owner.
          Refused: the database refuses what was decided about one of them.
        """
        with self._transactions.writing() as connection:
            found = self._lock(connection, ids)
            numbers = {each.record.partition for each in found} & lease.epochs.keys()
            check_epochs(lease.of(numbers).epochs, connection.execute(LOCKED_EPOCHS, {"numbers": sorted(numbers)}))
            decided = [decide(each) for each in found if each.record.partition in numbers]
            self._write(connection, decided)
            return decided

    def workflow_names(self) -> frozenset[str]:
        """The workflows that the coordinators there have registered."""
        return self._names_of("workflows")

    # For those who declare and change them.

    def declared_names(self) -> frozenset[str]:
        """The schedules that the coordinators there have in their code."""
        return self._names_of("schedules")

    def change(self, schedule_id: str, change: Callable[[Found | None], Fired | None]) -> Fired | None:
        """Lock a schedule, or the place where it would be, and write what is made of it.

        Parameters:
          change: gives what to write; what it raises undoes everything.
        """

        def work(connection: Connection) -> Fired | None:
            found = self._lock(connection, [schedule_id])
            fired = change(found[0] if found else None)
            if fired is not None:
                self._write(connection, [fired])
            return fired

        return self._transactions.written(work)

    def put(self, rows: Sequence[Fired]) -> None:
        """Write many as they are, in one transaction, whatever is there."""
        self._transactions.written(lambda connection: self._write(connection, rows))

    def delete(self, schedule_id: str) -> bool:
        """Forget a schedule with its firings; whether it was there. Its runs stay."""

        def work(connection: Connection) -> bool:
            key = {"namespace": self._namespace, "id": schedule_id}
            mine = (schedules.c.namespace == key["namespace"], schedules.c.id == key["id"])
            gone = connection.execute(delete(schedules).where(*mine)).rowcount
            of_it = (firings.c.namespace == key["namespace"], firings.c.schedule_id == key["id"])
            connection.execute(delete(firings).where(*of_it))
            return bool(gone)

        return self._transactions.written(work)

    # For people.

    def get(self, schedule_id: str) -> ScheduleRecord | None:
        """A schedule."""
        found = self.list(ids=[schedule_id], limit=1)
        return found[0] if found else None

    def list(
        self,
        *,
        ids: Collection[str] = (),
        workflow: str | None = None,
        paused: bool | None = None,
        declared: str | None = None,
        after: str = "",
        limit: int = 50,
    ) -> Sequence[ScheduleRecord]:
        """Schedules in the order of their ids, beyond one of them."""
        wanted = select(*_COLUMNS).where(schedules.c.namespace == self._namespace, schedules.c.id > after)
        if ids:
            wanted = wanted.where(schedules.c.id.in_(list(ids)))
        if workflow is not None:
            wanted = wanted.where(schedules.c.workflow == workflow)
        if paused is not None:
            wanted = wanted.where(schedules.c.paused != "" if paused else schedules.c.paused == "")
        if declared is not None:
            wanted = wanted.where(schedules.c.declared == declared)
        with self._transactions.reading() as connection:
            return [_record(row) for row in connection.execute(wanted.order_by(schedules.c.id).limit(limit))]

    def firings(self, schedule_id: str, limit: int) -> Sequence[Firing]:
        """The latest times that have a run, or wait for one; the newest first."""
        with self._transactions.reading() as connection:
            rows = connection.execute(_LATEST.limit(limit), {"namespace": self._namespace, "id": schedule_id})
            return [_firing(row) for row in rows]

    def times_among(self, schedule_id: str, since: datetime, until: datetime) -> Sequence[datetime]:
        """The times from one moment to another that have a run, or wait for one."""
        values = {"namespace": self._namespace, "id": schedule_id, "since": since, "until": until}
        with self._transactions.reading() as connection:
            return connection.scalars(_AMONG, values).all()

    # Parts.

    def _names_of(self, column: str) -> frozenset[str]:
        wanted = select(coordinators.c[column]).where(coordinators.c.namespace == self._namespace)
        with self._transactions.reading() as connection:
            since = time_of(connection, self._now) - SILENCE
            rows = connection.scalars(wanted.where(coordinators.c.seen_at >= since)).all()
        return frozenset(str(name) for text in rows for name in from_json(text))

    def _lock(self, connection: Connection, ids: Collection[str]) -> builtins.list[Found]:
        found: builtins.list[ScheduleRecord] = []
        for part in slices(sorted(ids)):
            locking = by_primary_key(_LOCK.with_for_update(), schedules)
            found += [_record(row) for row in connection.execute(locking, {"namespace": self._namespace, "ids": part})]
        asked = {run_id for record in found for run_id in record.running}
        still_open = _open_runs(connection, self._namespace, asked) if asked else frozenset[str]()
        return [
            Found(record, self._waiting(connection, record), still_open.intersection(record.running))
            for record in found
        ]

    def _waiting(self, connection: Connection, record: ScheduleRecord) -> Sequence[Firing]:
        if not record.waiting:
            return ()
        rows = connection.execute(_WAITING, {"namespace": self._namespace, "id": record.id})
        return [_firing(row) for row in rows]

    def _write(self, connection: Connection, decided: Sequence[Fired]) -> None:
        dialect = self._transactions.dialect
        drops = [{"b_namespace": self._namespace, "b_id": each.record.id} for each in decided if each.drops_waiting]
        if drops:
            connection.execute(_DROP_WAITING, drops)
        rows = [_schedule_values(each.record, self._namespace) for each in decided]
        new = [_firing_values(firing, each.record.id, self._namespace) for each in decided for firing in each.firings]
        # One row twice in a statement is refused by PostgreSQL: what waited has its run in the same breath.
        latest = {(row["schedule_id"], row["time"]): row for row in new}
        if rows:
            connection.execute(upsert(dialect, schedules), rows)
        if latest:
            connection.execute(upsert(dialect, firings), list(latest.values()))
        self._inbox.put_on(connection, [request for each in decided for request in each.requests])
        letters = [letter for each in decided for letter in each.letters]
        if letters:
            now = time_of(connection, self._now)
            connection.execute(insert(dead_letters), [letter_values(each, self._namespace, now) for each in letters])


def old_firings(before: datetime) -> Any:
    """What deletes the firings that had their run before a moment; their runs are kept by rules of their own."""
    return delete(firings).where(firings.c.decided_at < before, firings.c.run_id.is_not(None))


def _open_runs(connection: Connection, namespace: str, run_ids: Collection[str]) -> frozenset[str]:
    """Those that are open, or go on as another run, or wait in the inbox."""
    is_open: set[str] = set()
    for part in slices(sorted(run_ids)):
        # In this order: a start that is taken in between is found among the runs.
        is_open |= set(connection.scalars(_STARTS, {"run_ids": part}))
        rows = connection.execute(_STATUSES, {"namespace": namespace, "run_ids": part}).all()
        newest = {row.workflow_id: row for row in rows}
        is_open |= {row.workflow_id for row in rows if row.closed_at is None}
        is_open |= {workflow_id for workflow_id, row in newest.items() if row.status == "CONTINUED"}
    return frozenset(is_open)


@cache
def _next_due(dialect: str) -> Any:
    wanted = select(schedules.c.id, schedules.c.next_due)
    is_ours = is_one_of(schedules.c.partition, "partitions", dialect)
    return (
        wanted.where(is_ours, schedules.c.next_due.is_not(None))
        .order_by(schedules.c.next_due)
        .limit(bindparam("limit"))
    )


@cache
def _some_wait(dialect: str) -> Any:
    is_ours = is_one_of(schedules.c.partition, "partitions", dialect)
    return select(schedules.c.id, schedules.c.running).where(
        is_ours, schedules.c.waiting > 0, schedules.c.paused != Paused.TROUBLE.value
    )


def _record(row: StoredRow) -> ScheduleRecord:
    values = list(row)
    values[_RUNNING] = _runs_in(row[_RUNNING])
    return ScheduleRecord(*values)


def _runs_in(text: str) -> tuple[str, ...]:
    if text == _NONE:
        return ()
    try:
        return tuple(str(each) for each in from_json(text))
    except (ValueError, TypeError):
        return ()


def _schedule_values(record: ScheduleRecord, namespace: str) -> Values:
    values: Values = dict(zip(_NAMES, _values_of(record), strict=True))
    values["namespace"] = namespace
    values["running"] = to_json(record.running).decode() if record.running else _NONE
    values["note"] = storable(record.note)
    return values


def _firing(row: StoredRow) -> Firing:
    kind = FiringKind(row.kind) if row.kind in list(FiringKind) else FiringKind.TIME
    return Firing(row.time, kind, row.run_id, row.decided_at)


def _firing_values(firing: Firing, schedule_id: str, namespace: str) -> Values:
    return {
        "namespace": namespace,
        "schedule_id": schedule_id,
        "time": firing.time,
        "kind": firing.kind.value,
        "run_id": firing.run_id,
        "decided_at": firing.decided_at,
    }


def count_schedules(connection: Connection, namespace: str, now: datetime) -> ScheduleCounts:
    """How the schedules of a namespace stand."""
    rows = connection.execute(_COUNTS, {"namespace": namespace}).all()
    due = min((row.next_due for row in rows if row.next_due is not None), default=None)
    return ScheduleCounts(
        states={"active": 0} | {row.paused or "active": int(row.number) for row in rows},
        waiting=sum(int(row.waiting or 0) for row in rows),
        next_due_seconds=None if due is None else (due - now).total_seconds(),
    )
