from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dramaturg_protocol.durations import format_duration, parse_duration, parse_moment

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("30s", timedelta(seconds=30)),
        ("10m", timedelta(minutes=10)),
        ("2h", timedelta(hours=2)),
        ("3d", timedelta(days=3)),
        ("1w", timedelta(weeks=1)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5s", timedelta(milliseconds=1500)),
        ("0.1s", timedelta(milliseconds=100)),
        ("1m500ms", timedelta(seconds=60.5)),
        (" 1h 30m ", timedelta(minutes=90)),
        ("0s", timedelta(0)),
        (0, timedelta(0)),
        (90, timedelta(seconds=90)),
        (0.25, timedelta(milliseconds=250)),
        (timedelta(hours=5), timedelta(hours=5)),
    ],
)
def test_a_duration_is_read_in_each_of_its_forms(written: Any, meant: timedelta) -> None:
    assert parse_duration(written) == meant


@pytest.mark.parametrize(
    "written",
    ["", " ", "5", "s", "5x", "5 parsecs", "1s1s", "30m1h", "-1s", "1,5s", "٣s", "nan", "inf", "1e3s", "9" * 30 + "w"],
)
def test_text_that_is_no_duration_is_refused_with_the_accepted_forms(written: str) -> None:
    with pytest.raises(ValueError, match="duration") as refused:
        parse_duration(written)

    assert repr(written)[:20] in str(refused.value)


@pytest.mark.parametrize("written", [-1, -0.5, float("nan"), float("inf"), timedelta(seconds=-1), 1e300, 10**30])
def test_a_number_that_is_no_duration_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match=r"duration|negative"):
        parse_duration(written)


@pytest.mark.parametrize("written", [True, None, [], b"5s", 5j])
def test_another_type_is_no_duration(written: Any) -> None:
    with pytest.raises(TypeError, match="is not a duration"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("duration", "shown"),
    [
        (timedelta(minutes=90), "1h30m"),
        (timedelta(seconds=12), "12s"),
        (timedelta(milliseconds=350), "350ms"),
        (timedelta(seconds=1.5), "1.5s"),
        (timedelta(microseconds=250), "0.25ms"),
        (timedelta(days=9, seconds=1), "9d1s"),
        (timedelta(minutes=10), "10m"),
        (timedelta(seconds=100), "1m40s"),
        (timedelta(0), "0s"),
        (timedelta(seconds=-5), "-5s"),
    ],
)
def test_a_duration_is_shown_as_people_write_it(duration: timedelta, shown: str) -> None:
    assert format_duration(duration) == shown


@given(st.timedeltas(min_value=timedelta(0)))
def test_what_is_shown_is_read_back_unchanged(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


def test_a_moment_is_a_duration_from_now() -> None:
    assert parse_moment("1h", NOON) == NOON + timedelta(hours=1)


def test_a_moment_in_another_zone_is_given_in_utc() -> None:
    moment = parse_moment(datetime(2026, 3, 1, 14, tzinfo=timezone(timedelta(hours=2))), NOON)

    assert moment == NOON
    assert moment.tzinfo is UTC


def test_a_moment_without_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        parse_moment(datetime(2026, 3, 1, 12), NOON)  # noqa: DTZ001


def test_a_moment_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(ValueError, match="later than"):
        parse_moment(timedelta.max, NOON)
