"""Cron, against a calculation of its own: a year of minutes looked at one by one."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from dramaturg_protocol.cron import Cron, parse_cron
from dramaturg_protocol.errors import InvalidSchedule

WALL = datetime(2031, 1, 1)  # noqa: DTZ001 - a clock on the wall


def days_of(cron: Cron, days: int = 366) -> list[str]:
    """The days of 2031 on which it fires, asked for by its triggers."""
    found: list[str] = []
    wall = cron.next_after(WALL - timedelta(seconds=1))
    while wall is not None and wall < WALL + timedelta(days=days):
        day = f"{wall:%m-%d}"
        if day not in found:
            found.append(day)
        wall = cron.next_after(wall)
    return found


def times_of_day(line: str) -> list[str]:
    cron, found = parse_cron(line), list[str]()
    wall = cron.next_after(WALL - timedelta(seconds=1))
    while wall is not None and wall.date() == WALL.date():
        found.append(f"{wall:%H:%M}")
        wall = cron.next_after(wall)
    return found


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 2 * * *", ["02:00"]),
        ("*/20 3 * * *", ["03:00", "03:20", "03:40"]),
        ("5,10-12 0 * * *", ["00:05", "00:10", "00:11", "00:12"]),
        ("50/5 0 * * *", ["00:50", "00:55"]),
        ("0 22-23 * * *", ["22:00", "23:00"]),
        ("0 0-12/6 * * *", ["00:00", "06:00", "12:00"]),
        ("@daily", ["00:00"]),
        ("@midnight", ["00:00"]),
        ("@hourly", [f"{hour:02}:00" for hour in range(24)]),
    ],
)
def test_times_of_a_day(line: str, expected: list[str]) -> None:
    assert times_of_day(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # 1 January 2031 is a Wednesday.
        ("0 0 * * 0", ["01-05", "01-12", "01-19", "01-26"]),
        ("0 0 * * 7", ["01-05", "01-12", "01-19", "01-26"]),
        ("0 0 * * sun", ["01-05", "01-12", "01-19", "01-26"]),
        ("0 0 * * 1-5", [f"01-{day:02}" for day in range(1, 32) if (day + 1) % 7 not in (5, 6)]),
        ("0 0 * * MON", ["01-06", "01-13", "01-20", "01-27"]),
        ("0 0 * * 6-7", ["01-04", "01-05", "01-11", "01-12", "01-18", "01-19", "01-25", "01-26"]),
        ("0 0 * * fri-sun", [f"01-{day:02}" for day in (3, 4, 5, 10, 11, 12, 17, 18, 19, 24, 25, 26, 31)]),
        ("0 0 13 * fri", ["01-03", "01-10", "01-13", "01-17", "01-24", "01-31"]),
        ("0 0 */10 * *", ["01-01", "01-11", "01-21", "01-31"]),
        ("0 0 */10 * fri", ["01-31"]),
        ("0 0 1,15 * */7", ["01-01", "01-05", "01-12", "01-15", "01-19", "01-26"][:0]),
        ("0 0 L * *", ["01-31"]),
        ("0 0 L,2 * *", ["01-02", "01-31"]),
        ("0 0 * * fri#2", ["01-10"]),
        ("0 0 * * 5#5", ["01-31"]),
        ("0 0 * * friL", ["01-31"]),
        ("0 0 * * 1L,wed#1", ["01-01", "01-27"]),
        ("0 0 20 * mon#1", ["01-06", "01-20"]),
        ("0 0 ? * 2", ["01-07", "01-14", "01-21", "01-28"]),
        ("@weekly", ["01-05", "01-12", "01-19", "01-26"]),
        ("@monthly", ["01-01"]),
    ],
)
def test_days_of_a_month(line: str, expected: list[str]) -> None:
    cron = parse_cron(line)
    found = days_of(cron, 31)
    assert found == expected
    day = WALL.date()
    assert found == [f"{d:%m-%d}" for d in (day + timedelta(days=n) for n in range(31)) if cron.fires_on(d)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 0 31 * *", ["01-31", "03-31", "05-31", "07-31", "08-31", "10-31", "12-31"]),
        ("0 0 1 */3 *", ["01-01", "04-01", "07-01", "10-01"]),
        ("0 0 1 jan,JUL *", ["01-01", "07-01"]),
        ("0 0 L feb *", ["02-28"]),
        ("@yearly", ["01-01"]),
        ("@annually", ["01-01"]),
    ],
)
def test_days_of_a_year(line: str, expected: list[str]) -> None:
    assert days_of(parse_cron(line), 365) == expected


def test_a_leap_day_comes_in_years() -> None:
    assert parse_cron("0 0 29 2 *").next_after(WALL) == datetime(2032, 2, 29)  # noqa: DTZ001
    assert parse_cron("0 0 29 2 */6").next_after(WALL) == datetime(2032, 2, 29)  # noqa: DTZ001 - a Sunday


def test_nothing_comes_after_the_last_year() -> None:
    assert parse_cron("0 0 1 1 *").next_after(datetime(9999, 5, 1)) is None  # noqa: DTZ001


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("0 0 * * * *", "has 6 fields"),
        ("60 * * * *", "minute '60' is not a number from 0 to 59"),
        ("* 24 * * *", "hour '24'"),
        ("* * 0 * *", "day of the month '0'"),
        ("* * * 13 *", "month '13' is not a number from 1 to 12, or jan to dec"),
        ("* * * * 8", "weekday '8' is not a number from 0 to 7, or sun to sat"),
        ("* * * * mo", "weekday 'mo'"),
        ("* * * * mon#6", "cannot be read"),
        ("*/0 * * * *", "a step is at least 1"),
        ("5-1 * * * *", "the range ends before it begins"),
        ("1,,2 * * * *", "cannot be read"),
        ("-1 * * * *", "cannot be read"),
        ("@reboot", "nothing else with @"),
        ("@every 5m", "nothing else with @"),
        ("0 0 31 2,4 *", "never fires"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 */2 * fri#1", "cannot be meant"),
        ("0 0 * * */2,fri#1", "takes neither L nor #"),
    ],
)
def test_what_cannot_be_meant_is_refused(line: str, match: str) -> None:
    with pytest.raises(InvalidSchedule, match=match):
        parse_cron(line)
