"""When a schedule fires: pure functions of what it says, the same in every process and at every moment.

Cron and calendar schedules follow the clock on the wall of their time zone. Where that is set forward, a time that does
not exist is as much later as the clock was set (02:30 becomes 03:30); where it is set back, a time that exists twice
fires at its first. So each local time fires once a day, and two that fall on one moment fire once. ``every`` counts
elapsed time, and ``at`` is a moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from dramaturg_protocol.cron import parse_cron
from dramaturg_protocol.errors import InvalidSchedule
from dramaturg_protocol.schedule_specs import Calendar, Spec

_DAY = timedelta(days=1)
#: Nobody's clock on the wall was ever set by more.
_LOOK_BACK = timedelta(days=1)
_FIRST_LEFT = timedelta(microseconds=1)


class _Trigger(Protocol):
    """Gives moments, in order."""

    def next_after(self, moment: datetime) -> datetime | None:
        """The first one after a moment; ``None`` for never again."""
        ...

    def count_between(self, after: datetime, until: datetime) -> int:
        """How many there are beyond the one and up to the other."""
        ...


class FiringTimes:
    """The times of one schedule, in UTC, within its beginning and end."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._trigger = _trigger_of(spec)

    def next_after(self, moment: datetime) -> datetime | None:
        """The first time after a moment; ``None`` where there is none any more."""
        spec = self._spec
        if spec.start_at is not None:
            moment = max(moment, spec.start_at - _FIRST_LEFT)
        try:
            found = self._trigger.next_after(moment.astimezone(UTC))
        except OverflowError:
            return None
        return None if found is None or (spec.end_at is not None and found > spec.end_at) else found

    def count_between(self, after: datetime, until: datetime) -> int:
        """How many times there are after a moment and not after another; fast also for very many."""
        spec = self._spec
        if spec.start_at is not None:
            after = max(after, spec.start_at - _FIRST_LEFT)
        if spec.end_at is not None:
            until = min(until, spec.end_at)
        return self._trigger.count_between(after.astimezone(UTC), until.astimezone(UTC)) if after < until else 0

    def after(self, moment: datetime) -> Iterator[datetime]:
        """All times after a moment."""
        found = self.next_after(moment)
        while found is not None:
            yield found
            found = self.next_after(found)

    @property
    def longest_delay(self) -> timedelta:
        """By how much a firing may be due after its time."""
        return self._spec.jitter

    def due_of(self, schedule_id: str, moment: datetime) -> datetime:
        """When the firing of a time is due: as much later as its jitter says, which follows from schedule and time."""
        jitter = self._spec.jitter
        if not jitter:
            return moment
        digest = blake2b(f"{schedule_id}\0{moment.isoformat()}".encode(), digest_size=8).digest()
        return moment + jitter * (int.from_bytes(digest, "big") / 2**64)


@lru_cache(maxsize=20_000)
def times_of(spec: Spec) -> FiringTimes:
    """The times of a schedule.

    Raises:
      InvalidSchedule: it cannot be meant, or would never fire.
    """
    return FiringTimes(spec)


def _trigger_of(spec: Spec) -> _Trigger:
    if spec.at is not None:
        return _Once(spec.at)
    if spec.every is not None:
        return _Every(spec.every, spec.start_at or spec.anchor)
    if spec.cron is not None:
        return _cron_trigger(spec.cron, spec.timezone)
    zone = zone_of(spec.timezone)
    assert spec.calendar is not None
    first = (spec.start_at or spec.anchor).astimezone(zone).date()
    return _OnTheWall(_Steps(spec.calendar, first), zone)


@lru_cache(maxsize=1_000)
def _cron_trigger(line: str, timezone: str) -> _Trigger:
    """One for all schedules that say the same: thousands that are due at one moment look for the next one once."""
    return _OnTheWall(parse_cron(line), zone_of(timezone))


def zone_of(name: str) -> ZoneInfo:
    """A time zone; `InvalidSchedule` where there is none of this name."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError):
        raise InvalidSchedule(
            f"there is no time zone {name!r} on this machine; it takes names like 'Europe/Berlin' (package tzdata has them all)"
        ) from None


class _Once:
    def __init__(self, at: datetime) -> None:
        self._at = at.astimezone(UTC)

    def next_after(self, moment: datetime) -> datetime | None:
        return self._at if self._at > moment else None

    def count_between(self, after: datetime, until: datetime) -> int:
        return int(after < self._at <= until)


class _Every:
    def __init__(self, every: timedelta, first: datetime) -> None:
        self._every = every
        self._first = first.astimezone(UTC)

    def next_after(self, moment: datetime) -> datetime | None:
        return self._first + self._every * self._up_to(moment)

    def count_between(self, after: datetime, until: datetime) -> int:
        return self._up_to(until) - self._up_to(after)

    def _up_to(self, moment: datetime) -> int:
        """How many times there are up to a moment."""
        return max((moment - self._first) // self._every + 1, 0)


class _Wall(Protocol):
    """Gives times of a clock on the wall, naive."""

    def next_after(self, wall: datetime) -> datetime | None: ...

    @property
    def a_day(self) -> int: ...

    def fires_on(self, day: date) -> bool: ...


class _Steps:
    """Every so many days, weeks, months or years from a day on; months that have no such day are left out."""

    def __init__(self, step: Calendar, first: date) -> None:
        from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger  # only where there are schedules

        self._step = step
        self._time = time(step.hour, step.minute, step.second)
        self._first = first
        # Only the next day is asked of it: times and zones are dealt with here.
        self._trigger: Any = CalendarIntervalTrigger(
            years=step.years, months=step.months, weeks=step.weeks, days=step.days, start_date=first, timezone=UTC
        )

    def next_after(self, wall: datetime) -> datetime | None:
        day: date | None = self._near(wall.date())
        while day is not None and datetime.combine(day, self._time) <= wall:
            try:
                found: datetime | None = self._trigger.get_next_fire_time(datetime.combine(day, time(), UTC), wall)
            except (ValueError, OverflowError):  # beyond the last year
                return None
            day = None if found is None else found.date()
        return None if day is None else datetime.combine(day, self._time)

    @property
    def a_day(self) -> int:
        return 1

    def fires_on(self, day: date) -> bool:
        eve = datetime.combine(day, time()) - _FIRST_LEFT
        found = self.next_after(eve)
        return found is not None and found.date() == day

    def _near(self, day: date) -> date:
        """A day on which it fires, at most some steps before another day: not all steps from the first are taken."""
        step, first = self._step, self._first
        if day <= first:
            return first
        months, days = step.months + 12 * step.years, step.days + 7 * step.weeks
        if not months:
            return first + timedelta(days=days) * ((day - first).days // days)
        if days:  # each step depends on the one before
            return first
        number = ((day.year - first.year) * 12 + day.month - first.month) // months
        while number > 0:
            year, month = divmod(first.year * 12 + first.month - 1 + number * months, 12)
            try:
                found = date(year, month + 1, first.day)
            except ValueError:
                found = date.max
            if found <= day:
                return found
            number -= 1
        return first


class _OnTheWall:
    """Times of a clock on the wall of a time zone, as moments."""

    def __init__(self, wall: _Wall, zone: ZoneInfo) -> None:
        self._wall = wall
        self._zone = zone
        self._latest: tuple[datetime, datetime | None] | None = None

    def next_after(self, moment: datetime) -> datetime | None:
        latest = self._latest
        if latest is None or latest[0] != moment:
            latest = self._latest = (moment, self._found_after(moment))
        return latest[1]

    def _found_after(self, moment: datetime) -> datetime | None:
        now = self._clock_at(moment)
        # Right after a gap those are to come yet that are written before it.
        wall = self._wall.next_after(now - self._set_forward(moment) - _FIRST_LEFT)
        best: datetime | None = None
        ends: datetime | None = None
        while wall is not None and (ends is None or wall < ends):
            found = wall.replace(tzinfo=self._zone).astimezone(UTC)
            if found > moment:
                best = found if best is None else min(best, found)
                shown = self._clock_at(found)
                if shown == wall:
                    return best
                # In a gap: what is written up to where it comes out may come earlier.
                ends = shown if ends is None else ends
            wall = self._wall.next_after(wall)
        return best

    def count_between(self, after: datetime, until: datetime) -> int:
        count, at = 0, after
        day = self._clock_at(after).date() + _DAY
        while (end := self._begin_of(day + _DAY)) <= until:
            begin = self._begin_of(day)
            if end - begin == _DAY and self._is_plain(begin, end):
                # A day like any other: it has as many as every other one.
                count += self._one_by_one(at, begin - _FIRST_LEFT)
                count += self._wall.a_day if self._wall.fires_on(day) else 0
                at = end - _FIRST_LEFT
            day += _DAY
        return count + self._one_by_one(at, until)

    def _one_by_one(self, after: datetime, until: datetime) -> int:
        count = 0
        found = self.next_after(after) if after < until else None
        while found is not None and found <= until:
            count += 1
            found = self.next_after(found)
        return count

    def _is_plain(self, begin: datetime, end: datetime) -> bool:
        """Whether the clock is not set on a day, nor was right before it."""
        offsets = {self._offset(begin - _LOOK_BACK), self._offset(begin), self._offset(end)}
        return len(offsets) == 1

    def _begin_of(self, day: date) -> datetime:
        return datetime.combine(day, time(), self._zone).astimezone(UTC)

    def _clock_at(self, moment: datetime) -> datetime:
        return moment.astimezone(self._zone).replace(tzinfo=None, fold=0)

    def _offset(self, moment: datetime) -> timedelta:
        return moment.astimezone(self._zone).utcoffset() or timedelta(0)

    def _set_forward(self, moment: datetime) -> timedelta:
        """By how much the clock was set forward not long before a moment."""
        return max(self._offset(moment) - self._offset(moment - _LOOK_BACK), timedelta(0))
