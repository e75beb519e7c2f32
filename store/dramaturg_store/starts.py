"""Starts as clients submit them: all of a call in one transaction, decided by whoever writes first.

A key or an id is claimed by a row: inserted unless it is there, then read again. On databases with row locks a
claim of somebody else that is not committed yet is waited for, so that two starts never both believe they are first;
on SQLite there is one writer at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, case, null, select, update

from dramaturg_protocol.records import StartOrder, StartOutcome
from dramaturg_store.claims import OPENING
from dramaturg_store.clock import Now
from dramaturg_store.database_time import time_of
from dramaturg_store.dialects import MYSQL_NAMES, begin, insert_ignore
from dramaturg_store.inbox import SqlInbox
from dramaturg_store.schema import inbox, runs, start_keys, workflow_ids
from dramaturg_store.slices import slices
from dramaturg_store.start_rules import Decided, KeyRow, Known, decide_starts, is_first, start_request
from dramaturg_store.transactions import Transactions, told_as_faults

_KEYS = (
    select(start_keys)
    .where(start_keys.c.run_id.in_(bindparam("run_ids", expanding=True)))
    .order_by(start_keys.c.run_id)
    .with_for_update()
)
_RETARGET = update(start_keys).where(start_keys.c.run_id == bindparam("b_run_id")).values(target=bindparam("b_target"))
_IDS = (
    select(workflow_ids.c.workflow_id, workflow_ids.c.run_id)
    .where(
        workflow_ids.c.namespace == bindparam("namespace"),
        workflow_ids.c.workflow_id.in_(bindparam("workflow_ids", expanding=True)),
    )
    .order_by(workflow_ids.c.workflow_id)
    .with_for_update()
)
_GIVE_ID = (
    update(workflow_ids)
    .where(workflow_ids.c.namespace == bindparam("b_namespace"), workflow_ids.c.workflow_id == bindparam("b_id"))
    .values(run_id=bindparam("b_run_id"))
)
# One statement: a start that is taken meanwhile is either still in the inbox or among the runs already. A closed run that
# is to go on counts as open.
_THERE = (
    select(inbox.c.run_id, null().label("status"))
    .where(inbox.c.run_id.in_(bindparam("run_ids", expanding=True)), inbox.c.kind.in_(OPENING))
    .union_all(
        select(runs.c.run_id, case((runs.c.closed_at.is_not(None), runs.c.status))).where(
            runs.c.run_id.in_(bindparam("run_ids", expanding=True))
        )
    )
)


class SqlStarts:
    """Where starts of one namespace are submitted."""

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

    def submit(self, orders: Sequence[StartOrder], connection: Connection | None = None) -> list[StartOutcome]:
        """Submit starts, all or none; an order that was submitted before counts once.

        Parameters:
          connection: the caller's own; the runs begin if and only if its transaction is committed.

        Raises:
          AlreadyStarted: a workflow id is taken and the order does not say what to do then.
          IdempotencyMismatch: a key was used with other arguments.
          Unreachable: the database does not answer.
        """
        if not orders:
            return []
        if connection is None:
            return self._submit_plain(orders) or self._transactions.written(lambda own: self._submit_on(own, orders))
        with told_as_faults():
            begin(connection, for_write=True)
            # A savepoint: the caller may catch our error and commit what else he wrote.
            with connection.begin_nested():
                return self._submit_on(connection, orders, is_callers=True)

    def _submit_plain(self, orders: Sequence[StartOrder]) -> list[StartOutcome]:
        """Submit starts that can meet no other, in one round trip; nothing where there is more to decide."""
        if any(order.digest is not None or order.has_explicit_id or order.signal for order in orders):
            return []
        sent = self._inbox.put_starts([start_request(order, self._partition_of(order.workflow_id)) for order in orders])
        if sent is None:
            return []
        outcomes: list[StartOutcome] = []
        for order in orders:
            outcomes.append(StartOutcome(order.run_id, order.workflow_id, is_new=order.message_id in sent))
            sent.discard(order.message_id)  # the same order twice in one call
        return outcomes

    def _submit_on(
        self, connection: Connection, orders: Sequence[StartOrder], *, is_callers: bool = False
    ) -> list[StartOutcome]:
        keys = self._claim_keys(connection, orders)
        known = Known(keys, self._claim_ids(connection, [order for order in orders if is_first(order, keys)]))
        names = {order.run_id for order in orders} | set(known.ids.values())
        known.statuses = _statuses(connection, names)
        if is_callers and connection.dialect.name in MYSQL_NAMES:
            # By default these begin a transaction with what was there at its first read: whose row we waited for is not.
            with self._transactions.reading() as fresh:
                known.statuses |= _statuses(fresh, names)
        decided = decide_starts(orders, known, self._partition_of)
        self._write(connection, decided)
        return decided.outcomes

    def _claim_keys(self, connection: Connection, orders: Sequence[StartOrder]) -> dict[str, KeyRow]:
        keyed = [order for order in orders if order.digest is not None]
        if not keyed:
            return {}
        now = time_of(connection, self._now)
        rows = [
            {
                "run_id": order.run_id,
                "digest": order.digest,
                "target": order.run_id,
                "workflow_id": order.workflow_id,
                "message_id": order.message_id,
                "created_at": now,
            }
            for order in keyed
        ]
        _insert_ignore(connection, start_keys, sorted(rows, key=lambda row: str(row["run_id"])))
        found = _in_slices(connection, _KEYS, "run_ids", {row["run_id"] for row in rows})
        return {row.run_id: KeyRow(row.digest, row.target, row.workflow_id, row.message_id) for row in found}

    def _claim_ids(self, connection: Connection, orders: Sequence[StartOrder]) -> dict[str, str]:
        wanted: dict[str, str] = {}
        for order in orders:
            if order.has_explicit_id:
                wanted.setdefault(order.workflow_id, order.run_id)
        rows = [
            {"namespace": self._namespace, "workflow_id": workflow_id, "run_id": run_id}
            for workflow_id, run_id in sorted(wanted.items())
        ]
        _insert_ignore(connection, workflow_ids, rows)
        found = _in_slices(connection, _IDS, "workflow_ids", wanted, namespace=self._namespace)
        return {row.workflow_id: row.run_id for row in found}

    def _write(self, connection: Connection, decided: Decided) -> None:
        if decided.targets:
            moved = [{"b_run_id": run_id, "b_target": target} for run_id, target in decided.targets.items()]
            connection.execute(_RETARGET, moved)
        if decided.ids:
            given = [
                {"b_namespace": self._namespace, "b_id": workflow_id, "b_run_id": run_id}
                for workflow_id, run_id in decided.ids.items()
            ]
            connection.execute(_GIVE_ID, given)
        self._inbox.put_on(connection, decided.requests)


def _statuses(connection: Connection, run_ids: Collection[str]) -> dict[str, str | None]:
    rows = _in_slices(connection, _THERE, "run_ids", run_ids)
    opening = {row.run_id for row in rows if row.status is None}
    return {row.run_id: None if row.run_id in opening else row.status for row in rows}


def _insert_ignore(connection: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert_ignore(connection.dialect.name, table), rows)


def _in_slices(connection: Connection, statement: Any, name: str, values: Collection[Any], **others: Any) -> list[Any]:
    found: list[Any] = []
    for part in slices(sorted(values)):
        found += connection.execute(statement, {name: part, **others}).all()
    return found
