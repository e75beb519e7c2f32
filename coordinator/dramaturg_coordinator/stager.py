"""Sends on what was put off: between turns, as soon as it is due.

What is due for a run that is closed by then is kept as long as the run is, and sent when the run goes on again: a
retry or a reset says so, and whoever adopts a partition looks for those of which nobody told.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from dramaturg_coordinator.ports import Clock, Postponed
from dramaturg_coordinator.timers import HORIZON
from dramaturg_protocol import events as e
from dramaturg_protocol.records import Lease, RunWrites

#: Messages that are sent in one transaction.
BATCH = 500


class Stager:
    """Puts messages into the inbox when they are due, for the partitions of a lease."""

    def __init__(self, postponed: Postponed, *, lease: Lease, clock: Clock) -> None:
        self._postponed = postponed
        self._lease = lease
        self._clock = clock
        self._next: datetime | None = None
        self._is_new = True
        self._going_on: set[str] = set()

    def hold(self, lease: Lease) -> None:
        """Go on with these partitions."""
        self._lease = lease
        self._is_new = True

    def committed(self, writes: Sequence[RunWrites]) -> None:
        """A run that was closed may go on."""
        self._going_on.update(
            each.run_id for each in writes if any(isinstance(line.body, e.Cut) for line in each.events)
        )

    @property
    def next_due(self) -> datetime | None:
        """When the next one is due, as far as it is known; ``None`` where none is near."""
        return self._next

    def send(self, *, looks: bool) -> bool:
        """Send what is due; whether there was any.

        Parameters:
          looks: look also for what nobody told of.

        Raises:
          Fenced: some partitions are lost.
          Unreachable: the database does not answer.
        """
        now = self._clock.now()
        is_due = self._next is not None and self._next <= now
        if not (looks or is_due or self._is_new or self._going_on) or not self._lease.epochs:
            return False
        self._take_up()
        self._next = self._postponed.next_due(self._lease.epochs.keys(), now + HORIZON)
        if self._next is None or self._next > now:
            return False
        return self._postponed.deliver(self._lease, now, BATCH) > 0

    def _take_up(self) -> None:
        numbers = self._lease.epochs.keys()
        if self._is_new:
            self._postponed.take_up(numbers)
        elif self._going_on:
            self._postponed.take_up(numbers, self._going_on)
        self._is_new = False
        self._going_on.clear()
