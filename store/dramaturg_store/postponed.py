"""What is sent to a run later: kept in a table of its own until it is due, then a row of the inbox like any other.

    postponed ── due ──► its run is open, or not there yet ──► the inbox, in one transaction
                 │  └──► its run is closed ──► kept without a due time, as long as the run is
                 └────── its run goes on again (retry, reset) ──► due at once

Far more may wait here than a coordinator could look through: only what is due is read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Connection, bindparam, delete, func, select, update

from dramaturg_protocol.messages import Request
from dramaturg_protocol.records import Lease
from dramaturg_store.clock import Now
from dramaturg_store.database_time import time_of
from dramaturg_store.dialects import insert_ignore, is_one_of
from dramaturg_store.fences import LOCKED_EPOCHS, check_epochs
from dramaturg_store.inbox import SqlInbox
from dramaturg_store.rows import request_postponed, request_values
from dramaturg_store.schema import postponed, runs
from dramaturg_store.slices import slices
from dramaturg_store.transactions import Transactions, told_as_faults

_RUN_IDS: BindParameter[Any] = bindparam("run_ids", expanding=True)
_MESSAGE_IDS: BindParameter[Any] = bindparam("message_ids", expanding=True)
_DROP = delete(postponed).where(postponed.c.message_id.in_(_MESSAGE_IDS))
_KEEP = (
    update(postponed)
    .where(postponed.c.message_id == bindparam("b_message_id"))
    .values(due=None, run_id=bindparam("b_run_id"))
)
_RUNS = select(runs.c.run_id, runs.c.workflow_id, runs.c.status, runs.c.closed_at).where(runs.c.run_id.in_(_RUN_IDS))
_CHAINS = select(runs.c.run_id, runs.c.continued_from, runs.c.status, runs.c.closed_at).where(
    runs.c.namespace == bindparam("namespace"),
    runs.c.workflow_id.in_(bindparam("workflow_ids", expanding=True)),
    runs.c.continued_from.is_not(None),
)
_OF_RUNS = select(postponed.c.run_id).where(postponed.c.run_id.in_(_RUN_IDS)).distinct()
_MOVE = update(postponed).where(postponed.c.run_id == bindparam("b_run_id")).values(run_id=bindparam("b_end"))
_DROP_OF_RUNS = delete(postponed).where(postponed.c.run_id.in_(_RUN_IDS))
_OPEN = select(runs.c.run_id).where(runs.c.closed_at.is_(None))


class _End(NamedTuple):
    """The last run of a chain."""

    run_id: str
    is_closed: bool


class SqlPostponed:
    """Requests to runs that are sent later. All methods raise `Unreachable`."""

    def __init__(self, transactions: Transactions, sql_inbox: SqlInbox, *, namespace: str, now: Now) -> None:
        self._transactions = transactions
        self._inbox = sql_inbox
        self._namespace = namespace
        self._now = now

    def put(self, request: Request, due: datetime, connection: Connection | None = None) -> None:
        """Keep a request until it is due; one whose message id is there already counts once.

        Parameters:
          connection: the caller's own; it is kept if and only if its transaction is committed.
        """

        def work(own: Connection) -> None:
            values = request_values(request)
            del values["reply"]
            row = {**values, "due": due, "sent_at": time_of(own, self._now)}
            own.execute(insert_ignore(own.dialect.name, postponed), [row])

        if connection is None:
            self._transactions.written(work)
            return
        with told_as_faults():
            work(connection)

    def next_due(self, numbers: Collection[int], until: datetime) -> datetime | None:
        """When the next one for these partitions is due, if that is not after a moment."""
        with self._transactions.reading() as connection:
            values = {"partitions": list(numbers), "until": until}
            found: datetime | None = connection.scalar(_next_due(connection.dialect.name), values)
            return found

    def deliver(self, lease: Lease, now: datetime, limit: int) -> int:
        """Put what is due into the inbox, or keep it where its run is closed; how many were dealt with.

        Raises:
          Fenced: a partition has another owner; nothing was written.
        """
        with self._transactions.writing() as connection:
            values = {"partitions": list(lease.epochs), "now": now, "limit": limit}
            rows = connection.execute(_due(connection.dialect.name), values).all()
            if not rows:
                return 0
            numbers = {row.partition for row in rows}
            check_epochs(lease.of(numbers).epochs, connection.execute(LOCKED_EPOCHS, {"numbers": sorted(numbers)}))
            ends = _ends_of(connection, self._namespace, {row.run_id for row in rows})
            kept = [
                {"b_message_id": row.message_id, "b_run_id": ends[row.run_id].run_id}
                for row in rows
                if row.run_id in ends and ends[row.run_id].is_closed
            ]
            if kept:
                connection.execute(_KEEP, kept)
            stay = {each["b_message_id"] for each in kept}
            sent = [request_postponed(row) for row in rows if row.message_id not in stay]
            self._inbox.put_on(connection, sent)
            for part in slices([request.message_id for request in sent]):
                connection.execute(_DROP, {"message_ids": part})
            return len(rows)

    def take_up(self, numbers: Collection[int], run_ids: Collection[str] | None = None) -> None:
        """What was kept since its run was closed is due at once where the run goes on again.

        Parameters:
          run_ids: of these runs, which go on; by default of all in these partitions.
        """
        is_kept = is_one_of(postponed.c.partition, "partitions", self._transactions.dialect)
        again = update(postponed).where(is_kept, postponed.c.due.is_(None)).values(due=bindparam("now"))

        def work(connection: Connection) -> None:
            values: dict[str, Any] = {"partitions": list(numbers), "now": time_of(connection, self._now)}
            if run_ids is None:
                connection.execute(again.where(postponed.c.run_id.in_(_OPEN)), values)
                return
            for part in slices(sorted(run_ids)):
                connection.execute(again.where(postponed.c.run_id.in_(_RUN_IDS)), {**values, "run_ids": part})

        self._transactions.written(work)


def prune_postponed(connection: Connection, namespace: str, run_ids: Collection[str]) -> None:
    """Before these closed runs are deleted: what is for the end of a chain goes on to it, the rest goes with its run."""
    asked = connection.scalars(_OF_RUNS, {"run_ids": list(run_ids)}).all()
    if not asked:
        return
    ends = _ends_of(connection, namespace, set(asked))
    moves = [{"b_run_id": run_id, "b_end": end.run_id} for run_id, end in ends.items() if end.run_id not in run_ids]
    if moves:
        connection.execute(_MOVE, moves)
    connection.execute(_DROP_OF_RUNS, {"run_ids": list(run_ids)})


def _ends_of(connection: Connection, namespace: str, run_ids: Collection[str]) -> Mapping[str, _End]:
    """For runs that are there: the last of the runs that each continues as."""
    ends: dict[str, _End] = {}
    workflow_ids: set[str] = set()
    for part in slices(sorted(run_ids)):
        for row in connection.execute(_RUNS, {"run_ids": part}):
            ends[row.run_id] = _End(row.run_id, row.closed_at is not None and row.status != "CONTINUED")
            if row.status == "CONTINUED":
                workflow_ids.add(row.workflow_id)
    successors: dict[str, _End] = {}
    for part in slices(sorted(workflow_ids)):
        for row in connection.execute(_CHAINS, {"namespace": namespace, "workflow_ids": part}):
            is_closed = row.closed_at is not None and row.status != "CONTINUED"
            successors[row.continued_from] = _End(row.run_id, is_closed)
    return {run_id: _last(end, successors) for run_id, end in ends.items()}


def _last(end: _End, successors: Mapping[str, _End]) -> _End:
    while end.run_id in successors:
        end = successors[end.run_id]
    return end


@cache
def _next_due(dialect: str) -> Any:
    is_ours = is_one_of(postponed.c.partition, "partitions", dialect)
    return select(func.min(postponed.c.due, type_=postponed.c.due.type)).where(
        is_ours, postponed.c.due <= bindparam("until")
    )


@cache
def _due(dialect: str) -> Any:
    is_ours = is_one_of(postponed.c.partition, "partitions", dialect)
    return (
        select(postponed)
        .where(is_ours, postponed.c.due <= bindparam("now"))
        .order_by(postponed.c.due, postponed.c.message_id)
        .limit(bindparam("limit"))
        .with_for_update()
    )
