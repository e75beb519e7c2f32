"""Durations and moments as people write them: ``"500ms"``, ``"1h30m"``, seconds, ``timedelta``, an aware ``datetime``."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

Duration: TypeAlias = str | int | float | timedelta

ACCEPTED: Final = (
    "a duration is text such as '500ms', '30s', '10m', '2h', '3d', '1w' or '1h30m', a timedelta, or a number of seconds"
)

_NUMBER = r"(\d+(?:\.\d+)?)"
_UNITS: Final = ("w", "d", "h", "m", "s", "ms")
_TEXT: Final = re.compile(r"\s*".join(rf"(?:{_NUMBER}{unit}(?![a-z]))?" for unit in _UNITS), re.ASCII)
_MICROSECONDS: Final = (604_800_000_000, 86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000, 1_000)


def parse_duration(value: Duration) -> timedelta:
    """Read a duration.

    Parameters:
      value: text of numbers with the units ``w d h m s ms``, the largest first (``"1h30m"``, ``"1.5s"``); a number of
        seconds; or a ``timedelta``.

    Raises:
      TypeError: the value is of another type (a ``bool`` is no number here).
      ValueError: the text cannot be read, or the duration is negative, not finite or too large.
    """
    if isinstance(value, timedelta):
        duration = value
    elif isinstance(value, str):
        duration = _parse_text(value)
    else:
        duration = _parse_seconds(value)
    if duration < timedelta(0):
        raise ValueError(f"{value!r} is negative: {ACCEPTED}")
    return duration


def parse_moment(value: Duration | datetime, now: datetime) -> datetime:
    """Read a moment: a duration from now, or an aware ``datetime``.

    Parameters:
      value: a duration, as ``parse_duration`` takes it, or an aware ``datetime``.
      now: the present moment, aware.

    Returns:
      The moment, in UTC.

    Raises:
      TypeError: the value is of another type.
      ValueError: a ``datetime`` without time zone, or what ``parse_duration`` refuses.
    """
    if isinstance(value, datetime):
        return _in_utc(value, value)
    duration = parse_duration(value)
    try:
        return _in_utc(now, now) + duration
    except OverflowError:
        raise ValueError(f"{value!r} from now is later than the last moment that a datetime can hold") from None


def format_duration(duration: timedelta) -> str:
    """Write a duration for people: ``"1h30m"``, ``"12s"``, ``"350ms"``; ``parse_duration`` reads it back unchanged."""
    if duration < timedelta(0):
        return "-" + format_duration(-duration)
    minutes, seconds = divmod(duration.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{n}{unit}" for n, unit in ((duration.days, "d"), (hours, "h"), (minutes, "m")) if n]
    if not parts and not seconds and duration.microseconds:
        return f"{_decimal(duration.microseconds, 3)}ms"
    if seconds or duration.microseconds or not parts:
        parts.append(f"{_decimal(seconds * 1_000_000 + duration.microseconds, 6)}s")
    return "".join(parts)


def _parse_text(text: str) -> timedelta:
    match = _TEXT.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise ValueError(f"{text!r} is not a duration: {ACCEPTED}")
    try:
        microseconds = sum(_scaled(n, size) for n, size in zip(match.groups(), _MICROSECONDS, strict=True) if n)
        return timedelta(microseconds=microseconds)
    except (OverflowError, ValueError):
        raise ValueError(f"{text[:80]!r} is too long for a duration") from None


def _scaled(number: str, size: int) -> int:
    """Whole microseconds, without the rounding errors of binary fractions."""
    whole, _, fraction = number.partition(".")
    scale = int("1" + "0" * len(fraction))
    return (int(whole + fraction) * size + scale // 2) // scale


def _parse_seconds(value: object) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} ({type(value).__name__}) is not a duration: {ACCEPTED}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} is not finite: {ACCEPTED}")
    try:
        return timedelta(seconds=value)
    except OverflowError:
        raise ValueError(f"{value!r} seconds are too long for a duration") from None


def _in_utc(moment: datetime, value: object) -> datetime:
    if moment.utcoffset() is None:
        raise ValueError(f"{value!r} has no time zone: give one, such as datetime(..., tzinfo=datetime.UTC)")
    return moment.astimezone(UTC)


def _decimal(number: int, digits: int) -> str:
    whole, fraction = divmod(number, 10**digits)
    return f"{whole}.{fraction:0{digits}d}".rstrip("0").rstrip(".")
