"""What a coordinator knows of the others: whether their code is not its own, and which runs it leaves to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import bindparam, delete

from dramaturg_protocol.sealing import seal_words
from dramaturg_store.clock import Now
from dramaturg_store.database_time import time_of
from dramaturg_store.deaths import Deaths
from dramaturg_store.dialects import upsert
from dramaturg_store.registry import Registry
from dramaturg_store.schema import parked
from dramaturg_store.slices import SLICE, slices
from dramaturg_store.transactions import Transactions

_CLEAR = delete(parked).where(parked.c.partition.in_(bindparam("partitions", expanding=True)))


class SqlPeers:
    """The port `Peers`.

    Parameters:
      fingerprint: of the code of this process.
    """

    def __init__(
        self, transactions: Transactions, registry: Registry, deaths: Deaths, *, fingerprint: str, now: Now
    ) -> None:
        self._transactions = transactions
        self._registry = registry
        self._deaths = deaths
        self._fingerprint = fingerprint
        self._now = now

    def other_code(self) -> Sequence[str]:
        """The fingerprints of live coordinators that are not ours, the newest last."""
        return [each for each in self._registry.code_alive() if each != self._fingerprint]

    def park(self, partitions: Mapping[str, int], reasons: Mapping[str, str]) -> None:
        """Show runs as parked."""
        with self._transactions.writing() as connection:
            since = time_of(connection, self._now)
            rows = [
                {"run_id": run_id, "partition": partitions[run_id], "reason": seal_words(reason), "since": since}
                for run_id, reason in sorted(reasons.items())
            ]
            for part in slices(rows, SLICE):
                connection.execute(upsert(self._transactions.dialect, parked), part)

    def clear(self, partitions: Collection[int]) -> None:
        """Show no run of these partitions as parked any more."""
        with self._transactions.writing() as connection:
            connection.execute(_CLEAR, {"partitions": sorted(partitions)})

    def deadly(self) -> Mapping[str, str]:
        """Runs in which processes with our code died too often, each with what happened, in words."""
        return self._deaths.deadly()
