"""Runs in which coordinators' processes died, counted here so that it holds across whoever takes over from whom."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import bindparam, case, select, update

from dramaturg_store.clock import Now
from dramaturg_store.database_time import time_of
from dramaturg_store.dialects import insert_ignore
from dramaturg_store.schema import deaths
from dramaturg_store.transactions import Transactions

#: With so many deaths a run is not given its code any more.
TOO_MANY = 2
#: Deaths count for so long.
MEMORY = timedelta(days=1)

_SINCE = bindparam("since", type_=deaths.c.last_at.type)
_COUNT = (
    update(deaths)
    .where(deaths.c.run_id == bindparam("b_run_id"), deaths.c.fingerprint == bindparam("b_fingerprint"))
    .values(
        number=case((deaths.c.last_at < _SINCE, 0), else_=deaths.c.number) + bindparam("more"),
        reason=bindparam("b_reason"),
        last_at=bindparam("b_last_at"),
    )
)
_DEADLY = select(deaths.c.run_id, deaths.c.reason).where(
    deaths.c.namespace == bindparam("namespace"),
    deaths.c.fingerprint == bindparam("fingerprint"),
    deaths.c.last_at >= _SINCE,
    deaths.c.number >= TOO_MANY,
)


class Deaths:
    """The deaths of processes with one code. Raises `Unreachable`.

    Parameters:
      fingerprint: of that code: with other code the count begins anew.
    """

    def __init__(self, transactions: Transactions, *, namespace: str, fingerprint: str, now: Now) -> None:
        self._transactions = transactions
        self._namespace = namespace
        self._fingerprint = fingerprint
        self._now = now

    def count(self, run_id: str, reason: str, *, is_certain: bool) -> None:
        """A process died while it advanced this run.

        Parameters:
          reason: how it ended, in words.
          is_certain: it was the run, and nothing else: once is enough.
        """
        with self._transactions.writing() as connection:
            now = time_of(connection, self._now)
            row = {"run_id": run_id, "fingerprint": self._fingerprint, "namespace": self._namespace}
            first = {**row, "number": 0, "reason": reason, "last_at": now}
            connection.execute(insert_ignore(self._transactions.dialect, deaths), first)
            values = {
                "b_run_id": run_id,
                "b_fingerprint": self._fingerprint,
                "b_reason": reason,
                "b_last_at": now,
                "since": now - MEMORY,
                "more": TOO_MANY if is_certain else 1,
            }
            connection.execute(_COUNT, values)

    def deadly(self) -> Mapping[str, str]:
        """The runs that are not to be given their code, each with the reason of the last death."""
        with self._transactions.reading() as connection:
            values = {
                "namespace": self._namespace,
                "fingerprint": self._fingerprint,
                "since": time_of(connection, self._now) - MEMORY,
            }
            return {row.run_id: row.reason for row in connection.execute(_DEADLY, values)}
