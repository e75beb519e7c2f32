"""Schedules that stand in code: ``@workflow(schedule=Schedule(…))``, created and updated by the coordinators that have it.

What an operator did stays: a pause survives deploys. One that no coordinator declares any more is paused and reported,
not deleted, and taken up again from where it stopped when somebody declares it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from pydantic_core import from_json, to_json

from dramaturg.scheduled_calls import ScheduledCall, scheduled_call
from dramaturg_coordinator.core import schedule_rows
from dramaturg_coordinator.core.firing import spec_in
from dramaturg_protocol.definitions import Registry
from dramaturg_protocol.errors import InvalidSchedule
from dramaturg_protocol.records import DeadLetter, LetterKind
from dramaturg_protocol.schedule_checks import overlap_of
from dramaturg_protocol.schedule_declared import Schedule, catchup_of
from dramaturg_protocol.schedule_records import Fired, Found, Paused, ScheduleRecord
from dramaturg_store.schedules import SqlSchedules

logger = logging.getLogger("dramaturg.coordinator")

_CODE = "code"
_PAGE = 500


@dataclass(frozen=True, slots=True)
class _Declared:
    schedule: Schedule
    call: ScheduledCall


class DeclaredSchedules:
    """The schedules that the code of this process declares.

    Parameters:
      registry: holds the code, imported.
      now: the database's time.
    """

    def __init__(
        self, rows: SqlSchedules, registry: Registry, now: Callable[[], datetime], *, namespace: str, max_payload: int
    ) -> None:
        self._rows = rows
        self._now = now
        self._registry = registry
        self._declared = {
            schedule.id or workflow: _Declared(
                schedule,
                scheduled_call(
                    workflow,
                    tuple(schedule.args),
                    schedule.kwargs,
                    schedule.tags,
                    namespace=namespace,
                    max_payload=max_payload,
                ),
            )
            for workflow, schedule in _schedules_in(registry)
        }

    @property
    def ids(self) -> Collection[str]:
        """Of those that are declared here."""
        return self._declared.keys()

    def take_over(self) -> None:
        """Create and update what is declared here, and take up what was put aside for want of this code."""
        for schedule_id, declared in self._declared.items():
            self._rows.change(schedule_id, partial(self._declare, declared))
        for row in self._all(paused=True):
            if row.paused == Paused.TROUBLE and self._registry.workflow(row.workflow) is not None:
                self._take_up(row.id, Paused.TROUBLE)

    def look(self, *, is_first: bool) -> None:
        """Now and then: whether somebody took ours for gone, and whether others are.

        Parameters:
          is_first: this coordinator does for all of them what is done once.
        """
        if self._declared:
            for row in self._rows.list(ids=self._declared.keys(), limit=len(self._declared)):
                if row.paused == Paused.LEFT_CODE:
                    self._take_up(row.id, Paused.LEFT_CODE)
        if is_first:
            self.pause_gone(self._rows.declared_names())

    def pause_gone(self, names: Collection[str]) -> None:
        """Pause and report those that were declared in code and are not any more.

        Parameters:
          names: what the coordinators there declare.
        """
        there = {*names, *self._declared}
        for row in self._all(declared=_CODE, paused=False):
            if row.id not in there:
                self._rows.change(row.id, self._pause)

    def _all(self, **wanted: Any) -> Iterator[ScheduleRecord]:
        after = ""
        while page := self._rows.list(**wanted, after=after, limit=_PAGE):
            yield from page
            after = page[-1].id

    def _declare(self, declared: _Declared, found: Found | None) -> Fired | None:
        schedule, call, now = declared.schedule, declared.call, self._now()
        if found is None:
            return Fired(self._new(schedule, call, now))
        row = found.record
        if row.declared != _CODE:
            logger.warning(
                "schedule %s was created by a client and stays as it is: its declaration in code is left alone. Delete "
                "it, or give the declaration another id",
                row.id,
            )
            return None
        changed = replace(
            row,
            workflow=call.workflow,
            body=_same_or_new(row.body, call.body),
            overlap=overlap_of(schedule.overlap),
            catchup=catchup_of(schedule.catchup),
        )
        changed = self._with_times(changed, schedule, now)
        if row.paused in (Paused.LEFT_CODE, Paused.TROUBLE):
            changed = schedule_rows.take_up(changed, now)
        return None if changed == row else Fired(replace(changed, updated_at=now))

    def _new(self, schedule: Schedule, call: ScheduledCall, now: datetime) -> ScheduleRecord:
        schedule_id = schedule.id or call.workflow
        return schedule_rows.new_row(
            schedule_id,
            self._rows.partition_of(schedule_id),
            schedule.spec(now),
            now,
            workflow=call.workflow,
            body=call.body,
            overlap=overlap_of(schedule.overlap),
            catchup=catchup_of(schedule.catchup),
            declared=_CODE,
            paused=schedule.paused,
            note=schedule.note,
        )

    def _with_times(self, row: ScheduleRecord, schedule: Schedule, now: datetime) -> ScheduleRecord:
        try:
            spec = schedule.spec(spec_in(row).anchor)
        except InvalidSchedule:
            return schedule_rows.with_spec(row, schedule.spec(row.created_at), now)
        return row if schedule_rows.spec_text(spec) == row.spec else schedule_rows.with_spec(row, spec, now)

    def _take_up(self, schedule_id: str, why: Paused) -> None:
        def change(found: Found | None) -> Fired | None:
            if found is None or found.record.paused != why:
                return None
            try:
                return Fired(schedule_rows.take_up(found.record, self._now()))
            except InvalidSchedule:
                return None

        if self._rows.change(schedule_id, change) is not None:
            logger.info("schedule %s fires again: its code is there", schedule_id)

    def _pause(self, found: Found | None) -> Fired | None:
        if found is None or found.record.paused or found.record.declared != _CODE:
            return None
        row, now = found.record, self._now()
        note = "its declaration is gone from the code: delete it, or declare it again"
        logger.warning("schedule %s is paused: %s", row.id, note)
        body = to_json({"schedule": row.id, "workflow": row.workflow, "spec": row.spec}).decode()
        letter = DeadLetter(LetterKind.SCHEDULE, f"schedule {row.id!r}: {note}", body, partition=row.partition, at=now)
        return Fired(schedule_rows.pause(row, Paused.LEFT_CODE, note, now), letters=[letter])


def _schedules_in(registry: Registry) -> Iterator[tuple[str, Schedule]]:
    """Workflows with the schedules of their highest versions."""
    for name in registry.workflows:
        definition = registry.workflow(name)
        schedule = definition.options.get("schedule") if definition is not None else None
        if isinstance(schedule, Schedule):
            yield name, schedule


def _same_or_new(old: str, new: str) -> str:
    """The old text where it says the same: each encoding gives the run that it is not yet another id."""
    return old if _call_in(old) == _call_in(new) else new


def _call_in(body: str) -> Mapping[str, Any] | None:
    try:
        return {name: value for name, value in from_json(body).items() if name != "workflow_id"}
    except (ValueError, TypeError, AttributeError):
        return None
