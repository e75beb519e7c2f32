"""What may be said of a schedule beside what it starts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TypedDict

from dramaturg_protocol.durations import Duration
from dramaturg_protocol.schedule_specs import CalendarLike, OverlapName


class ScheduleOptions(TypedDict, total=False):
    """The options of ``client.schedules.create`` and ``update``.

    Attributes:
      cron: five fields as in ``crontab(5)``, or ``@daily`` and the like, in the time zone.
      every: a duration, elapsed; from ``start_at``, else from now.
      calendar: `Calendar` or a dict of its fields: every so many days, weeks, months, years at a time of day.
      at: one moment.
      timezone: of the clock that ``cron`` and ``calendar`` follow; UTC by default.
      jitter: each firing is as much later, at most; how much follows from schedule and time.
      start_at, end_at: the first and the last moment that a time may be.
      overlap: what becomes of a firing while a run of an earlier one is open: ``skip`` (the default), ``buffer_one``,
        ``buffer_all``, ``cancel_other``, ``terminate_other`` or ``allow_all``.
      catchup: how late a firing may be made up for, after an outage (one hour by default); later ones are missed, and
        counted.
      note: for people.
      tags: of its runs.
    """

    cron: str | None
    every: Duration | None
    calendar: CalendarLike | None
    at: datetime | None
    timezone: str
    jitter: Duration | None
    start_at: datetime | None
    end_at: datetime | None
    overlap: OverlapName
    catchup: Duration
    note: str
    tags: Mapping[str, str | int | bool] | None


class NewScheduleOptions(ScheduleOptions, total=False):
    """The options of ``client.schedules.create``: those of `ScheduleOptions`, and how it begins.

    Attributes:
      paused: it does not fire before it is resumed.
    """

    paused: bool
