"""The row of a schedule: made, changed, paused and taken up again. Plain functions of the row and the moment."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from pydantic_core import to_json

from dramaturg_coordinator.core.firing import next_of, times_in
from dramaturg_protocol.firing_times import times_of
from dramaturg_protocol.schedule_records import Paused, ScheduleRecord
from dramaturg_protocol.schedule_specs import Spec

_RIGHT_BEFORE = timedelta(microseconds=1)


def new_row(
    schedule_id: str,
    partition: int,
    spec: Spec,
    now: datetime,
    *,
    workflow: str,
    body: str,
    overlap: str,
    catchup: int,
    declared: str,
    paused: bool,
    note: str,
) -> ScheduleRecord:
    """A schedule that begins now."""
    row = ScheduleRecord(
        id=schedule_id,
        partition=partition,
        workflow=workflow,
        body=body,
        spec=spec_text(spec),
        overlap=overlap,
        catchup=catchup,
        declared=declared,
        paused=Paused.BY_HAND if paused else Paused.NO,
        note=note,
        next_time=None,
        next_due=None,
        waiting=0,
        running=(),
        fired=0,
        skipped=0,
        missed=0,
        last_time=None,
        last_fired_at=None,
        last_run_id=None,
        created_at=now,
        updated_at=now,
    )
    return next_of(row, times_of(spec), _since(spec, now))


def spec_text(spec: Spec) -> str:
    """A spec as it is stored."""
    return to_json(spec.as_json()).decode()


def with_spec(row: ScheduleRecord, spec: Spec, now: datetime) -> ScheduleRecord:
    """It fires at other times from now on."""
    changed = replace(row, spec=spec_text(spec), updated_at=now)
    return next_of(changed, times_of(spec), _since(spec, now))


def pause(row: ScheduleRecord, why: Paused, note: str, now: datetime) -> ScheduleRecord:
    """It does not fire until it is resumed."""
    return replace(row, paused=why, note=note, next_due=None, updated_at=now)


def resume(row: ScheduleRecord, now: datetime, note: str = "") -> ScheduleRecord:
    """It fires again; what would have been meanwhile is left out, since somebody wanted that."""
    again = replace(row, paused=Paused.NO, note=note, updated_at=now)
    return next_of(again, times_in(row), now - _RIGHT_BEFORE)


def take_up(row: ScheduleRecord, now: datetime) -> ScheduleRecord:
    """It fires again from where it stopped, since nobody wanted that: its window says what is made up for."""
    again = replace(row, paused=Paused.NO, note="", updated_at=now)
    times = times_in(row)
    if row.next_time is None:
        return next_of(again, times, now - _RIGHT_BEFORE)
    return replace(again, next_due=times.due_of(row.id, row.next_time))


def _since(spec: Spec, now: datetime) -> datetime:
    """A time that is this very moment is one of its times; so is one moment that is over, as far as the window reaches."""
    return (now if spec.at is None else min(now, spec.at)) - _RIGHT_BEFORE
