"""`client.schedules`: workflows that start by themselves."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack, overload
from zoneinfo import ZoneInfo

from pydantic_core import from_json, to_json

from dramaturg.graphs.authoring import Graph
from dramaturg.handle import Handle, Positional, PositionalStep
from dramaturg.schedule_options import NewScheduleOptions, ScheduleOptions
from dramaturg.schedule_views import ScheduleDescription, describe_schedule
from dramaturg.scheduled_calls import ScheduledCall, scheduled_call
from dramaturg.workflows import BoundWorkflow
from dramaturg_coordinator.core import schedule_rows
from dramaturg_coordinator.core.firing import MOST_WAITING, Deciding, spec_in, times_in
from dramaturg_protocol.errors import AlreadyScheduled, InvalidSchedule, NotFound
from dramaturg_protocol.firing_times import zone_of
from dramaturg_protocol.options import check_start_options
from dramaturg_protocol.schedule_checks import moment_of, overlap_of, spec_of
from dramaturg_protocol.schedule_declared import catchup_of
from dramaturg_protocol.schedule_records import Fired, Found, Paused, ScheduleRecord
from dramaturg_protocol.schedule_specs import OverlapName

if TYPE_CHECKING:
    from dramaturg.client import Client
    from dramaturg_store.schedules import SqlSchedules

A = TypeVar("A")
B = TypeVar("B")
Ts = TypeVarTuple("Ts")

_TIMES = ("cron", "every", "calendar", "at")
_BESIDE = ("timezone", "jitter", "start_at", "end_at")
_RIGHT_BEFORE = timedelta(microseconds=1)
_LONGEST_ID = 200


class Schedules:
    """The schedules of a client's namespace. All methods raise `Unavailable` where the database does not answer."""

    def __init__(self, client: Client, rows: Callable[[], SqlSchedules], now: Callable[[], datetime]) -> None:
        self._client = client
        self._rows = rows
        self._now = now

    # Few arguments one by one: so a workflow's defaults may be left out, which `*args: *Ts` does not allow.
    @overload
    def create(
        self,
        id: str,
        wf: Positional[Any],
        /,
        **options: Unpack[NewScheduleOptions],
    ) -> ScheduleDescription: ...
    @overload
    def create(
        self,
        id: str,
        wf: Positional[A, Any],
        a: A,
        /,
        **options: Unpack[NewScheduleOptions],
    ) -> ScheduleDescription: ...
    @overload
    def create(
        self,
        id: str,
        wf: Positional[A, B, Any],
        a: A,
        b: B,
        /,
        **options: Unpack[NewScheduleOptions],
    ) -> ScheduleDescription: ...
    @overload
    def create(
        self,
        id: str,
        wf: PositionalStep[*Ts, Any],
        /,
        *args: *Ts,
        **options: Unpack[NewScheduleOptions],
    ) -> ScheduleDescription: ...
    @overload
    def create(
        self,
        id: str,
        wf: Positional[*Ts, Any],
        /,
        *args: *Ts,
        **options: Unpack[NewScheduleOptions],
    ) -> ScheduleDescription: ...
    @overload
    def create(
        self,
        id: str,
        wf: BoundWorkflow[..., Any] | Graph | str,
        /,
        *args: Any,
        **options_and_arguments: Any,
    ) -> ScheduleDescription: ...
    def create(self, id: str, wf: Any, /, *args: Any, **given: Any) -> ScheduleDescription:  # type: ignore[misc]  # noqa: A002
        """Have a workflow started by itself; one of ``cron``, ``every``, ``calendar`` and ``at`` is given.

        Parameters:
          id: the schedule's; a run's idempotency key is ``"<id>@<time>"``.
          wf: a workflow, a step, or a workflow's name; ``wf.options(version=…, context=…)`` for these.
          args: its arguments, the same for each run.
          given: the options of `NewScheduleOptions`, and keyword arguments of the workflow. A name that is both is the
            option: such an argument goes through position. Keyword arguments are typed for none, and taken with
            ``wf.options()`` or a name.

        Raises:
          InvalidSchedule: it cannot be meant, or would never fire. Nothing was written.
          TypeError: the arguments do not fit the workflow.
          AlreadyScheduled: there is a schedule of this id.
        """
        _check_id(id)
        options = {name: given.pop(name) for name in [*given] if name in NewScheduleOptions.__annotations__}
        call = self._call(wf, args, given, options.get("tags"))
        row = self._new_row(id, call, options, self._now())

        def write(found: Found | None) -> Fired:
            if found is not None:
                raise AlreadyScheduled(f"there is a schedule {id!r} already: update it, or delete it first")
            return Fired(row)

        return self._written(id, write)

    def update(
        self,
        id: str,  # noqa: A002 - the contract's
        *,
        wf: Any = None,
        args: tuple[Any, ...] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> ScheduleDescription:
        """Change what is given, and nothing else.

        Parameters:
          wf, args, kwargs: what its next runs are; arguments alone are those of the workflow that it has.
          options: as of `create`. Other times count from now on.

        Raises:
          NotFound: there is no such schedule.
          InvalidSchedule, TypeError: as `create`; nothing was changed.
        """
        unknown = options.keys() - ScheduleOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"update takes no {min(unknown)!r}; it takes {', '.join(ScheduleOptions.__annotations__)}")
        call = self._new_call(id, wf, args, kwargs, options)

        def change(row: ScheduleRecord, now: datetime) -> ScheduleRecord:
            if call is not None:
                row = replace(row, workflow=call.workflow, body=call.body)
            return _updated(row, options, now)

        return self._changed(id, change)

    def pause(self, id: str, note: str = "") -> ScheduleDescription:  # noqa: A002 - the contract's
        """Have it not fire until it is resumed; no deploy goes over that. Runs that are open go on."""
        return self._changed(id, lambda row, now: schedule_rows.pause(row, Paused.BY_HAND, note, now))

    def resume(self, id: str, note: str = "") -> ScheduleDescription:  # noqa: A002 - the contract's
        """Have it fire again, from its next time on; `backfill` makes up for those that were left out.

        Raises:
          InvalidSchedule: it was put aside since it cannot fire, and still cannot.
        """
        return self._changed(id, lambda row, now: schedule_rows.resume(row, now, note))

    def trigger(self, id: str) -> Handle[Any]:  # noqa: A002 - the contract's
        """Start a run now, beside its times, whether a run of it is open and whether it is paused or not.

        Raises:
          NotFound: there is no such schedule.
        """
        fired = self._rows().change(id, lambda found: self._deciding(found, id, self._now()).trigger())
        self._client.tell_coordinator()
        assert fired is not None
        run_id = fired.record.last_run_id
        assert run_id is not None
        return Handle(self._client, run_id, None, run_id)

    def backfill(
        self,
        id: str,  # noqa: A002 - the contract's
        start: datetime,
        end: datetime,
        overlap: OverlapName = "buffer_all",
    ) -> builtins.list[datetime]:
        """Make up for times that are over: those from one moment to another that have no run.

        Parameters:
          start, end: aware; both included. What is still to come is left to the schedule.
          overlap: one after the other by default; ``allow_all`` starts all at once.

        Returns:
          The times that it makes up for, in the schedule's time zone.

        Raises:
          NotFound: there is no such schedule.
          InvalidSchedule: the range ends before it begins, or holds very many times.
        """
        since, until, policy = moment_of("start", start), moment_of("end", end), overlap_of(overlap)
        if since is None or until is None or until < since:
            raise InvalidSchedule("backfill takes a start and an end that is not before it, both aware datetimes")
        zone = _zone_of(self._row(id))
        taken = set(self._rows().times_among(id, since, until))
        made: builtins.list[datetime] = []

        def write(found: Found | None) -> Fired:
            now = self._now()
            deciding = self._deciding(found, id, now)
            times = times_in(_there(found, id))
            made.clear()  # the transaction may be done again
            if times.count_between(since - _RIGHT_BEFORE, min(until, now)) > MOST_WAITING:
                raise InvalidSchedule(f"from {since} to {until} there are more than {MOST_WAITING} times: take a part")
            for time in times.after(since - _RIGHT_BEFORE):
                if time > min(until, now):
                    break
                if time not in taken:
                    made.append(time)
            return deciding.backfill(made, policy)

        self._rows().change(id, write)
        self._client.tell_coordinator()
        return [time.astimezone(zone) for time in made]

    def delete(self, id: str) -> None:  # noqa: A002 - the contract's
        """Forget it; its runs stay. One that is declared in code comes back with the next coordinator that starts.

        Raises:
          NotFound: there is no such schedule.
        """
        if not self._rows().delete(id):
            raise _not_there(id)

    def get(self, id: str, firings: int = 20) -> ScheduleDescription:  # noqa: A002 - the contract's
        """A schedule with its latest firings and their runs.

        Raises:
          NotFound: there is no such schedule.
        """
        return describe_schedule(self._row(id), [*self._rows().firings(id, firings)])

    def list(
        self, workflow: str | None = None, paused: bool | None = None, limit: int = 50, after: str = ""
    ) -> builtins.list[ScheduleDescription]:
        """Schedules in the order of their ids.

        Parameters:
          workflow: of this workflow only.
          paused: only those that are, or are not.
          after: those beyond this id: where the page before ended.
        """
        rows = self._rows().list(workflow=workflow, paused=paused, limit=limit, after=after)
        return [describe_schedule(row) for row in rows]

    def next(self, id: str, n: int = 1) -> builtins.list[datetime]:  # noqa: A002 - the contract's
        """The next times, aware, in its time zone and without jitter; fewer where it ends; those of a paused one, too."""
        row = self._row(id)
        found = islice(times_in(row).after(self._now()), n)
        return [time.astimezone(_zone_of(row)) for time in found]

    # Parts.

    def _new_row(
        self, schedule_id: str, call: ScheduledCall, options: Mapping[str, Any], now: datetime
    ) -> ScheduleRecord:
        times: dict[str, Any] = {name: options[name] for name in (*_TIMES, *_BESIDE) if name in options}
        spec = spec_of(**times, anchor=now)
        _check_not_over(spec.at or spec.end_at, now)
        return schedule_rows.new_row(
            schedule_id,
            self._rows().partition_of(schedule_id),
            spec,
            now,
            workflow=call.workflow,
            body=call.body,
            overlap=overlap_of(options.get("overlap", "skip")),
            catchup=catchup_of(options.get("catchup", "1h")),
            declared="client",
            paused=bool(options.get("paused")),
            note=options.get("note", ""),
        )

    def _new_call(
        self,
        schedule_id: str,
        wf: Any,
        args: tuple[Any, ...] | None,
        kwargs: Mapping[str, Any] | None,
        options: Mapping[str, Any],
    ) -> ScheduledCall | None:
        """What its runs are from now on; ``None`` where that is not changed."""
        if wf is None and args is None and kwargs is None:
            if "tags" not in options:
                return None
            row = self._row(schedule_id)
            body: dict[str, Any] = {
                **from_json(row.body),
                "tags": check_start_options({"tags": options["tags"]})["tags"] or {},
            }
            return ScheduledCall(row.workflow, to_json(body).decode())
        row = self._row(schedule_id)
        tags = options.get("tags", ScheduledCall(row.workflow, row.body).tags)
        return self._call(row.workflow if wf is None else wf, args or (), kwargs or {}, tags)

    def _call(
        self, wf: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], tags: Mapping[str, Any] | None
    ) -> ScheduledCall:
        settings = self._client.settings
        limit = int(settings.max_payload)
        return scheduled_call(wf, args, kwargs, tags, namespace=settings.namespace, max_payload=limit)

    def _deciding(self, found: Found | None, schedule_id: str, now: datetime) -> Deciding:
        _there(found, schedule_id)
        assert found is not None
        namespace = self._client.settings.namespace
        return Deciding(found, now, namespace=namespace, partition_of=self._rows().partition_of)

    def _changed(
        self, schedule_id: str, change: Callable[[ScheduleRecord, datetime], ScheduleRecord]
    ) -> ScheduleDescription:
        def write(found: Found | None) -> Fired:
            return Fired(change(_there(found, schedule_id), self._now()))

        return self._written(schedule_id, write)

    def _written(self, schedule_id: str, write: Callable[[Found | None], Fired | None]) -> ScheduleDescription:
        fired = self._rows().change(schedule_id, write)
        self._client.tell_coordinator()
        assert fired is not None
        return describe_schedule(fired.record)

    def _row(self, schedule_id: str) -> ScheduleRecord:
        row = self._rows().get(schedule_id)
        if row is None:
            raise _not_there(schedule_id)
        return row


def _there(found: Found | None, schedule_id: str) -> ScheduleRecord:
    if found is None:
        raise _not_there(schedule_id)
    return found.record


def _not_there(schedule_id: str) -> NotFound:
    return NotFound(f"there is no schedule {schedule_id!r}")


def _zone_of(row: ScheduleRecord) -> ZoneInfo:
    return zone_of(spec_in(row).timezone)


def _check_id(schedule_id: Any) -> None:
    if not isinstance(schedule_id, str) or not 0 < len(schedule_id) <= _LONGEST_ID or "\0" in schedule_id:
        raise InvalidSchedule(
            f"a schedule's id is a text of 1 to {_LONGEST_ID} characters without NUL, not {schedule_id!r}"
        )


def _check_not_over(end: datetime | None, now: datetime) -> None:
    if end is not None and end < now:
        raise InvalidSchedule(f"it would never fire: {end.isoformat()} is over, and it is {now.isoformat()}")


def _updated(row: ScheduleRecord, options: Mapping[str, Any], now: datetime) -> ScheduleRecord:
    """The row with what is given changed."""
    changes: dict[str, Any] = {}
    if "overlap" in options:
        changes["overlap"] = overlap_of(options["overlap"])
    if "catchup" in options:
        changes["catchup"] = catchup_of(options["catchup"])
    if "note" in options:
        changes["note"] = options["note"]
    row = replace(row, **changes, updated_at=now)
    if not options.keys() & {*_TIMES, *_BESIDE}:
        return row
    before = spec_in(row)
    said: dict[str, Any] = {name: getattr(before, name) for name in (*_TIMES, *_BESIDE)}
    if any(options.get(name) is not None for name in _TIMES):
        said |= dict.fromkeys(_TIMES)
    said |= {name: value for name, value in options.items() if name in said}
    spec = spec_of(**said, anchor=before.anchor)
    _check_not_over(spec.at or spec.end_at, now)
    return schedule_rows.with_spec(row, spec, now)
