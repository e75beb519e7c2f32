"""Reads of the approvals that are open: the rows of open work of that kind, with the runs that wait."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic_core import to_json
from sqlalchemy import ColumnElement, bindparam, or_, select

from dramaturg_protocol.records import WorkKind
from dramaturg_protocol.shown import shown_json
from dramaturg_store.rows import StoredRow
from dramaturg_store.schema import open_work, partitions, runs
from dramaturg_store.transactions import Transactions

_COLUMNS = (
    open_work.c.run_id,
    open_work.c.generation,
    open_work.c.seq,
    open_work.c.due,
    open_work.c.message,
    runs.c.workflow_id,
    runs.c.workflow,
)
# What the row holds begins with the time at which people were asked: so its text puts them in order.
_OLDEST_FIRST = (open_work.c.message, open_work.c.run_id, open_work.c.generation, open_work.c.seq)
_OPEN = (
    select(*_COLUMNS)
    .join(runs, runs.c.run_id == open_work.c.run_id)
    .where(
        open_work.c.partition.in_(
            select(partitions.c.id).where(partitions.c.namespace == bindparam("namespace")).scalar_subquery()
        ),
        open_work.c.kind == WorkKind.APPROVAL.value,
    )
    .order_by(*_OLDEST_FIRST)
)


@dataclass(frozen=True, slots=True)
class OpenApprovalRow:
    """An approval that waits.

    Attributes:
      since: when people were asked.
      due: when it times out; ``None`` for never.
      details: as plain JSON.
    """

    run_id: str
    generation: int
    seq: int
    workflow_id: str
    workflow: str
    name: str
    approvers: tuple[str, ...]
    prompt: str
    details: Any
    since: datetime
    due: datetime | None


class SqlApprovals:
    """The open approvals of one namespace. All methods raise `Unreachable`."""

    def __init__(self, transactions: Transactions, *, namespace: str) -> None:
        self._transactions = transactions
        self._namespace = namespace

    def list(
        self, *, workflow: str | None = None, name: str | None = None, approver: str | None = None, limit: int = 50
    ) -> Sequence[OpenApprovalRow]:
        """Those that wait, the oldest first.

        Parameters:
          workflow: of this workflow only.
          name: of this name only.
          approver: those that this person may decide: they are named, or nobody is.
          limit: how many.
        """
        wanted = _OPEN
        if workflow is not None:
            wanted = wanted.where(runs.c.workflow == workflow)
        # The database leaves out nearly all others; whether the words stand where they must is looked at here.
        if name is not None:
            wanted = wanted.where(_says(f'"name":{_json(name)}'))
        if approver is not None:
            wanted = wanted.where(or_(_says('"approvers":[]'), _says(_json(approver))))
        found: list[OpenApprovalRow] = []
        for row in self._pages(wanted, limit):
            is_theirs = approver is None or not row.approvers or approver in row.approvers
            if is_theirs and (name is None or row.name == name):
                found.append(row)
                if len(found) == limit:
                    break
        return found

    def get(self, run_id: str, generation: int, seq: int) -> OpenApprovalRow | None:
        """One of them; ``None`` where it is not open."""
        wanted = _OPEN.where(open_work.c.run_id == run_id, open_work.c.generation == generation, open_work.c.seq == seq)
        return next(self._pages(wanted, 1), None)

    def _pages(self, wanted: Any, limit: int) -> Iterator[OpenApprovalRow]:
        size, offset = max(limit, 100), 0
        with self._transactions.reading() as connection:
            while True:
                rows = connection.execute(wanted.limit(size).offset(offset), {"namespace": self._namespace}).all()
                for row in rows:
                    yield _approval(row)
                if len(rows) < size:
                    return
                offset, size = offset + size, size * 4


def _approval(row: StoredRow) -> OpenApprovalRow:
    # What is sealed is opened where the codec is there, and secrets are masked.
    shown: dict[str, Any] = shown_json(row.message)
    return OpenApprovalRow(
        run_id=row.run_id,
        generation=row.generation,
        seq=row.seq,
        workflow_id=row.workflow_id,
        workflow=row.workflow,
        name=shown["name"],
        approvers=tuple(shown["approvers"]),
        prompt=shown["prompt"],
        details=shown.get("details"),
        since=datetime.fromisoformat(shown["since"]),
        due=row.due,
    )


def _says(words: str) -> ColumnElement[bool]:
    return open_work.c.message.contains(words, autoescape=True)


def _json(text: str) -> str:
    return to_json(text).decode()
