"""What goes with time: closed runs with their events, answers that nobody fetched, keys of runs that are gone."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BindParameter, bindparam, delete, exists, select

from dramaturg_store.clock import Now
from dramaturg_store.database_time import time_of
from dramaturg_store.deaths import MEMORY
from dramaturg_store.large_values import prune_values
from dramaturg_store.postponed import prune_postponed
from dramaturg_store.schedules import FIRINGS_LIVE, old_firings
from dramaturg_store.schema import (
    coordinators,
    dead_letters,
    deaths,
    events,
    kept_results,
    open_work,
    replies,
    runs,
    slots,
    start_keys,
    value_uses,
    workflow_ids,
)
from dramaturg_store.transactions import Transactions

#: Closed runs deleted in one transaction: others write in between.
SLICE = 100
REPLIES_LIVE = timedelta(hours=1)
COORDINATORS_LIVE = timedelta(days=1)
KEYS_OUTLIVE = timedelta(days=30)

_OLD = (
    select(runs.c.run_id)
    .where(runs.c.namespace == bindparam("namespace"), runs.c.closed_at < bindparam("before"))
    .order_by(runs.c.closed_at)
    .limit(SLICE)
)
_RUN_IDS: BindParameter[Any] = bindparam("run_ids", expanding=True)
_IN_ORDER = tuple(
    delete(table).where(table.c.run_id.in_(_RUN_IDS))
    for table in (open_work, slots, events, value_uses, workflow_ids, dead_letters, runs)
)
_OLD_LETTERS = delete(dead_letters).where(
    dead_letters.c.namespace == bindparam("namespace"), dead_letters.c.closed_at < bindparam("before")
)
_OLD_REPLIES = delete(replies).where(replies.c.created_at < bindparam("before"))
_OLD_COORDINATORS = delete(coordinators).where(coordinators.c.seen_at < bindparam("before"))
_OLD_DEATHS = delete(deaths).where(deaths.c.last_at < bindparam("before"))
_OLD_RESULTS = delete(kept_results).where(kept_results.c.expires_at < bindparam("before"))
_OLD_KEYS = delete(start_keys).where(
    start_keys.c.created_at < bindparam("before"), ~exists().where(runs.c.run_id == start_keys.c.target)
)


class Prune:
    """Deletes what is old, in slices."""

    def __init__(self, transactions: Transactions, *, namespace: str, now: Now) -> None:
        self._transactions = transactions
        self._namespace = namespace
        self._now = now

    def closed_runs(self, older_than: timedelta) -> int:
        """Delete runs that closed longer ago than that, with all about them, and such dead letters; how many runs went."""
        with self._transactions.reading() as connection:
            before = time_of(connection, self._now) - older_than
        gone = 0
        while part := self._slice(before):
            gone += part
        with self._transactions.writing() as connection:
            connection.execute(_OLD_LETTERS, {"namespace": self._namespace, "before": before})
        return gone

    def by(self, retention: timedelta | None) -> None:
        """Delete what is past keeping: leftovers, and closed runs where they are not kept for ever."""
        self.leftovers()
        if retention is not None:
            self.closed_runs(retention)

    def leftovers(self) -> None:
        """Delete what nobody asks for any more: answers, results whose time is over, large values that no run has, coordinators and their deaths that are
        long past, keys of pruned runs after thirty days, firings of schedules after ninety.
        """
        with self._transactions.writing() as connection:
            now = time_of(connection, self._now)
            connection.execute(_OLD_REPLIES, {"before": now - REPLIES_LIVE})
            connection.execute(_OLD_COORDINATORS, {"before": now - COORDINATORS_LIVE})
            connection.execute(_OLD_DEATHS, {"before": now - MEMORY})
            connection.execute(_OLD_RESULTS, {"before": now})
            prune_values(connection, now)
            connection.execute(_OLD_KEYS, {"before": now - KEYS_OUTLIVE})
            connection.execute(old_firings(now - FIRINGS_LIVE))

    def _slice(self, before: datetime) -> int:
        with self._transactions.writing() as connection:
            run_ids = connection.scalars(_OLD, {"namespace": self._namespace, "before": before}).all()
            if run_ids:
                prune_postponed(connection, self._namespace, run_ids)
                for statement in _IN_ORDER:
                    connection.execute(statement, {"run_ids": list(run_ids)})
            return len(run_ids)
