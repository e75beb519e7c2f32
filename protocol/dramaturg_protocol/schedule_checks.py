"""What a user says of a schedule, checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from dramaturg_protocol.durations import Duration, format_duration, parse_duration
from dramaturg_protocol.errors import InvalidSchedule
from dramaturg_protocol.firing_times import times_of, zone_of
from dramaturg_protocol.schedule_specs import Calendar, CalendarLike, Overlap, Spec

#: The shortest time between two firings.
SHORTEST = timedelta(seconds=1)


def spec_of(
    *,
    cron: str | None = None,
    every: Duration | None = None,
    calendar: CalendarLike | None = None,
    at: datetime | None = None,
    timezone: str = "UTC",
    jitter: Duration | None = None,
    start_at: datetime | None = None,
    end_at: datetime | None = None,
    anchor: datetime | None = None,
) -> Spec:
    """Check what a user says of when a schedule fires.

    Raises:
      InvalidSchedule: it cannot be meant, or would never fire.
    """
    given = {"cron": cron, "every": every, "calendar": calendar, "at": at}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise InvalidSchedule(
            f"a schedule has one of cron=, every=, calendar=, at=; this one has {' and '.join(named) or 'none'}"
        )
    if not isinstance(timezone, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidSchedule(f"timezone must be a name like 'Europe/Berlin', not {timezone!r}")
    zone_of(timezone)
    spec = Spec(
        cron=cron,
        every=_every(every),
        calendar=_calendar(calendar),
        at=moment_of("at", at),
        timezone=timezone,
        jitter=timedelta(0) if jitter is None else duration_of("jitter", jitter),
        start_at=moment_of("start_at", start_at),
        end_at=moment_of("end_at", end_at),
        **({} if anchor is None else {"anchor": anchor.astimezone(UTC)}),
    )
    if spec.start_at is not None and spec.end_at is not None and spec.end_at < spec.start_at:
        raise InvalidSchedule("end_at is before start_at: it would never fire")
    beginning = spec.start_at or spec.anchor
    if times_of(spec).next_after(beginning - timedelta(microseconds=1)) is None and spec.at is None:
        raise InvalidSchedule(f"a schedule {spec.words()} would never fire between its start_at and its end_at")
    return spec


def duration_of(name: str, value: Any) -> timedelta:
    """A duration that a schedule has; `InvalidSchedule` naming it where it is none."""
    try:
        return parse_duration(value)
    except (TypeError, ValueError) as error:
        raise InvalidSchedule(f"{name}: {error}") from None


def moment_of(name: str, value: Any) -> datetime | None:
    """An aware moment, in UTC; `InvalidSchedule` naming it where it is none."""
    if value is None:
        return None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidSchedule(
            f"{name} must be an aware datetime, such as datetime(2030, 1, 31, 9, tzinfo=ZoneInfo('Europe/Berlin')), "
            f"not {value!r}"
        )
    return value.astimezone(UTC)


def overlap_of(value: Any) -> Overlap:
    """A policy by its name; `InvalidSchedule` where there is none such."""
    try:
        return Overlap(value)
    except ValueError:
        raise InvalidSchedule(f"overlap must be one of {', '.join(Overlap)}, not {value!r}") from None


def _every(value: Duration | None) -> timedelta | None:
    if value is None:
        return None
    every = duration_of("every", value)
    if every < SHORTEST:
        raise InvalidSchedule(f"every must be at least {format_duration(SHORTEST)}, not {value!r}")
    return every


def _calendar(value: CalendarLike | None) -> Calendar | None:
    if value is None or isinstance(value, Calendar):
        return value
    if not isinstance(value, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidSchedule(f'calendar must be Calendar(months=1, …) or a dict like {{"months": 1}}, not {value!r}')
    known = [each.name for each in fields(Calendar)]
    unknown = [name for name in cast("Mapping[Any, Any]", value) if name not in known]
    if unknown:
        raise InvalidSchedule(f"calendar has no {unknown[0]!r}; it takes {', '.join(known)}")
    return Calendar(**value)


def spec_from_json(data: Mapping[str, Any]) -> Spec:
    """What `Spec.as_json` gave; `InvalidSchedule` where this version cannot read it."""
    moments = ("at", "start_at", "end_at", "anchor")
    try:
        read = {name: datetime.fromisoformat(data[name]) for name in moments if name in data}
        given: dict[str, Any] = {**data, **read}
        return spec_of(**given)
    except (TypeError, ValueError) as error:
        raise InvalidSchedule(f"its stored form cannot be read: {error}") from None
