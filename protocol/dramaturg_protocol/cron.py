"""Cron as ``crontab(5)`` has it, in the terms of APScheduler's triggers, which read it otherwise in four places.

Weekdays are numbered from Sunday (0 and 7), a day matches where the day of the month *or* the weekday does if both are
restricted, ``@daily`` and the like are known, and what cannot be meant is refused instead of being read as something
else. Beyond crontab: ``L`` for the last day of the month, ``fri#2`` for the second Friday and ``friL`` for the last.

Times here are those of a clock on the wall: naive, as if every day had 24 hours (`firing_times` knows better).
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any

from dramaturg_protocol.errors import InvalidSchedule

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NTH = ("1st", "2nd", "3rd", "4th", "5th")
_ITEM = re.compile(r"(?:(?P<star>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?", re.ASCII)
_NTH_WEEKDAY = re.compile(r"(?P<day>\w+?)(?:#(?P<nth>[1-5])|(?P<last>[lL]))", re.ASCII)
_STEP = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a crontab line: what it is called, what it may hold."""

    name: str
    least: int
    most: int
    names: Sequence[str] = ()

    def number(self, text: str) -> int:
        """A value of this field."""
        if text.lower() in self.names:
            return self.names.index(text.lower()) + self.least
        if not text.isdecimal() or not self.least <= int(text) <= self.most:
            words = f", or {self.names[0]} to {self.names[-1]}" if self.names else ""
            raise InvalidSchedule(f"{self.name} {text!r} is not a number from {self.least} to {self.most}{words}")
        return int(text)

    def values(self, item: str) -> frozenset[int]:
        """What one item between commas stands for."""
        match = _ITEM.fullmatch(item)
        if match is None:
            raise InvalidSchedule(
                f"{self.name} {item!r} cannot be read: it takes *, 5, 1-5, */15, 0-30/5, and lists of these"
            )
        step = int(match["step"] or 1)
        if not step:
            raise InvalidSchedule(f"{self.name} {item!r}: a step is at least 1")
        if match["star"]:
            return frozenset(range(self.least, self.most + 1, step))
        first = self.number(match["first"])
        if match["last"] is not None:
            last = self.number(match["last"])
            if self is _WEEKDAY and last == 0 < first:
                last = 7
        else:
            last = self.most if match["step"] else first
        if last < first:
            raise InvalidSchedule(f"{self.name} {item!r}: the range ends before it begins; write it as two")
        return frozenset(range(first, last + 1, step))


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY = _Field("day of the month", 1, 31)
_MONTH = _Field("month", 1, 12, _MONTHS)
_WEEKDAY = _Field("weekday", 0, 7, _WEEKDAYS)


@dataclass(frozen=True)
class Cron:
    """A line of a crontab, read.

    Attributes:
      days: of the month; ``None`` where the field begins with a star, so that the weekday alone decides.
      weekdays: from Sunday, 0; ``None`` as of `days`.
      days_too, weekdays_too: what a field that begins with a star restricts all the same, like ``*/2``.
      nth_weekdays: such as the second Friday, ``(5, 2)``; 0 for the last one.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    months: frozenset[int]
    days: frozenset[int] | None = None
    has_last_day: bool = False
    weekdays: frozenset[int] | None = None
    nth_weekdays: frozenset[tuple[int, int]] = frozenset()
    days_too: frozenset[int] | None = None
    weekdays_too: frozenset[int] | None = None

    def next_after(self, wall: datetime) -> datetime | None:
        """The first time after one, both naive; ``None`` for never again."""
        found: list[datetime] = []
        for trigger in self._triggers:
            now = (wall + _STEP).replace(tzinfo=UTC)
            try:
                next_time: datetime | None = trigger.get_next_fire_time(None, now)
            except (ValueError, OverflowError):  # beyond the last year
                continue
            if next_time is not None:
                found.append(next_time.replace(tzinfo=None))
        return min(found, default=None)

    @property
    def a_day(self) -> int:
        """How often it fires on a day on which it does."""
        return len(self.minutes) * len(self.hours)

    def fires_on(self, day: date) -> bool:
        """Whether it fires on a day."""
        if day.month not in self.months:
            return False
        weekday = (day.weekday() + 1) % 7
        if self.days_too is not None and day.day not in self.days_too:
            return False
        if self.weekdays_too is not None and weekday not in self.weekdays_too:
            return False
        length = calendar.monthrange(day.year, day.month)[1]
        is_last = (weekday, 0) in self.nth_weekdays and day.day + 7 > length
        by_weekday = weekday in (self.weekdays or ()) or is_last or (weekday, (day.day + 6) // 7) in self.nth_weekdays
        by_day = day.day in (self.days or ()) or (self.has_last_day and day.day == length)
        if not self._restricts_days:
            return by_weekday if self._restricts_weekdays else True
        return by_day or (self._restricts_weekdays and by_weekday)

    @property
    def _restricts_days(self) -> bool:
        return self.days is not None or self.has_last_day

    @property
    def _restricts_weekdays(self) -> bool:
        return self.weekdays is not None or bool(self.nth_weekdays)

    @cached_property
    def _triggers(self) -> Sequence[Any]:
        """One for each way in which a day may match."""
        beside = {"day": _listed(self.days_too), "day_of_week": _weekday_names(self.weekdays_too)}
        kinds: list[dict[str, str | None]] = []
        if self._restricts_days:
            named = [_listed(self.days)] if self.days else []
            named += ["last"] if self.has_last_day else []
            kinds += [{**beside, "day": ",".join(filter(None, named))}]
        if self.weekdays:
            kinds += [{**beside, "day_of_week": _weekday_names(self.weekdays)}]
        for weekday, nth in sorted(self.nth_weekdays):
            kinds += [{**beside, "day": f"{_NTH[nth - 1] if nth else 'last'} {_WEEKDAYS[weekday]}"}]
        return [self._trigger(**kind) for kind in kinds or [beside]]

    def _trigger(self, day: str | None, day_of_week: str | None) -> Any:
        from apscheduler.triggers.cron import CronTrigger  # only where there are schedules

        return CronTrigger(
            month=_listed(self.months, 12),
            day=day or "*",
            day_of_week=day_of_week or "*",
            hour=_listed(self.hours, 24),
            minute=_listed(self.minutes, 60),
            second=0,
            timezone=UTC,
        )


def parse_cron(text: str) -> Cron:
    """Read a line of a crontab: five fields, or one of ``@hourly @daily @midnight @weekly @monthly @yearly @annually``.

    Raises:
      InvalidSchedule: it cannot be read, or would never fire; the message says which field.
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidSchedule(f'cron must be a text like "0 2 * * *", not {text!r}')
    line = text.strip()
    if line.startswith("@"):
        if line.lower() not in _MACROS:
            raise InvalidSchedule(f"cron {text!r}: there is {', '.join(_MACROS)}, and nothing else with @")
        line = _MACROS[line.lower()]
    fields = line.split()
    if len(fields) != 5:
        raise InvalidSchedule(
            f"cron {text!r} has {len(fields)} fields instead of five: minute, hour, day of the month, month, weekday"
        )
    try:
        cron = _read(*fields)
    except InvalidSchedule as problem:
        raise InvalidSchedule(f"cron {text!r}: {problem}") from None
    if not any(_may_be(cron, month) for month in cron.months):
        raise InvalidSchedule(f"cron {text!r} never fires: no such month has such a day")
    return cron


def _read(minute: str, hour: str, day: str, month: str, weekday: str) -> Cron:
    days, has_last_day = _days(day)
    weekdays, nth = _weekdays(weekday)
    days_are_starred, weekdays_are_starred = day.startswith(("*", "?")), weekday.startswith(("*", "?"))
    if (days_are_starred and has_last_day) or (weekdays_are_starred and nth):
        raise InvalidSchedule("a field that begins with * takes neither L nor #")
    if days_are_starred and len(days) < 31 and nth:
        raise InvalidSchedule(f"day of the month {day!r} together with weekday {weekday!r} cannot be meant")
    return Cron(
        minutes=_values(_MINUTE, minute),
        hours=_values(_HOUR, hour),
        months=_values(_MONTH, month),
        days=None if days_are_starred else days,
        has_last_day=has_last_day,
        weekdays=None if weekdays_are_starred else weekdays,
        nth_weekdays=nth,
        days_too=days if days_are_starred and len(days) < 31 else None,
        weekdays_too=weekdays if weekdays_are_starred and len(weekdays) < 7 else None,
    )


def _values(field: _Field, text: str) -> frozenset[int]:
    return frozenset[int]().union(*(field.values(item) for item in text.split(",")))


def _days(text: str) -> tuple[frozenset[int], bool]:
    items = ("*" if text == "?" else text).split(",")
    plain = [item for item in items if item not in ("L", "l")]
    return frozenset[int]().union(*(_DAY.values(item) for item in plain)), len(plain) < len(items)


def _weekdays(text: str) -> tuple[frozenset[int], frozenset[tuple[int, int]]]:
    plain: set[int] = set()
    nth: set[tuple[int, int]] = set()
    for item in ("*" if text == "?" else text).split(","):
        match = _NTH_WEEKDAY.fullmatch(item)
        if match is not None and item.lower() not in _WEEKDAYS:
            nth.add((_WEEKDAY.number(match["day"]) % 7, int(match["nth"] or 0)))
        else:
            plain |= {number % 7 for number in _WEEKDAY.values(item)}
    return frozenset(plain), frozenset(nth)


def _may_be(cron: Cron, month: int) -> bool:
    """Whether some day of a month can match in some year; weekdays fall on every day of it in time."""
    longest = 29 if month == 2 else calendar.monthrange(2001, month)[1]
    if cron.days is not None and not cron.has_last_day and cron.weekdays is None and not cron.nth_weekdays:
        return any(day <= longest for day in cron.days)
    return True


def _listed(numbers: frozenset[int] | None, whole: int = 0) -> str:
    """For a trigger: a star where it is everything, since that is looked at faster than a list."""
    return "*" if not numbers or len(numbers) == whole else ",".join(map(str, sorted(numbers)))


def _weekday_names(numbers: frozenset[int] | None) -> str | None:
    return ",".join(_WEEKDAYS[number] for number in sorted(numbers)) if numbers else None
