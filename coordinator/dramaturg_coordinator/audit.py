"""The audit: now and then it is looked for open runs that nothing will bring on.

There should be none, and nobody would notice one. One partition is asked at a time, for runs without any row of open
work and without a request: one look-up in an index for each of its open runs. What is found is judged by
`core.audit.gaps`, told in the log, counted in ``dramaturg_stuck_runs``, and mended where the history says how: a step or timer
whose row is gone gets it again, a child that is closed tells its parent once more. A workflow that waits for what its own code never does is told and left.

It runs between two turns, so that nothing of the partition is under way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator

from dramaturg_coordinator.core.audit import gaps
from dramaturg_coordinator.core.evolve import fold
from dramaturg_coordinator.ports import Store
from dramaturg_protocol.records import StoredRun

logger = logging.getLogger("dramaturg.coordinator")

#: How many runs of a partition one look judges.
LIMIT = 100


class Audit:
    """Looks at one partition after the other.

    Parameters:
      held: gives the partitions that are held at the moment.
      mend: has a run's missing rows written in the next turn.
      is_ours: whether a run is one that this coordinator advances.
    """

    def __init__(
        self,
        store: Store,
        held: Callable[[], Collection[int]],
        *,
        mend: Callable[[str, int], None],
        is_ours: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._held = held
        self._mend = mend
        self._is_ours = is_ours
        self._to_look_at: Iterator[int] = iter(())
        self._stuck: dict[int, frozenset[str]] = {}

    @property
    def stuck(self) -> int:
        """How many runs are stuck in the partitions that are held, as of the last look at each."""
        held = self._held()
        return sum(len(found) for partition, found in list(self._stuck.items()) if partition in held)

    def look(self) -> None:
        """Look at the next partition. Raises `Unreachable`."""
        partition = next(self._to_look_at, None)
        if partition is None:
            self._to_look_at = iter(sorted(self._held()))
            return
        if partition in self._held():
            self._look_at(partition)

    def _look_at(self, partition: int) -> None:
        before = self._stuck.get(partition, frozenset())
        ids = [run_id for run_id in self._store.idle_runs(partition, LIMIT) if self._is_ours(run_id)]
        stuck = frozenset(run_id for run_id in ids if self._is_stuck(run_id, partition, is_known=run_id in before))
        self._stuck[partition] = stuck
        for run_id in self._store.orphans(partition, LIMIT):
            if self._is_ours(run_id):
                logger.error("run %s waits for a child that has ended: the child is asked to tell of its end", run_id)
                self._mend(run_id, partition)

    def _is_stuck(self, run_id: str, partition: int, *, is_known: bool) -> bool:
        found = self._store.load([run_id]).get(run_id)
        if not isinstance(found, StoredRun):
            return False
        state = fold(run_id, partition, found.history)
        problems = gaps(state, (), has_requests=False, is_waiting=found.record.waits is not None)
        if problems and not is_known:
            what = "; ".join(gap.problem for gap in problems[:3])
            does = "its rows are written again" if state.open_keys else "it waits for what its own code never does"
            logger.error("run %s is stuck: %s (%s)", run_id, what, does)
        if state.open_keys:
            self._mend(run_id, partition)
        return bool(problems)
