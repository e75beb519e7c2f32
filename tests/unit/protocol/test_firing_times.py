"""When schedules fire, over real zones and twenty years, against a calculation that shares nothing with it."""

from __future__ import annotations

import bisect
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from dramaturg_protocol.errors import InvalidSchedule
from dramaturg_protocol.firing_times import FiringTimes, times_of
from dramaturg_protocol.schedule_checks import spec_from_json, spec_of
from dramaturg_protocol.schedule_specs import Calendar

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # at midnight, and not any more
    "Australia/Lord_Howe",  # by half an hour
    "Africa/Casablanca",  # back and forth around Ramadan
    "Asia/Kathmandu",  # +05:45
    "Pacific/Apia",  # left a whole day out
    "America/Havana",
    "Asia/Beirut",
]
LINES = {"30 2 * * *": [(2, 30)], "0 0 * * *": [(0, 0)], "15 */6 * * *": [(hour, 15) for hour in (0, 6, 12, 18)]}
BEGIN, END = datetime(2008, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)


@cache
def expected_of(line: str, zone: str) -> list[datetime]:
    """Each local time of each day once: PEP 495 says what one that does not exist, or exists twice, is with fold=0."""
    found: set[datetime] = set()
    day = date(2007, 12, 30)
    while day < date(2030, 1, 3):
        for hour, minute in LINES[line]:
            found.add(datetime.combine(day, time(hour, minute), ZoneInfo(zone)).astimezone(UTC))
        day += timedelta(days=1)
    return sorted(moment for moment in found if BEGIN < moment <= END)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "zone"),
    [
        (line, zone)
        for line in LINES
        for zone in ZONES
        if "*/6" not in line or zone in ("Europe/Berlin", "Pacific/Apia")
    ],
)
def test_each_local_time_fires_once_a_day_for_twenty_years(line: str, zone: str) -> None:
    times = FiringTimes(spec_of(cron=line, timezone=zone))
    found: list[datetime] = []
    for moment in times.after(BEGIN):
        if moment > END:
            break
        found.append(moment)

    assert found == expected_of(line, zone)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("line", LINES)
def test_they_are_counted_without_looking_at_each(line: str, zone: str) -> None:
    times, expected = FiringTimes(spec_of(cron=line, timezone=zone)), expected_of(line, zone)
    for begin, end in [
        (BEGIN, BEGIN),
        (BEGIN, END),
        (datetime(2011, 12, 28, 3, tzinfo=UTC), datetime(2012, 1, 3, 14, 7, tzinfo=UTC)),
        (datetime(2015, 3, 29, 0, 59, tzinfo=UTC), datetime(2015, 3, 29, 1, 31, tzinfo=UTC)),
        (datetime(2016, 2, 1, tzinfo=UTC), datetime(2016, 12, 1, 12, 30, tzinfo=UTC)),
        (expected[100], expected[101]),
    ]:
        wanted = bisect.bisect_right(expected, end) - bisect.bisect_right(expected, begin)
        assert times.count_between(begin, end) == wanted


def in_berlin(*moment: int) -> datetime:
    return datetime(*moment, tzinfo=ZoneInfo("Europe/Berlin"))  # type: ignore[arg-type,misc]


def test_a_time_that_does_not_exist_fires_after_the_gap() -> None:
    times = times_of(spec_of(cron="30 2 * * *", timezone="Europe/Berlin"))
    found = list(islice(times.after(in_berlin(2030, 3, 30, 12)), 2))

    assert [f"{moment.astimezone(ZoneInfo('Europe/Berlin')):%d %H:%M}" for moment in found] == ["31 03:30", "01 02:30"]


def test_a_time_that_exists_twice_fires_at_its_first() -> None:
    times = times_of(spec_of(cron="30 2 * * *", timezone="Europe/Berlin"))
    found = list(islice(times.after(in_berlin(2030, 10, 26, 12)), 2))

    assert found == [datetime(2030, 10, 27, 0, 30, tzinfo=UTC), datetime(2030, 10, 28, 1, 30, tzinfo=UTC)]


def test_two_times_that_fall_on_one_moment_fire_once() -> None:
    times = times_of(spec_of(cron="*/30 * * * *", timezone="Europe/Berlin"))
    found = list(islice(times.after(in_berlin(2030, 3, 31, 1, 15)), 5))

    assert [f"{moment:%H:%M}" for moment in found] == ["00:30", "01:00", "01:30", "02:00", "02:30"]


def test_every_is_elapsed_time() -> None:
    spec = spec_of(every="1d", start_at=in_berlin(2030, 3, 30, 12))
    found = list(islice(times_of(spec).after(in_berlin(2030, 3, 1)), 2))

    assert [f"{moment.astimezone(ZoneInfo('Europe/Berlin')):%d %H:%M}" for moment in found] == ["30 12:00", "31 13:00"]
    assert times_of(spec).count_between(in_berlin(2030, 1, 1), in_berlin(2040, 3, 30, 12)) == 3653


def test_calendar_keeps_the_time_of_day_and_leaves_out_months_without_the_day() -> None:
    spec = spec_of(calendar=Calendar(months=1, hour=9), start_at=in_berlin(2030, 1, 31), timezone="Europe/Berlin")
    found = list(islice(times_of(spec).after(in_berlin(2029, 1, 1)), 4))

    assert found == [in_berlin(2030, month, 31, 9) for month in (1, 3, 5, 7)]
    assert times_of(spec).next_after(in_berlin(2050, 2, 1)) == in_berlin(2050, 3, 31, 9)
    assert times_of(spec).count_between(in_berlin(2030, 1, 1), in_berlin(2032, 1, 1)) == 14


@pytest.mark.parametrize(
    ("calendar", "expected"),
    [
        ({"days": 10}, ["2030-01-05", "2030-01-15", "2030-01-25"]),
        ({"weeks": 2}, ["2030-01-05", "2030-01-19", "2030-02-02"]),
        ({"years": 1}, ["2030-01-05", "2031-01-05", "2032-01-05"]),
        ({"months": 1, "days": 1}, ["2030-01-05", "2030-02-06", "2030-03-07"]),
    ],
)
def test_calendar_counts_from_its_beginning(calendar: dict[str, int], expected: list[str]) -> None:
    spec = spec_of(calendar={**calendar, "hour": 8}, start_at=datetime(2030, 1, 5, 7, tzinfo=UTC))
    times = times_of(spec)
    found = list(islice(times.after(BEGIN), 3))

    assert [f"{moment:%Y-%m-%d}" for moment in found] == expected
    assert [times.next_after(moment - timedelta(seconds=1)) for moment in found] == found


def test_a_calendar_that_begins_late_on_its_day_begins_with_the_next() -> None:
    spec = spec_of(calendar={"days": 1, "hour": 8}, start_at=datetime(2030, 1, 5, 9, tzinfo=UTC))
    assert times_of(spec).next_after(BEGIN) == datetime(2030, 1, 6, 8, tzinfo=UTC)


def test_at_is_one_moment() -> None:
    moment = in_berlin(2030, 7, 1, 9)
    times = times_of(spec_of(at=moment))

    assert times.next_after(BEGIN) == moment
    assert times.next_after(moment) is None
    assert times.count_between(BEGIN, moment) == 1


def test_nothing_is_outside_of_beginning_and_end() -> None:
    spec = spec_of(
        cron="0 9 * * *", start_at=datetime(2030, 1, 1, 9, tzinfo=UTC), end_at=datetime(2030, 1, 3, 9, tzinfo=UTC)
    )
    times = times_of(spec)

    assert [moment.day for moment in times.after(BEGIN)] == [1, 2, 3]
    assert times.count_between(BEGIN, datetime(2031, 1, 1, tzinfo=UTC)) == 3


def test_jitter_follows_from_schedule_and_time() -> None:
    times = times_of(spec_of(every="1h", jitter="10m"))
    moments = list(islice(times.after(BEGIN), 200))
    delays = [times.due_of("a", moment) - moment for moment in moments]

    assert delays == [times.due_of("a", moment) - moment for moment in moments]
    assert delays != [times.due_of("b", moment) - moment for moment in moments]
    assert timedelta(0) <= min(delays) < timedelta(minutes=1)
    assert timedelta(minutes=9) < max(delays) < timedelta(minutes=10)


@pytest.mark.parametrize(
    "said",
    [
        {"cron": "0 2 * * mon-fri", "timezone": "Europe/Berlin", "jitter": "5m"},
        {"every": "90m", "start_at": datetime(2030, 1, 1, tzinfo=UTC)},
        {"calendar": {"months": 3, "hour": 9}, "end_at": datetime(2040, 1, 1, tzinfo=UTC)},
        {"at": datetime(2030, 1, 1, tzinfo=UTC)},
    ],
)
def test_what_is_stored_is_read_as_it_was(said: dict[str, object]) -> None:
    spec = spec_of(**said, anchor=datetime(2029, 5, 1, tzinfo=UTC))  # type: ignore[arg-type]
    assert spec_from_json(spec.as_json()) == spec


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({}, "one of cron=, every=, calendar=, at=; this one has none"),
        ({"cron": "* * * * *", "every": 5}, "this one has cron and every"),
        ({"cron": 5}, "cron must be a text"),
        ({"cron": "0 0 30 2 *"}, "never fires"),
        ({"cron": "0 0 * * *", "timezone": "Europe/Bonn"}, "no time zone 'Europe/Bonn'"),
        ({"cron": "0 0 * * *", "timezone": 5}, "timezone must be a name"),
        ({"every": 0}, "every must be at least 1s"),
        ({"every": "soon"}, "every: 'soon' is not a duration"),
        ({"every": -5}, "every: -5 is negative"),
        ({"calendar": {}}, "at least one of years, months, weeks, days"),
        ({"calendar": {"month": 1}}, "calendar has no 'month'"),
        ({"calendar": {"months": 1, "hour": 24}}, "hour must be from 0 to 23"),
        ({"calendar": {"months": -1}}, "months must be from 0"),
        ({"calendar": 5}, "calendar must be"),
        ({"at": datetime(2030, 1, 1)}, "at must be an aware datetime"),  # noqa: DTZ001
        ({"at": "2030-01-01"}, "at must be an aware datetime"),
        ({"every": 5, "jitter": -1}, "jitter: -1 is negative"),
        (
            {"every": 5, "start_at": datetime(2030, 1, 2, tzinfo=UTC), "end_at": datetime(2030, 1, 1, tzinfo=UTC)},
            "end_at is before",
        ),
        (
            {
                "cron": "0 0 1 1 *",
                "start_at": datetime(2030, 2, 1, tzinfo=UTC),
                "end_at": datetime(2030, 3, 1, tzinfo=UTC),
            },
            "never fire between",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(said: dict[str, object], match: str) -> None:
    with pytest.raises(InvalidSchedule, match=match):
        spec_of(**said)  # type: ignore[arg-type]
