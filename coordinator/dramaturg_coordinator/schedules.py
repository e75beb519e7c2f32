"""Fires the schedules of the partitions that are held: between turns, as soon as they are due.

    due, or a run that a firing waits for is closed ── lock its row, decide, write: one transaction ──► starts in the inbox

Its row is looked at again under the lock, so that a schedule which somebody paused, deleted or fired meanwhile does what
holds then. One that cannot fire is put aside with a dead letter; all others fire.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from pydantic_core import to_json

from dramaturg_coordinator.core.firing import Deciding, put_aside
from dramaturg_coordinator.ports import Clock, Schedules
from dramaturg_protocol.definitions import Registry
from dramaturg_protocol.errors import InvalidSchedule
from dramaturg_protocol.faults import Refused
from dramaturg_protocol.records import DeadLetter, Lease, LetterKind, RunWrites
from dramaturg_protocol.schedule_records import SCHEDULE_TAG, Fired, Found

logger = logging.getLogger("dramaturg.coordinator")

#: Schedules that are decided in one transaction.
BATCH = 1_000
#: Seconds for which schedules may fire before runs have their turn.
SLICE = 0.5

OnFired = Callable[[Sequence[Fired]], object]


class Firer:
    """Fires schedules, for the partitions of a lease.

    Parameters:
      registry: which workflows there are.
      on_fired: is told what was decided and committed.
      monotonic: the clock of this machine, in seconds.
    """

    def __init__(
        self,
        schedules: Schedules,
        *,
        namespace: str,
        lease: Lease,
        clock: Clock,
        registry: Registry,
        on_fired: OnFired | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._schedules = schedules
        self._namespace = namespace
        self._lease = lease
        self._clock = clock
        self._registry = registry
        self._on_fired = on_fired
        self._monotonic = monotonic
        self._next: datetime | None = None
        self._is_poked = True

    def hold(self, lease: Lease) -> None:
        """Go on with these partitions."""
        self._lease = lease
        self._next = None
        self._is_poked = True

    def committed(self, writes: Sequence[RunWrites]) -> None:
        """A run that is closed may be one that a firing waits for."""
        if any(run.is_closed and run.record is not None and SCHEDULE_TAG in run.record.tags for run in writes):
            self._is_poked = True

    @property
    def next_due(self) -> datetime | None:
        """When the next one is due, as far as it is known; ``None`` for never."""
        return self._next

    def fire(self, *, looks: bool) -> bool:
        """Fire what is due; whether anything was.

        Parameters:
          looks: look also for what nobody told of: new schedules, and runs that others closed.

        Raises:
          Fenced: some partitions are lost.
          Unreachable: the database does not answer.
        """
        is_due = self._next is not None and self._next <= self._clock.now()
        if not (looks or is_due or self._is_poked):
            return False
        until = self._monotonic() + SLICE
        any_fired = False
        ids = set(self._free())
        while self._lease.epochs:
            ids.update(self._due())
            if not ids:
                break
            self._fire(sorted(ids))
            any_fired = True
            if self._monotonic() >= until:
                self._is_poked = True
                return True
            ids = set[str]()
        self._is_poked = False
        return any_fired

    def _due(self) -> Collection[str]:
        now = self._clock.now()
        rows = self._schedules.next_due(self._lease.epochs.keys(), BATCH)
        due = [schedule_id for schedule_id, moment in rows if moment <= now]
        later = [moment for _, moment in rows[len(due) :]]
        self._next = later[0] if later else (now if due else None)
        return due

    def _free(self) -> Collection[str]:
        """Schedules of which firings wait, and the run before is closed."""
        if not self._lease.epochs:
            return ()
        waiting = self._schedules.waiting(self._lease.epochs.keys())
        if not waiting:
            return ()
        still_open = set(self._schedules.open_among({run_id for run_ids in waiting.values() for run_id in run_ids}))
        return [schedule_id for schedule_id, run_ids in waiting.items() if still_open.isdisjoint(run_ids)]

    def _fire(self, ids: Sequence[str]) -> None:
        try:
            fired = self._schedules.fire(ids, self._lease, self._decide)
        except Refused as refused:
            if len(ids) > 1:
                half = len(ids) // 2
                self._fire(ids[:half])
                self._fire(ids[half:])
                return
            reason = f"the database refuses what it is to do: {refused}"
            fired = self._schedules.fire(ids, self._lease, lambda found: self._aside(found, reason))
        if self._on_fired is not None:
            self._on_fired(fired)

    def _decide(self, found: Found) -> Fired:
        record, now = found.record, self._clock.now()
        if not self._is_known(record.workflow):
            return self._aside(found, f"no coordinator has its workflow {record.workflow!r}")
        try:
            return Deciding(found, now, namespace=self._namespace, partition_of=self._schedules.partition_of).fire()
        except InvalidSchedule as problem:
            return self._aside(found, str(problem))
        except Exception as error:
            logger.exception("schedule %s cannot be decided; please report this", record.id)
            return self._aside(found, f"{type(error).__name__}: {error}")

    def _aside(self, found: Found, reason: str) -> Fired:
        record = found.record
        logger.error("schedule %s does not fire any more: %s. Mend it, then resume it", record.id, reason)
        body = to_json({"schedule": record.id, "workflow": record.workflow, "spec": record.spec}).decode()
        now = self._clock.now()
        letter = DeadLetter(LetterKind.SCHEDULE, reason[:2000], body, partition=record.partition, at=now)
        return Fired(put_aside(record, reason[:2000], now), letters=[letter])

    def _is_known(self, workflow: str) -> bool:
        return self._registry.workflow(workflow) is not None or workflow in self._schedules.workflow_names()
