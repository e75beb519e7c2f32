"""`Schedule`: what ``@workflow(schedule=…)`` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from dramaturg_protocol.durations import Duration
from dramaturg_protocol.errors import InvalidSchedule
from dramaturg_protocol.schedule_checks import duration_of, overlap_of, spec_of
from dramaturg_protocol.schedule_specs import CalendarLike, OverlapName, Spec

#: A firing is always a little late: a shorter window would miss what a busy moment holds up.
SHORTEST_CATCHUP = timedelta(seconds=10)


@dataclass(frozen=True)
class Schedule:
    """When a workflow starts by itself; one of ``cron``, ``every``, ``calendar`` and ``at`` is given.

    Parameters:
      cron: five fields as in ``crontab(5)``, or ``@daily`` and the like, in the time zone.
      every: a duration, elapsed; counted from ``start_at``, else from when the schedule was created.
      calendar: `Calendar` or a dict of its fields: every so many days, weeks, months, years at a time of day.
      at: one moment.
      timezone: of the clock that ``cron`` and ``calendar`` follow.
      jitter: each firing is as much later, at most; how much follows from schedule and time.
      start_at, end_at: the first and the last moment that a time may be.
      overlap: what becomes of a firing while a run of an earlier one is open: ``skip``, ``buffer_one``, ``buffer_all``,
        ``cancel_other``, ``terminate_other`` or ``allow_all``.
      catchup: how late a firing may be made up for, after an outage; later ones are missed, and counted.
      paused: created without firing.
      note: for people.
      tags: of its runs.
      args, kwargs: the arguments of its runs.
      id: the schedule's; by default the workflow's name.

    Raises:
      InvalidSchedule: it cannot be meant, or would never fire.
    """

    cron: str | None = None
    every: Duration | None = None
    calendar: CalendarLike | None = None
    at: datetime | None = None
    timezone: str = "UTC"
    jitter: Duration | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None
    overlap: OverlapName = "skip"
    catchup: Duration = "1h"
    paused: bool = False
    note: str = ""
    tags: Mapping[str, str | int | bool] | None = None
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    id: str | None = None

    def __post_init__(self) -> None:
        self.spec(None)
        overlap_of(self.overlap)
        catchup_of(self.catchup)

    def spec(self, anchor: datetime | None) -> Spec:
        """When it fires.

        Parameters:
          anchor: from where ``every`` and ``calendar`` count, unless ``start_at`` says it.
        """
        return spec_of(
            cron=self.cron,
            every=self.every,
            calendar=self.calendar,
            at=self.at,
            timezone=self.timezone,
            jitter=self.jitter,
            start_at=self.start_at,
            end_at=self.end_at,
            anchor=anchor,
        )


def catchup_of(value: Any) -> int:
    """The window of a schedule, in seconds; `InvalidSchedule` where it is none."""
    window = duration_of("catchup", value)
    if window < SHORTEST_CATCHUP:
        raise InvalidSchedule(f"catchup must be at least 10s, not {value!r}: a firing is always a little late")
    return int(window.total_seconds())
