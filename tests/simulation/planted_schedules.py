"""Bugs of schedules that the simulation must find."""

# A bug reaches into what is private.
# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from dramaturg_coordinator.core.firing import Deciding, next_of, spec_in
from dramaturg_coordinator.schedules import Firer
from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.firing_times import times_of
from dramaturg_protocol.schedule_records import Fired, Found, ScheduleRecord
from dramaturg_store.memory_leases import LeaseTable
from dramaturg_store.memory_schedules import MemorySchedules


def fire_by_what_was_read_before() -> AbstractContextManager[Any]:
    """A coordinator decides by the row as it saw it when it looked for what is due, and nobody asks for its lease."""
    real_due, real_fire = MemorySchedules.next_due, MemorySchedules.fire

    def next_due(self: Any, *args: Any) -> Any:
        self.seen = dict(self._tables.schedules.rows)
        return real_due(self, *args)

    def fire(self: Any, ids: Any, lease: Any, decide: Any) -> Any:
        def by_what_was_seen(found: Found) -> Fired:
            fired: Fired = decide(replace(found, record=self.seen.get(found.record.id, found.record)))
            return fired

        with patch.object(LeaseTable, "check_fence", lambda *_: None):
            return real_fire(self, ids, lease, by_what_was_seen)

    return _both(patch.object(MemorySchedules, "next_due", next_due), patch.object(MemorySchedules, "fire", fire))


def take_a_lost_answer_for_done() -> AbstractContextManager[Any]:
    """Where a commit was not answered, the schedule goes on to the time after it."""
    real = Firer._fire

    def go_on(found: Found) -> Fired:
        record: ScheduleRecord = found.record
        return Fired(
            record if record.next_time is None else next_of(record, times_of(spec_in(record)), record.next_time)
        )

    def fire(self: Firer, ids: Any) -> None:
        try:
            real(self, ids)
        except Unreachable:
            self._schedules.fire(ids, self._lease, go_on)

    return patch.object(Firer, "_fire", fire)


def forget_what_was_missed() -> AbstractContextManager[Any]:
    """What was missed is left out, and not counted."""
    real = Deciding._done

    def done(self: Deciding, *args: Any) -> Fired:
        self._missed = 0
        return real(self, *args)

    return patch.object(Deciding, "_done", done)


def begin_beside_the_run_before() -> AbstractContextManager[Any]:
    """Runs that are open are not looked for."""
    return patch.object(MemorySchedules, "_open_runs", lambda *_: frozenset())


def _both(first: AbstractContextManager[Any], second: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
    stack = ExitStack()
    stack.enter_context(first)
    stack.enter_context(second)
    return stack
