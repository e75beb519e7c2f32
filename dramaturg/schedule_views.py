"""What people see of a schedule."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic_core import from_json

from dramaturg_coordinator.core.firing import spec_in
from dramaturg_protocol.errors import InvalidSchedule
from dramaturg_protocol.firing_times import zone_of
from dramaturg_protocol.schedule_records import Firing, Paused, ScheduleRecord
from dramaturg_protocol.schedule_specs import Calendar, Spec


@dataclass(frozen=True, slots=True)
class ScheduleFiring:
    """A time of a schedule that has its run, or waits for one.

    Attributes:
      time: of the schedule, in its time zone.
      kind: ``time``, ``trigger`` or ``backfill``.
      run_id: ``None`` while it waits for the run before it.
      decided_at: when its run was started, or when it began to wait.
    """

    time: datetime
    kind: str
    run_id: str | None
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class ScheduleDescription:
    """A schedule.

    Attributes:
      when: when it fires, in words; the parts of it follow.
      declared: by ``client`` or by ``code``.
      paused: why it does not fire: ``by_hand``, ``left_code`` (its declaration is gone from the code), ``trouble`` (it
        cannot; see `note`); empty where it fires.
      note: of whoever paused it, or what is wrong with it.
      next_time: the time that comes next, in its time zone; ``None`` where there is none any more.
      next_due: when that fires, its jitter included; ``None`` also while it is paused.
      fired, skipped, missed: how many times began a run, were left out because of the one before, came too late.
      waiting: how many wait for the run before them.
      last_time, last_fired_at, last_run_id: of the last time that began a run.
      running: runs that were open when it was looked at last; not kept with ``allow_all``.
      firings: the latest ones, newest first, where one schedule was asked for.
    """

    id: str
    workflow: str
    when: str
    overlap: str
    catchup: timedelta
    declared: str
    paused: str
    note: str
    next_time: datetime | None
    next_due: datetime | None
    fired: int
    skipped: int
    missed: int
    waiting: int
    last_time: datetime | None
    last_fired_at: datetime | None
    last_run_id: str | None
    running: list[str]
    tags: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    cron: str | None = None
    every: timedelta | None = None
    calendar: Calendar | None = None
    at: datetime | None = None
    timezone: str = "UTC"
    jitter: timedelta = timedelta(0)
    start_at: datetime | None = None
    end_at: datetime | None = None
    firings: list[ScheduleFiring] = field(default_factory=list[ScheduleFiring])

    @property
    def is_paused(self) -> bool:
        """Whether it does not fire."""
        return bool(self.paused)


def describe_schedule(row: ScheduleRecord, firings: list[Firing] | None = None) -> ScheduleDescription:
    """A schedule's row for people; also one that cannot be read."""
    try:
        spec, when = spec_in(row), ""
    except InvalidSchedule as problem:
        spec, when = Spec(), str(problem)
    zone = zone_of(spec.timezone)

    def local(moment: datetime | None) -> datetime | None:
        return None if moment is None else moment.astimezone(zone)

    return ScheduleDescription(
        id=row.id,
        workflow=row.workflow,
        when=when or spec.words(),
        overlap=row.overlap,
        catchup=timedelta(seconds=row.catchup),
        declared=row.declared,
        paused=row.paused,
        note=row.note,
        next_time=local(row.next_time) if row.paused != Paused.TROUBLE else None,
        next_due=row.next_due,
        fired=row.fired,
        skipped=row.skipped,
        missed=row.missed,
        waiting=row.waiting,
        last_time=local(row.last_time),
        last_fired_at=row.last_fired_at,
        last_run_id=row.last_run_id,
        running=list(row.running),
        tags=_tags_in(row.body),
        created_at=row.created_at,
        updated_at=row.updated_at,
        cron=spec.cron,
        every=spec.every,
        calendar=spec.calendar,
        at=local(spec.at),
        timezone=spec.timezone,
        jitter=spec.jitter,
        start_at=local(spec.start_at),
        end_at=local(spec.end_at),
        firings=[
            ScheduleFiring(each.time.astimezone(zone), each.kind.value, each.run_id, each.decided_at)
            for each in firings or ()
        ],
    )


def _tags_in(body: str) -> dict[str, Any]:
    try:
        return dict(from_json(body)["tags"])
    except (ValueError, TypeError, KeyError):
        return {}
