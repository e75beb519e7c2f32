"""Coordinators that are there, with the code that they have registered; all by the database's clock.

A coordinator that nobody heard of for `SILENCE` is taken for gone. What one does that finds code of another about is
told in ``dramaturg_coordinator.parking``.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

from sqlalchemy import bindparam, delete, select, update

from dramaturg_store.clock import Now
from dramaturg_store.database_time import time_of
from dramaturg_store.dialects import upsert
from dramaturg_store.schema import coordinators
from dramaturg_store.transactions import Transactions

#: A coordinator that said nothing for so long is taken for gone.
SILENCE = timedelta(seconds=30)

_REFRESH = update(coordinators).where(coordinators.c.id == bindparam("b_id")).values(seen_at=bindparam("seen_at"))
_REMOVE = delete(coordinators).where(coordinators.c.id == bindparam("b_id"))
_ALIVE = (
    select(coordinators.c.fingerprint)
    .where(coordinators.c.namespace == bindparam("namespace"), coordinators.c.seen_at >= bindparam("since"))
    .order_by(coordinators.c.started_at, coordinators.c.id)
)


class Registry:
    """Where a coordinator of a namespace says that it is there."""

    def __init__(self, transactions: Transactions, *, namespace: str, now: Now) -> None:
        self._transactions = transactions
        self._namespace = namespace
        self._now = now

    def announce(
        self,
        coordinator: str,
        *,
        fingerprint: str,
        workflows: Mapping[str, Sequence[int]],
        schedules: Collection[str] = (),
    ) -> None:
        """Say that this process is there.

        Parameters:
          coordinator: its id, the owner of its leases.
          fingerprint: of its registry.
          workflows: the versions that it has of each workflow.
          schedules: the ids of those that its code declares.
        """
        with self._transactions.writing() as connection:
            now = time_of(connection, self._now)
            row = {
                "id": coordinator,
                "namespace": self._namespace,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "started_at": now,
                "seen_at": now,
                "fingerprint": fingerprint,
                "workflows": json.dumps({name: list(versions) for name, versions in workflows.items()}),
                "schedules": json.dumps(sorted(schedules)),
            }
            connection.execute(upsert(self._transactions.dialect, coordinators), row)

    def refresh(self, coordinator: str) -> None:
        """Say that it is still there."""
        with self._transactions.writing() as connection:
            connection.execute(_REFRESH, {"b_id": coordinator, "seen_at": time_of(connection, self._now)})

    def remove(self, coordinator: str) -> None:
        """Say that it is gone."""
        with self._transactions.writing() as connection:
            connection.execute(_REMOVE, {"b_id": coordinator})

    def code_alive(self) -> Sequence[str]:
        """The fingerprints of the coordinators that are there, each once, the newest last."""
        with self._transactions.reading() as connection:
            since = time_of(connection, self._now) - SILENCE
            found = connection.scalars(_ALIVE, {"namespace": self._namespace, "since": since})
            return list(dict.fromkeys(found))
