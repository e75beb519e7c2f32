"""What a schedule does at a moment: `Deciding`, by its times, its overlap policy and its window.

Each time has one of four ends: it begins a run, waits for the run before it, is skipped because of that, or was missed,
since nobody was there until its window was over. The run's id follows from schedule and time, so that a time which
is looked at twice (a backfill of what fired, a commit whose outcome was not known) begins one run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache

from pydantic_core import from_json, to_json

from dramaturg_protocol.errors import InvalidSchedule
from dramaturg_protocol.firing_times import FiringTimes, times_of
from dramaturg_protocol.ids import run_id_of_key
from dramaturg_protocol.messages import Request, RequestKind, encode_message
from dramaturg_protocol.request_bodies import ControlBody
from dramaturg_protocol.schedule_checks import spec_from_json
from dramaturg_protocol.schedule_records import (
    SCHEDULE_TAG,
    TIME_TAG,
    Fired,
    Firing,
    FiringKind,
    Found,
    Paused,
    ScheduleRecord,
)
from dramaturg_protocol.schedule_specs import Overlap, Spec

#: Times of one schedule that are decided in one go; the others follow, after those of other schedules.
MOST_AT_ONCE = 500
#: Firings of one schedule that wait; beyond it they are skipped.
MOST_WAITING = 10_000

_RIGHT_BEFORE = timedelta(microseconds=1)


def spec_in(record: ScheduleRecord) -> Spec:
    """When a schedule fires; `InvalidSchedule` where what is stored cannot be read."""
    return _spec_in(record.spec)


def _spec_in(text: str) -> Spec:
    try:
        return spec_from_json(from_json(text))
    except InvalidSchedule:
        raise
    except Exception as error:
        raise InvalidSchedule(f"what is stored of it cannot be read: {error}") from error


def times_in(record: ScheduleRecord) -> FiringTimes:
    """The times of a schedule; `InvalidSchedule` where what is stored cannot be read."""
    return _times_in(record.spec)


@lru_cache(maxsize=20_000)
def _times_in(text: str) -> FiringTimes:
    # Reading and checking it costs more than all else that is decided about a firing.
    return times_of(_spec_in(text))


def key_of(schedule_id: str, time: datetime) -> str:
    """The idempotency key of a firing."""
    return f"{schedule_id}@{time.isoformat()}"


def next_of(record: ScheduleRecord, times: FiringTimes, after: datetime) -> ScheduleRecord:
    """The row with the first time after a moment as the next one."""
    time = times.next_after(after)
    due = None if time is None or record.paused else times.due_of(record.id, time)
    return replace(record, next_time=time, next_due=due)


class Deciding:
    """Decides one schedule at one moment.

    Parameters:
      partition_of: of a workflow id.
    """

    def __init__(self, found: Found, now: datetime, *, namespace: str, partition_of: Callable[[str], int]) -> None:
        self._namespace = namespace
        self._partition_of = partition_of
        self._now = now
        self._record = record = found.record
        self._last = (record.last_time, record.last_fired_at, record.last_run_id)
        self._waiting = list(found.waiting)
        self._more_wait = found.record.waiting - len(self._waiting)
        self._open = set(found.open_runs)
        self._skipped = self._missed = self._begun = 0
        self._fired = Fired(found.record)

    def fire(self) -> Fired:
        """Do all that is due; `InvalidSchedule` where what is stored cannot be read."""
        self._begin_waiting()
        record = self._record
        if record.next_due is None or record.paused or record.next_due > self._now:
            return self._done(record.next_time, record.next_due)
        times = times_in(record)
        time = self._leave_out_missed(times, record.next_time)
        left = MOST_AT_ONCE
        while time is not None and left and (due := times.due_of(record.id, time)) <= self._now:
            if self._now - due > timedelta(seconds=record.catchup):
                self._missed += 1
            else:
                self._take(time, FiringKind.TIME, Overlap(record.overlap), due)
            time, left = times.next_after(time), left - 1
        return self._done(time, None if time is None else times.due_of(record.id, time))

    def trigger(self) -> Fired:
        """Fire now, whatever the times say and whatever runs."""
        last = self._record.last_time
        # A run of its own, also at the very moment at which another one began.
        time = self._now if last is None or last < self._now else last + _RIGHT_BEFORE
        self._take(time, FiringKind.TRIGGER, Overlap.ALLOW_ALL, time)
        return self._done(self._record.next_time, self._record.next_due)

    def backfill(self, moments: Iterable[datetime], overlap: Overlap) -> Fired:
        """Fire these times, which are over; those that have their run already are left out by whoever calls."""
        for moment in moments:
            self._take(moment, FiringKind.BACKFILL, overlap, self._now)
        return self._done(self._record.next_time, self._record.next_due)

    def _leave_out_missed(self, times: FiringTimes, time: datetime | None) -> datetime | None:
        """Count those that are out of their window, however many they are, without looking at each."""
        since = self._now - timedelta(seconds=self._record.catchup)
        since -= times.longest_delay
        if time is None or time >= since:
            return time
        until = since - _RIGHT_BEFORE
        self._missed += times.count_between(time - _RIGHT_BEFORE, until)
        return times.next_after(until)

    def _take(self, time: datetime, kind: FiringKind, overlap: Overlap, due: datetime) -> None:
        if not (self._open or self._waiting or self._more_wait):
            self._begin(time, kind, due)
            return
        match overlap:
            case Overlap.ALLOW_ALL:
                self._begin(time, kind, due)
            case Overlap.SKIP:
                self._skipped += 1
            case Overlap.BUFFER_ONE:
                self._wait_or_skip(time, kind, most=1)
            case Overlap.BUFFER_ALL:
                self._wait_or_skip(time, kind, most=MOST_WAITING)
            case Overlap.CANCEL_OTHER:
                self._drop_waiting()
                self._end_others(RequestKind.CANCEL, time)
                self._wait_or_skip(time, kind, most=1)
            case Overlap.TERMINATE_OTHER:
                self._drop_waiting()
                self._end_others(RequestKind.TERMINATE, time)
                self._open.clear()
                self._begin(time, kind, due)

    def _begin_waiting(self) -> None:
        """The oldest one that waits has its turn, once the run before it is closed."""
        if self._waiting and not self._open:
            first = self._waiting.pop(0)
            self._begin(first.time, first.kind, None)

    def _wait_or_skip(self, time: datetime, kind: FiringKind, most: int) -> None:
        if len(self._waiting) + self._more_wait >= most:
            self._skipped += 1
            return
        firing = Firing(time, kind, None, self._now)
        self._waiting.append(firing)
        self._fired.firings.append(firing)

    def _drop_waiting(self) -> None:
        self._skipped += len(self._waiting) + self._more_wait
        self._fired.drops_waiting = True
        self._fired.firings = [each for each in self._fired.firings if each.run_id is not None]
        self._waiting.clear()
        self._more_wait = 0

    def _end_others(self, kind: RequestKind, time: datetime) -> None:
        body = encode_message(ControlBody(reason=f"schedule {self._record.id!r} fires for {time.isoformat()}"))
        for run_id in sorted(self._open):
            # Cancelled once, however many firings come before it has ended.
            request = Request(f"{run_id}:overlap:{kind}", kind, run_id, self._partition_of(run_id), body)
            if request not in self._fired.requests:
                self._fired.requests.append(request)

    def _begin(self, time: datetime, kind: FiringKind, due: datetime | None) -> None:
        record = self._record
        run_id = run_id_of_key(self._namespace, record.workflow, key_of(record.id, time))
        # As text: what is sealed in it stays so, also where it cannot be opened.
        body = from_json(record.body)
        body["workflow_id"] = run_id
        body["tags"] = {**body["tags"], SCHEDULE_TAG: record.id, TIME_TAG: time.isoformat()}
        text = to_json(body).decode()
        request = Request(f"{run_id}:scheduled", RequestKind.START, run_id, self._partition_of(run_id), text)
        self._fired.requests.append(request)
        self._fired.firings.append(Firing(time, kind, run_id, self._now))
        if due is not None and kind is FiringKind.TIME:
            self._fired.late.append((self._now - due).total_seconds())
        self._open.add(run_id)
        self._begun += 1
        last_time, *_ = self._last
        if last_time is None or time > last_time:
            self._last = (time, self._now, run_id)

    def _done(self, next_time: datetime | None, next_due: datetime | None) -> Fired:
        record = self._record
        keeps_runs = record.overlap != Overlap.ALLOW_ALL or bool(self._waiting) or bool(self._more_wait)
        last_time, last_fired_at, last_run_id = self._last
        self._fired.record = replace(
            record,
            next_time=next_time,
            next_due=next_due,
            waiting=len(self._waiting) + self._more_wait,
            running=tuple(sorted(self._open)) if keeps_runs else (),
            fired=record.fired + self._begun,
            skipped=record.skipped + self._skipped,
            missed=record.missed + self._missed,
            last_time=last_time,
            last_fired_at=last_fired_at,
            last_run_id=last_run_id,
            updated_at=self._now,
        )
        self._fired.outcomes = (self._begun, self._skipped, self._missed)
        return self._fired


def put_aside(record: ScheduleRecord, reason: str, now: datetime) -> ScheduleRecord:
    """The row of a schedule that cannot fire: paused until somebody looks at it, so that all others go on."""
    return replace(record, paused=Paused.TROUBLE, note=reason, next_due=None, updated_at=now)
