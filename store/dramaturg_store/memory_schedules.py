"""The in-memory twin of `SqlSchedules`: schedules, and the times of theirs that have a run or wait for one."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from dramaturg_protocol.messages import RequestKind
from dramaturg_protocol.records import Lease, RunRecord
from dramaturg_protocol.schedule_records import Fired, Firing, Found, Paused, ScheduleRecord
from dramaturg_store.dialects import storable
from dramaturg_store.schedules import WAITING_READ, Decide


class ScheduleTable:
    """All schedules by id, and their firings by schedule and time."""

    def __init__(self) -> None:
        self.rows: dict[str, ScheduleRecord] = {}
        self.firings: dict[str, dict[datetime, Firing]] = {}

    def found(self, schedule_id: str, open_runs: Collection[str]) -> Found | None:
        """A schedule with what is to be known to decide about it."""
        record = self.rows.get(schedule_id)
        if record is None:
            return None
        waiting = [firing for _, firing in sorted(self.firings.get(schedule_id, {}).items()) if firing.run_id is None]
        return Found(record, waiting[:WAITING_READ], frozenset(record.running).intersection(open_runs))

    def write(self, fired: Fired) -> None:
        """What was decided about one schedule."""
        record = fired.record
        firings = self.firings.setdefault(record.id, {})
        if fired.drops_waiting:
            for time in [time for time, firing in firings.items() if firing.run_id is None]:
                del firings[time]
        self.rows[record.id] = replace(record, note=storable(record.note))
        firings.update((firing.time, firing) for firing in fired.firings)


class MemorySchedules:
    """The port `Schedules` in memory, with what people ask of it.

    Parameters:
      tables: what is kept.
      write_rest: writes the requests and dead letters that follow from a decision.
    """

    def __init__(self, tables: Any, *, partition_of: Callable[[str], int], write_rest: Callable[[Fired], None]) -> None:
        self._tables = tables
        self._partition_of = partition_of
        self._write_rest = write_rest

    @property
    def _table(self) -> ScheduleTable:
        table: ScheduleTable = self._tables.schedules
        return table

    def partition_of(self, workflow_id: str) -> int:
        """The partition of a workflow id, and of a schedule by its own id."""
        return self._partition_of(workflow_id)

    # For a coordinator.

    def next_due(self, numbers: Collection[int], limit: int) -> Sequence[tuple[str, datetime]]:
        """The schedules of these partitions that are due next, with the moment, in this order."""
        with self._tables.lock:
            due = [
                (record.next_due, record.id)
                for record in self._table.rows.values()
                if record.partition in numbers and record.next_due is not None
            ]
        return [(schedule_id, moment) for moment, schedule_id in sorted(due)[:limit]]

    def waiting(self, numbers: Collection[int]) -> Mapping[str, Sequence[str]]:
        """The schedules of these partitions of which firings wait, each with the runs that it waits for."""
        with self._tables.lock:
            return {
                record.id: record.running
                for record in self._table.rows.values()
                if record.partition in numbers and record.waiting and record.paused != Paused.TROUBLE
            }

    def open_among(self, run_ids: Collection[str]) -> frozenset[str]:
        """Those of these runs that are open, or whose start still waits."""
        with self._tables.lock:
            return self._open_runs(run_ids)

    def fire(self, ids: Collection[str], lease: Lease, decide: Decide) -> Sequence[Fired]:
        """Decide about schedules, and write what follows, all or nothing.

        Raises:
          Fenced: a partition has another owner.
        """
        with self._tables.lock:
            found = [each for schedule_id in sorted(ids) if (each := self._found(schedule_id)) is not None]
            numbers = {each.record.partition for each in found} & lease.epochs.keys()
            self._tables.leases.check_fence(lease.of(numbers).epochs.items())
            decided = [decide(each) for each in found if each.record.partition in numbers]
            self._write(decided)
            return decided

    def workflow_names(self) -> frozenset[str]:
        """The workflows that the coordinators there have registered: here nobody says so."""
        return frozenset()

    # For those who change them, and for people.

    def change(self, schedule_id: str, change: Callable[[Found | None], Fired | None]) -> Fired | None:
        """Write what is made of a schedule, or of the place where it would be."""
        with self._tables.lock:
            fired = change(self._found(schedule_id))
            if fired is not None:
                self._write([fired])
            return fired

    def put(self, rows: Sequence[Fired]) -> None:
        """Write many as they are, whatever is there."""
        with self._tables.lock:
            self._write(rows)

    def delete(self, schedule_id: str) -> bool:
        """Forget a schedule with its firings; whether it was there. Its runs stay."""
        with self._tables.lock:
            self._table.firings.pop(schedule_id, None)
            return self._table.rows.pop(schedule_id, None) is not None

    def get(self, schedule_id: str) -> ScheduleRecord | None:
        """A schedule."""
        with self._tables.lock:
            return self._table.rows.get(schedule_id)

    def firings(self, schedule_id: str, limit: int) -> Sequence[Firing]:
        """The latest times that have a run, or wait for one; the newest first."""
        with self._tables.lock:
            known = self._table.firings.get(schedule_id, {})
            return [known[time] for time in sorted(known, reverse=True)[:limit]]

    def times_among(self, schedule_id: str, since: datetime, until: datetime) -> Sequence[datetime]:
        """The times from one moment to another that have a run, or wait for one."""
        with self._tables.lock:
            return [time for time in sorted(self._table.firings.get(schedule_id, {})) if since <= time <= until]

    # Parts.

    def _found(self, schedule_id: str) -> Found | None:
        record = self._table.rows.get(schedule_id)
        return None if record is None else self._table.found(schedule_id, self._open_runs(record.running))

    def _write(self, decided: Sequence[Fired]) -> None:
        for fired in decided:
            self._table.write(fired)
            self._write_rest(fired)

    def _open_runs(self, run_ids: Collection[str]) -> frozenset[str]:
        """Those that are open, or go on as another run, or wait in the inbox."""
        starting = {each.run_id for each in self._tables.inbox.values() if each.kind is RequestKind.START}
        newest: dict[str, RunRecord] = {}
        is_open = starting.intersection(run_ids)
        records: builtins.list[RunRecord] = sorted(
            self._tables.runs.values(), key=lambda record: (record.started_at, record.run_id)
        )
        for record in records:
            if record.workflow_id in run_ids:
                newest[record.workflow_id] = record
                if record.closed_at is None:
                    is_open.add(record.workflow_id)
        return frozenset(is_open | {each for each, record in newest.items() if record.status == "CONTINUED"})
