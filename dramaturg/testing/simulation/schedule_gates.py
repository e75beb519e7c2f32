"""The port `Schedules` of one coordinator, around the real one: the gate of what begins runs by itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from dramaturg.testing.simulation import happenings as h
from dramaturg.testing.simulation.faults import FaultKind
from dramaturg.testing.simulation.gates import Gate
from dramaturg_coordinator.ports import Schedules
from dramaturg_protocol.records import Lease
from dramaturg_protocol.schedule_records import Fired, Found

_FIRE = (
    FaultKind.CRASH_BEFORE,
    FaultKind.CRASH_AFTER,
    FaultKind.PAUSE_BEFORE,
    FaultKind.PAUSE_AFTER,
    FaultKind.FAIL_BEFORE,
    FaultKind.FAIL_AFTER,
    FaultKind.FAIL_AFTER,
)


class GatedSchedules:
    """The port `Schedules`."""

    def __init__(self, schedules: Schedules, gate: Gate, process: str) -> None:
        self._schedules = schedules
        self._gate = gate
        self._process = process

    def next_due(self, numbers: Collection[int], limit: int) -> Sequence[tuple[str, datetime]]:
        """As the store."""
        return self._gate.read("next_due", lambda: self._schedules.next_due(numbers, limit))

    def waiting(self, numbers: Collection[int]) -> Mapping[str, Sequence[str]]:
        """As the store."""
        return self._gate.read("waiting", lambda: self._schedules.waiting(numbers))

    def open_among(self, run_ids: Collection[str]) -> Collection[str]:
        """As the store."""
        return self._gate.read("open_among", lambda: self._schedules.open_among(run_ids))

    def fire(self, ids: Collection[str], lease: Lease, decide: Callable[[Found], Fired]) -> Sequence[Fired]:
        """Decide and write."""
        fault = self._gate.draw("fire", _FIRE)
        fired = tuple(self._schedules.fire(ids, lease, decide))
        self._gate.leave("fire", fault, h.Decided(self._process, fired, lease))
        return fired

    def partition_of(self, workflow_id: str) -> int:
        """As the store."""
        return self._schedules.partition_of(workflow_id)

    def workflow_names(self) -> Collection[str]:
        """As the store."""
        return self._schedules.workflow_names()
