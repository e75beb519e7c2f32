"""What holds of schedules: each time of theirs begins one run, waits, is skipped by the policy, or was missed; once.

It is asked after every transaction in which a coordinator decided about schedules, and at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from dramaturg.testing.simulation import happenings as h
from dramaturg.testing.simulation.books import Books
from dramaturg_coordinator.core.firing import spec_in
from dramaturg_protocol.firing_times import times_of
from dramaturg_protocol.messages import RequestKind
from dramaturg_protocol.schedule_records import SCHEDULE_TAG, FiringKind, ScheduleRecord
from dramaturg_protocol.schedule_specs import Overlap

Problems = Iterator[str]

_LAST = datetime(9000, 1, 1, tzinfo=UTC)
_RIGHT_BEFORE = timedelta(microseconds=1)

#: With these a run begins only once those before it are closed.
_ONE_AT_A_TIME = (Overlap.SKIP, Overlap.BUFFER_ONE, Overlap.BUFFER_ALL, Overlap.CANCEL_OTHER)


def invariant_1_a_time_of_a_schedule_counts_once(books: Books, happening: h.Happening) -> Problems:
    """All times up to the next one have one of their ends, and none has two."""
    if isinstance(happening, h.Decided):
        for fired in happening.fired:
            decided, over = _decided(fired.record), _over(fired.record)
            if decided != over:
                yield f"schedule {fired.record.id}: {decided} times are decided of {over} that are over: {fired.record}"


def invariant_4_one_coordinator_fires_a_schedule(books: Books, happening: h.Happening) -> Problems:
    """Nothing is decided under an epoch that is not the last."""
    if isinstance(happening, h.Decided):
        for fired in happening.fired:
            number = fired.record.partition
            if happening.lease.epochs.get(number) != books.epochs.get(number):
                yield f"{happening.process} fires schedule {fired.record.id} under a lease that is over"


def invariant_9_a_schedule_fires_as_its_policy_says(books: Books, happening: h.Happening) -> Problems:
    """Nothing early, nothing missed that was in its window, nothing skipped that may overlap, one at a time where that is said."""
    if not isinstance(happening, h.Decided):
        return
    for fired in happening.fired:
        record, before = fired.record, books.schedules[fired.record.id]
        times, now = times_of(spec_in(record)), books.now()
        for firing in fired.firings:
            if firing.kind is FiringKind.TIME and times.due_of(record.id, firing.time) > now:
                yield f"schedule {record.id} fires for {firing.time} at {now}"
        missed, late = record.missed - before.missed, _late(before, now)
        if missed > late:
            yield f"schedule {record.id} counts {missed} times as missed, of which {late} are out of their window"
        if record.overlap == Overlap.ALLOW_ALL and record.skipped:
            yield f"schedule {record.id} skips, and its runs may overlap"
        if record.overlap in _ONE_AT_A_TIME and len(under_way := _under_way(books, record)) > 1:
            yield f"schedule {record.id} has several runs at once: {sorted(under_way)}"


SCHEDULE_INVARIANTS = (
    invariant_1_a_time_of_a_schedule_counts_once,
    invariant_4_one_coordinator_fires_a_schedule,
    invariant_9_a_schedule_fires_as_its_policy_says,
)


def left_of_schedules(books: Books) -> list[str]:
    """What is wrong with the schedules at the end, when all their times are over."""
    problems: list[str] = []
    for record in books.tables.schedules.rows.values():
        runs = [run_id for run_id, by in books.scheduled.items() if by == record.id]
        if record.next_due is not None or record.waiting or record.paused:
            problems.append(f"schedule {record.id} is not at its end: {record}")
        if len(runs) != record.fired:
            problems.append(f"schedule {record.id} fired {record.fired} times and has the runs {sorted(runs)}")
    return problems


def _decided(record: ScheduleRecord) -> int:
    return record.fired + record.skipped + record.missed + record.waiting


def _over(record: ScheduleRecord) -> int:
    spec = spec_in(record)
    first = spec.start_at or record.created_at
    return times_of(spec).count_between(first - _RIGHT_BEFORE, (record.next_time or _LAST) - _RIGHT_BEFORE)


def _late(before: ScheduleRecord, now: datetime) -> int:
    """How many of the times that come next are out of their window."""
    if before.next_time is None:
        return 0
    until = now - timedelta(seconds=before.catchup)
    return times_of(spec_in(before)).count_between(before.next_time - _RIGHT_BEFORE, until)


def _under_way(books: Books, record: ScheduleRecord) -> set[str]:
    runs = books.scheduled.items()
    is_open = {run_id for run_id, by in runs if by == record.id and not books.state(run_id).is_closed}
    marked = f'"{SCHEDULE_TAG}":"{record.id}"'
    starts = (each for each in books.tables.inbox.values() if each.kind is RequestKind.START)
    return is_open | {request.run_id for request in starts if marked in request.body}
