"""Looks for grants and waiters of limits whose execution is over: rows that nobody would delete, places lost for good.

They are deleted in the commit that ends their execution, so there should be none. One partition is looked at at a time,
between two turns; what is found is told in the log, counted in ``dramaturg_leaked_slots``, and taken back.

So is what waits by its run, and no limit knows that: found in two looks, since a grant may be on its way, it asks anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta

from dramaturg_coordinator.limits import Limits
from dramaturg_coordinator.ports import Clock, Store
from dramaturg_protocol.records import Lease, RunWrites

logger = logging.getLogger("dramaturg.coordinator")

#: How many rows of a partition one look takes back.
LIMIT = 100
#: How long what was spent of a rate, and counts no more, is kept.
SPENT_KEPT = timedelta(minutes=1)


class LimitAudit:
    """Looks at one partition after the other.

    Parameters:
      lease: gives the lease of the moment.
      mend: has a run ask anew for what it waits for, in the next turn.
      is_ours: whether a run is one that this coordinator advances.

    Attributes:
      found: how many rows were taken back, and runs made to ask anew.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        limits: Limits,
        lease: Callable[[], Lease],
        *,
        mend: Callable[[str, int], None],
        is_ours: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._clock = clock
        self._limits = limits
        self._lease = lease
        self._mend = mend
        self._is_ours = is_ours
        self._doubtful: dict[int, frozenset[str]] = {}
        self._to_look_at: Iterator[int] = iter(())
        self.found = 0

    def look(self) -> None:
        """Look at the next partition.

        Raises:
          Fenced: the partition is lost.
          Unreachable: the database does not answer.
        """
        lease = self._lease()
        partition = next(self._to_look_at, None)
        if partition is None:
            self._to_look_at = iter(sorted(lease.epochs))
        elif partition in lease.epochs:
            self._look_at(partition, lease)
            self._look_for_forgotten(partition)

    def _look_at(self, partition: int, lease: Lease) -> None:
        now = self._clock.now()
        if self._limits.has_rates:
            self._store.forget_spent([partition], now - SPENT_KEPT)
        leaked = self._store.leaked_slots(partition, LIMIT)
        if not leaked:
            return
        for slot in leaked:
            logger.error("limit of %s: a row of run %s, step %d, outlived it", slot.name, slot.run_id, slot.seq)
        writes = RunWrites(leaked[0].limit_id, freed=[slot.ticket for slot in leaked], fences={partition})
        self._store.commit([writes], lease, now)
        self._limits.committed(writes)
        self.found += len(leaked)

    def _look_for_forgotten(self, partition: int) -> None:
        before = self._doubtful.get(partition, frozenset())
        found = frozenset(filter(self._is_ours, self._store.forgotten_waiters(partition, LIMIT)))
        self._doubtful[partition] = found - before
        for run_id in sorted(found & before):
            logger.error("run %s waits for a limit that does not know of it: it asks anew", run_id)
            self._mend(run_id, partition)
            self.found += 1
