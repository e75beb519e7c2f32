"""Figures of a whole namespace for its operator, read in one transaction: what is open, what waits, what was put aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, func, select

from dramaturg_protocol.schedule_records import ScheduleCounts
from dramaturg_store.clock import Now
from dramaturg_store.database_time import time_of
from dramaturg_store.dialects import UNREADABLE_MOMENT
from dramaturg_store.limit_figures import LimitFigures, limit_figures
from dramaturg_store.schedules import count_schedules
from dramaturg_store.schema import CLOSED, dead_letters, inbox, open_work, partitions, runs
from dramaturg_store.transactions import Transactions

OPEN = ("PENDING", "RUNNING", "WAITING", "PAUSED", "COMPENSATING", "BLOCKED")

_NAMESPACE: BindParameter[Any] = bindparam("namespace")
_MINE = select(partitions.c.id).where(partitions.c.namespace == _NAMESPACE)
# As a list: MariaDB takes what a subquery gives one by one, and all that is in each.
_IDS: BindParameter[Any] = bindparam("partitions", expanding=True)
# By a list of what is open, not of what is not closed: so it is read off the index.
_OPEN_RUNS = (
    select(runs.c.workflow, runs.c.status, func.count().label("number"))
    .where(runs.c.partition.in_(_IDS), runs.c.status.in_(OPEN))
    .group_by(runs.c.workflow, runs.c.status)
)
# No index has what changes with every turn: this reads the rows.
_LEAST_RECENT = (
    select(runs.c.workflow, runs.c.status, func.min(runs.c.updated_at).label("oldest"))
    .where(runs.c.partition.in_(_IDS), runs.c.status.in_(OPEN))
    .group_by(runs.c.workflow, runs.c.status)
)
_LETTERS = (
    select(dead_letters.c.source, func.count().label("number"))
    .where(dead_letters.c.namespace == _NAMESPACE, dead_letters.c.closed_at.is_(None))
    .group_by(dead_letters.c.source)
)
# The first to arrive, rather than the lowest time of all: one row, whatever the inbox holds.
_OLDEST_REQUEST = select(inbox.c.sent_at).where(inbox.c.partition.in_(_IDS)).order_by(inbox.c.arrival).limit(1)
_MOST_OVERDUE = select(func.min(open_work.c.due)).where(
    open_work.c.partition.in_(_IDS), open_work.c.due <= bindparam("now", type_=open_work.c.due.type)
)

#: How often it is looked which open run moved least recently.
_IDLE_PERIOD = timedelta(minutes=1)

assert not set(OPEN) & set(CLOSED)


@dataclass(frozen=True, slots=True)
class OpenRuns:
    """The open runs of one workflow and status.

    Attributes:
      idle_seconds: how long the one that moved last did not move: the longest of them; as it was up to a minute ago.
    """

    workflow: str
    status: str
    count: int
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """What the database says at one moment.

    Attributes:
      dead_letters: how many are open, by their kind.
      schedules: how they stand.
      limits: what they have granted, and who waits.
      lag_seconds: for how long the oldest request, or whatever was due, has been waiting; 0 where nothing waits.
    """

    open_runs: Sequence[OpenRuns]
    dead_letters: dict[str, int]
    lag_seconds: float
    schedules: ScheduleCounts = field(default_factory=ScheduleCounts)
    limits: Sequence[LimitFigures] = ()


class Figures:
    """Reads the figures of one namespace. Raises `Unreachable`."""

    def __init__(self, transactions: Transactions, *, namespace: str, now: Now) -> None:
        self._transactions = transactions
        self._namespace = namespace
        self._now = now
        self._least_recent: dict[tuple[str, str], datetime] = {}
        self._looked_at = UNREADABLE_MOMENT

    def read(self) -> StoreFigures:
        """The figures of this moment, by the clock that stamps the rows."""
        mine = {"namespace": self._namespace}
        with self._transactions.reading() as connection:
            now = time_of(connection, self._now)
            ids = {"partitions": connection.scalars(_MINE, mine).all()}
            open_runs = self._open_runs(connection, ids, now)
            letters = {row.source: row.number for row in connection.execute(_LETTERS, mine)}
            oldest = connection.execute(_OLDEST_REQUEST, ids).scalar()
            overdue = connection.execute(_MOST_OVERDUE, {**ids, "now": now}).scalar()
            schedules = count_schedules(connection, self._namespace, now)
            limits = tuple(limit_figures(connection, ids["partitions"], now))
        return StoreFigures(open_runs, letters, max(_age(now, oldest), _age(now, overdue)), schedules, limits)

    def _open_runs(self, connection: Connection, ids: dict[str, Sequence[int]], now: datetime) -> Sequence[OpenRuns]:
        counted = {(row.workflow, row.status): row.number for row in connection.execute(_OPEN_RUNS, ids)}
        if now - self._looked_at >= _IDLE_PERIOD or not counted.keys() <= self._least_recent.keys():
            found = connection.execute(_LEAST_RECENT, ids)
            self._least_recent = {(row.workflow, row.status): row.oldest for row in found}
            self._looked_at = now
        return [OpenRuns(*key, number, _age(now, self._least_recent.get(key))) for key, number in counted.items()]


def _age(now: datetime, since: datetime | None) -> float:
    return 0.0 if since is None else max(now - since, timedelta(0)).total_seconds()
