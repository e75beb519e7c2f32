"""Reads for people and clients, on connections of their own: they never wait for a coordinator's commit."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias, cast

from sqlalchemy import BindParameter, bindparam, func, select, tuple_

from dramaturg_protocol.event_codec import decode_body, encode_body
from dramaturg_protocol.messages import Reply, Request, RequestKind
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import RunRecord, WorkItem
from dramaturg_protocol.sealing import CannotOpen, open_words, unseal
from dramaturg_protocol.shown import shown_json
from dramaturg_store.clock import Now
from dramaturg_store.database_time import time_of
from dramaturg_store.large_values import NO_VALUES, values_of
from dramaturg_store.registry import SILENCE
from dramaturg_store.rows import StoredRow, request_of, run_record, work_item
from dramaturg_store.run_filters import RunFilter
from dramaturg_store.schema import (
    coordinators,
    events,
    inbox,
    open_work,
    parked,
    partitions,
    replies,
    runs,
    workflow_ids,
)
from dramaturg_store.slices import slices
from dramaturg_store.transactions import Transactions

_NAMESPACE: BindParameter[Any] = bindparam("namespace")
_RUNS = select(runs).where(runs.c.namespace == _NAMESPACE)
_MINE = select(partitions.c.id).where(partitions.c.namespace == _NAMESPACE)
_COUNT = select(func.count()).select_from(runs)
_RUNS_BY_ID = _RUNS.where(runs.c.run_id.in_(bindparam("run_ids", expanding=True)))
_NEWEST_OF_ID = (
    select(runs.c.run_id)
    .where(runs.c.namespace == _NAMESPACE, runs.c.workflow_id == bindparam("workflow_id"))
    .order_by(runs.c.started_at.desc(), runs.c.run_id.desc())
    .limit(1)
)
_HOLDER_OF_ID = select(workflow_ids.c.run_id).where(
    workflow_ids.c.namespace == _NAMESPACE, workflow_ids.c.workflow_id == bindparam("workflow_id")
)
_START_OF = select(inbox).where(inbox.c.run_id == bindparam("run_id"), inbox.c.kind == RequestKind.START.value)
_EVENTS = (
    select(events.c.number, events.c.type, events.c.time, events.c.data)
    .where(events.c.run_id == bindparam("run_id"), events.c.number > bindparam("after"))
    .order_by(events.c.number)
)
_OPEN_WORK = (
    select(open_work).where(open_work.c.run_id == bindparam("run_id")).order_by(open_work.c.generation, open_work.c.seq)
)
_REPLY = select(replies).where(replies.c.message_id == bindparam("message_id"))
_PENDING = select(inbox.c.arrival).where(inbox.c.message_id == bindparam("message_id"))
_PARKED = select(parked.c.reason).where(parked.c.run_id == bindparam("run_id"))
_COUNT_PARKED = select(func.count()).select_from(parked).where(parked.c.partition.in_(_MINE))
_UNREPORTED = (
    select(open_work)
    .where(open_work.c.partition.in_(_MINE), open_work.c.republished >= bindparam("republished"))
    .limit(bindparam("limit"))
)
_COORDINATORS = (
    select(coordinators)
    .where(coordinators.c.namespace == _NAMESPACE, coordinators.c.seen_at >= bindparam("since"))
    .order_by(coordinators.c.started_at, coordinators.c.id)
)


@dataclass(frozen=True, slots=True)
class EventRow:
    """A stored event as people see it.

    Attributes:
      data: its JSON object; empty where that is damaged.
      damage: what is wrong with the row; empty where nothing is.
      raw: the stored text.
    """

    number: int
    type: str
    time: datetime
    data: dict[str, Any]
    raw: str
    damage: str = ""


@dataclass(frozen=True, slots=True)
class CoordinatorRow:
    """A coordinator that was there a moment ago.

    Attributes:
      workflows: the versions that it has of each workflow.
    """

    id: str
    host: str
    pid: int
    started_at: datetime
    seen_at: datetime
    fingerprint: str
    workflows: dict[str, list[int]]


#: A SELECT: SQLAlchemy 2.0 and 2.1 have different types for it.
Statement: TypeAlias = Any

EVERYTHING: Final = RunFilter()

#: Where a page of runs ended: `started_at` and `run_id` of its last one.
Cursor: TypeAlias = tuple[datetime, str]


class Reads:
    """What people and clients ask of one namespace. All methods raise `Unreachable`."""

    def __init__(self, transactions: Transactions, *, namespace: str, now: Now) -> None:
        self._transactions = transactions
        self._namespace = namespace
        self._now = now

    def time(self) -> datetime:
        """The time of the database."""
        with self._transactions.reading() as connection:
            return time_of(connection, self._now)

    def run(self, run_id: str) -> RunRecord | None:
        """A run's row."""
        return self.runs([run_id]).get(run_id)

    def runs(self, run_ids: Collection[str]) -> Mapping[str, RunRecord]:
        """Rows of runs by id; an unknown id is absent."""
        found: dict[str, RunRecord] = {}
        for part in slices(list(run_ids)):
            for row in self._rows(_RUNS_BY_ID, namespace=self._namespace, run_ids=part):
                found[row.run_id] = run_record(row)
        return found

    def resolve(self, any_id: str) -> str | None:
        """The run of a run id, or else the newest run of a workflow id, be its start still in the inbox."""
        named = self._rows(_HOLDER_OF_ID, namespace=self._namespace, workflow_id=any_id)
        # The id first: of a chain, the run that was given no other id bears it, and the newest has it.
        for run_id in (*(row.run_id for row in named), any_id):
            if self.run(run_id) is not None or self.pending_start(run_id) is not None:
                return str(run_id)
        newest = self._rows(_NEWEST_OF_ID, namespace=self._namespace, workflow_id=any_id)
        return str(newest[0].run_id) if newest else None

    def pending_start(self, run_id: str) -> Request | None:
        """The start of a run that no coordinator took yet."""
        rows = self._rows(_START_OF, run_id=run_id)
        return request_of(rows[0]) if rows else None

    def list_runs(
        self, wanted: RunFilter = EVERYTHING, limit: int = 50, after: Cursor | None = None
    ) -> Sequence[RunRecord]:
        """Runs, newest first.

        Parameters:
          after: where the page before ended.
        """
        statement = _RUNS.where(*wanted.conditions())
        if after is not None:
            place = tuple_(bindparam("started_at", after[0], runs.c.started_at.type), bindparam("run_id", after[1]))
            statement = statement.where(tuple_(runs.c.started_at, runs.c.run_id) < place)
        statement = statement.order_by(runs.c.started_at.desc(), runs.c.run_id.desc()).limit(limit)
        return [run_record(row) for row in self._rows(statement, namespace=self._namespace)]

    def count_runs(self, wanted: RunFilter = EVERYTHING) -> int:
        """How many runs there are."""
        with self._transactions.reading() as connection:
            if wanted.is_indexed:
                # By the smallest index. As a list: a subquery has MariaDB look at runs of all statuses.
                ids = connection.scalars(_MINE, {"namespace": self._namespace}).all()
                statement, values = _COUNT.where(runs.c.partition.in_(ids)), {}
            else:
                statement, values = _COUNT.where(runs.c.namespace == _NAMESPACE), {"namespace": self._namespace}
            return int(connection.execute(statement.where(*wanted.conditions()), values).scalar_one())

    def events(self, run_id: str, after: int = 0, limit: int | None = None) -> Sequence[EventRow]:
        """A run's events beyond a number; a damaged one is there and says so."""
        statement = _EVENTS if limit is None else _EVENTS.limit(limit)
        with self._transactions.reading() as connection:
            rows = connection.execute(statement, {"run_id": run_id, "after": after}).all()
            values = values_of(connection, [run_id] if rows else []).get(run_id, NO_VALUES)
        return [_event_row(row, values) for row in rows]

    def open_work(self, run_id: str) -> Sequence[WorkItem]:
        """Steps and timers of a run that are under way."""
        return [work_item(row) for row in self._rows(_OPEN_WORK, run_id=run_id)]

    def parked(self, run_id: str) -> str:
        """Why a run is parked; empty where it is not."""
        rows = self._rows(_PARKED, run_id=run_id)
        return open_words(str(rows[0].reason)) if rows else ""

    def count_parked(self) -> int:
        """How many runs are parked."""
        return int(self._rows(_COUNT_PARKED, namespace=self._namespace)[0][0])

    def unreported(self, republished: int, limit: int) -> Sequence[WorkItem]:
        """Steps that were sent again at least so often and are open yet."""
        rows = self._rows(_UNREPORTED, namespace=self._namespace, republished=republished, limit=limit)
        return [work_item(row) for row in rows]

    def reply(self, message_id: str) -> Reply | None:
        """The answer to a request, once it is there."""
        rows = self._rows(_REPLY, message_id=message_id)
        if not rows:
            return None
        message_id, error, message, _, value = rows[0]
        return Reply(message_id, error, open_words(message), None if value is None else Payload(unseal(value)))

    def is_pending(self, message_id: str) -> bool:
        """Whether a request still waits for a coordinator."""
        return bool(self._rows(_PENDING, message_id=message_id))

    def coordinators(self, silence: timedelta = SILENCE) -> Sequence[CoordinatorRow]:
        """Coordinators that were heard of not longer ago than that."""
        with self._transactions.reading() as connection:
            values = {"namespace": self._namespace, "since": time_of(connection, self._now) - silence}
            return [_coordinator_row(row) for row in connection.execute(_COORDINATORS, values)]

    def has_live_coordinator(self, silence: timedelta = SILENCE) -> bool:
        """Whether any coordinator is there."""
        return bool(self.coordinators(silence))

    def workflow_names(self, silence: timedelta = SILENCE) -> frozenset[str]:
        """The workflows that the coordinators there have registered."""
        return frozenset(name for row in self.coordinators(silence) for name in row.workflows)

    def _rows(self, statement: Statement, **values: Any) -> Sequence[StoredRow]:
        with self._transactions.reading() as connection:
            return connection.execute(statement, values).all()


def _event_row(row: StoredRow, values: Mapping[str, str]) -> EventRow:
    damage, raw = "", row.data
    data: Any = None
    try:
        raw = _with_values(row, values) if values else raw
        data = shown_json(raw)
    except (ValueError, TypeError) as error:
        damage = f"not JSON: {error}"
    else:
        if not isinstance(data, dict):
            damage = f"{type(data).__name__} instead of an object"
    fields = cast("dict[str, Any]", {} if damage else data)
    return EventRow(row.number, row.type, row.time, fields, raw, damage)


def _with_values(row: StoredRow, values: Mapping[str, str]) -> str:
    """The text of an event with its large values; as it is where it cannot be read."""
    try:
        return encode_body(decode_body(row.type, row.data, values))
    except (KeyError, ValueError, TypeError, CannotOpen):
        return str(row.data)


def _coordinator_row(row: StoredRow) -> CoordinatorRow:
    return CoordinatorRow(
        id=row.id,
        host=row.host,
        pid=row.pid,
        started_at=row.started_at,
        seen_at=row.seen_at,
        fingerprint=row.fingerprint,
        workflows=json.loads(row.workflows),
    )
