"""What a schedule says: when it fires, and what becomes of a firing that finds the one before still running."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from dramaturg_protocol.durations import format_duration
from dramaturg_protocol.errors import InvalidSchedule


class Overlap(StrEnum):
    """What becomes of a firing while a run of an earlier one is open."""

    SKIP = "skip"
    """It is left out, and counted as skipped."""
    BUFFER_ONE = "buffer_one"
    """It waits until that run is closed; while one waits, others are skipped."""
    BUFFER_ALL = "buffer_all"
    """It waits its turn."""
    CANCEL_OTHER = "cancel_other"
    """That run is cancelled, and it begins once that is closed."""
    TERMINATE_OTHER = "terminate_other"
    """That run is terminated, and it begins at once."""
    ALLOW_ALL = "allow_all"
    """It begins all the same."""


#: A policy as people write it.
OverlapName: TypeAlias = Literal["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"]


@dataclass(frozen=True, slots=True)
class Calendar:
    """Every so many days, weeks, months or years, at a time of day, counted from the day on which the schedule begins.

    A month that has no such day (the 31st, 29 February) is left out; cron's ``L`` is the last day of each.
    """

    years: int = 0
    months: int = 0
    weeks: int = 0
    days: int = 0
    hour: int = 0
    minute: int = 0
    second: int = 0

    def __post_init__(self) -> None:
        most = {"hour": 23, "minute": 59, "second": 59}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InvalidSchedule(f"calendar: {each.name} must be an int, not {value!r}")
            if not 0 <= value <= most.get(each.name, 10_000):
                raise InvalidSchedule(
                    f"calendar: {each.name} must be from 0 to {most.get(each.name, 10_000)}, not {value}"
                )
        if not (self.years or self.months or self.weeks or self.days):
            raise InvalidSchedule("calendar: give at least one of years, months, weeks, days")


CalendarLike: TypeAlias = Calendar | Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Spec:
    """When a schedule fires, checked; one of `cron`, `every`, `calendar` and `at` is given.

    Attributes:
      jitter: a firing is due at most as much later than its time.
      start_at, end_at: the first and the last moment at which a time may be.
      anchor: from where `every` and `calendar` count, unless `start_at` says it.
    """

    cron: str | None = None
    every: timedelta | None = None
    calendar: Calendar | None = None
    at: datetime | None = None
    timezone: str = "UTC"
    jitter: timedelta = timedelta(0)
    start_at: datetime | None = None
    end_at: datetime | None = None
    anchor: datetime = datetime(1970, 1, 1, tzinfo=UTC)

    def as_json(self) -> dict[str, Any]:
        """As it is stored."""
        data: dict[str, Any] = {
            "cron": self.cron,
            "every": None if self.every is None else self.every.total_seconds(),
            "calendar": None if self.calendar is None else {k: v for k, v in asdict(self.calendar).items() if v},
            "at": _iso(self.at),
            "timezone": self.timezone,
            "jitter": self.jitter.total_seconds() or None,
            "start_at": _iso(self.start_at),
            "end_at": _iso(self.end_at),
            "anchor": _iso(self.anchor),
        }
        return {name: value for name, value in data.items() if value is not None}

    def words(self) -> str:
        """When it fires, for people."""
        if self.at is not None:
            return f"at {self.at.isoformat()}"
        if self.every is not None:
            return f"every {format_duration(self.every)}"
        if self.cron is not None:
            return f"{self.cron} ({self.timezone})"
        assert self.calendar is not None
        step = self.calendar
        parts = [
            f"{getattr(step, name)} {name}" for name in ("years", "months", "weeks", "days") if getattr(step, name)
        ]
        return f"every {', '.join(parts)} at {step.hour:02}:{step.minute:02}:{step.second:02} ({self.timezone})"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
