"""``dramaturg schedule …``: what starts by itself, and what a person does about it."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from dramaturg.cli.arguments import Arg, Input, Json, call_of, tags_of
from dramaturg.cli.connection import connected
from dramaturg.cli.exits import UsageError
from dramaturg.cli.output import hint, local_time, print_columns, print_document, say
from dramaturg.cli.start import refuse_unknown
from dramaturg_protocol.errors import AlreadyScheduled, InvalidSchedule, PayloadError

if TYPE_CHECKING:
    from dramaturg.schedule_views import ScheduleDescription


class OverlapPolicy(StrEnum):
    """What becomes of a time that finds a run open."""

    SKIP = "skip"
    BUFFER_ONE = "buffer_one"
    BUFFER_ALL = "buffer_all"
    CANCEL_OTHER = "cancel_other"
    TERMINATE_OTHER = "terminate_other"
    ALLOW_ALL = "allow_all"


ScheduleId: TypeAlias = Annotated[str, typer.Argument(metavar="ID", help="The schedule's id.")]
Cron: TypeAlias = Annotated[
    str | None, typer.Option("--cron", metavar="LINE", help="Five fields as in crontab(5), or @daily and the like.")
]
Every: TypeAlias = Annotated[
    str | None, typer.Option("--every", metavar="DURATION", help="By elapsed time: 30s, 90m, 1d.")
]
CalendarStep: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--calendar",
        metavar="NAME=N",
        help="Every so many years, months, weeks, days, at hour, minute, second: --calendar months=1 --calendar hour=9.",
    ),
]
At: TypeAlias = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="Once. A time without zone is local, as for the next two.")
]
Timezone: TypeAlias = Annotated[
    str | None,
    typer.Option("--timezone", metavar="ZONE", help="Of cron and calendar, like Europe/Berlin; UTC by default."),
]
Jitter: TypeAlias = Annotated[str | None, typer.Option("--jitter", metavar="DURATION", help="Up to so much later.")]
StartAt: TypeAlias = Annotated[str | None, typer.Option("--start-at", metavar="TIME", help="No time before this one.")]
EndAt: TypeAlias = Annotated[str | None, typer.Option("--end-at", metavar="TIME", help="No time after this one.")]
Overlap: TypeAlias = Annotated[
    OverlapPolicy | None, typer.Option("--overlap", help="While a run of it is open; skip by default.")
]
Catchup: TypeAlias = Annotated[
    str | None, typer.Option("--catchup", metavar="DURATION", help="How late a time is made up for; 1h by default.")
]
Note: TypeAlias = Annotated[str, typer.Option("--note", metavar="TEXT", help="For people.")]


def create(
    schedule_id: ScheduleId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The workflow's name, as it is registered.")],
    given: Input = None,
    arg: Arg = None,
    cron: Cron = None,
    every: Every = None,
    calendar: CalendarStep = None,
    at: At = None,
    timezone: Timezone = None,
    jitter: Jitter = None,
    start_at: StartAt = None,
    end_at: EndAt = None,
    overlap: Overlap = None,
    catchup: Catchup = None,
    paused: Annotated[bool, typer.Option("--paused", help="Do not fire before it is resumed.")] = False,
    note: Note = "",
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="Of its runs. Repeatable.")
    ] = None,
    json: Json = False,
) -> None:
    """Have a workflow start by itself: by --cron, --every, --calendar, or once --at a moment."""
    args, kwargs = call_of(given, arg)
    said = {
        "cron": cron,
        "every": every,
        "calendar": _calendar_of(calendar),
        "at": _moment("--at", at),
        "timezone": timezone,
        "jitter": jitter,
        "start_at": _moment("--start-at", start_at),
        "end_at": _moment("--end-at", end_at),
        "overlap": overlap and overlap.value,
        "catchup": catchup,
    }
    options: dict[str, Any] = {option: value for option, value in said.items() if value is not None}
    with connected() as client, _told_as_usage():
        refuse_unknown(client, name)
        made = client.schedules.create(
            schedule_id, name, *args, paused=paused, note=note, tags=tags_of(tag) or None, **_apart(kwargs), **options
        )
    _tell("created", made, json)


def list_schedules(
    workflow: Annotated[str | None, typer.Option("--workflow", metavar="NAME", help="Of this workflow only.")] = None,
    paused: Annotated[bool | None, typer.Option("--paused/--active", help="Only those that are, or are not.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 50,
    after: Annotated[str, typer.Option("--after", metavar="ID", help="Those beyond this id.")] = "",
    json: Json = False,
) -> None:
    """Schedules by their ids, with what each did and when it fires next."""
    with connected() as client:
        found = client.schedules.list(workflow, paused, limit, after)
    if json:
        print_document([_in_utc(asdict(each)) for each in found])
    elif found:
        columns = ("ID", "WORKFLOW", "WHEN", "NEXT", "FIRED", "SKIPPED", "MISSED", "STATE")
        print_columns(columns, [_row(each) for each in found])
    else:
        say("no schedules")


def show(schedule_id: ScheduleId, json: Json = False) -> None:
    """One of them: its latest times with their runs, and the next ones."""
    with connected() as client, _told_as_usage():
        one = client.schedules.get(schedule_id)
        coming = [] if one.paused == "trouble" else client.schedules.next(schedule_id, 3)
    if json:
        print_document(_in_utc(asdict(one)))
        return
    say(f"schedule {one.id}, {_state(one)}")
    say(f"  workflow  {one.workflow}")
    say(f"  when      {one.when}")
    say(f"  overlap   {one.overlap}, {one.waiting} waiting")
    say(f"  so far    {one.fired} fired, {one.skipped} skipped, {one.missed} missed")
    if one.note:
        say(f"  note      {one.note}")
    for moment in coming:
        say(f"  next      {_in_its_zone(moment)}")
    for firing in one.firings:
        say(f"  {firing.kind:<8}  {_in_its_zone(firing.time)}  {firing.run_id or 'waits for the run before it'}")


def next_times(
    schedule_id: ScheduleId,
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many.")] = 5,
    json: Json = False,
) -> None:
    """The next times, in the schedule's time zone."""
    with connected() as client, _told_as_usage():
        coming = client.schedules.next(schedule_id, number)
    if json:
        print_document(_in_utc(coming))
        return
    for moment in coming:
        say(_in_its_zone(moment))


def pause(schedule_id: ScheduleId, note: Note = "", json: Json = False) -> None:
    """Have it not fire until it is resumed; no deploy goes over that."""
    with connected() as client:
        _tell("paused", client.schedules.pause(schedule_id, note=note), json)


def resume(schedule_id: ScheduleId, note: Note = "", json: Json = False) -> None:
    """Have it fire again, from its next time on."""
    with connected() as client, _told_as_usage():
        _tell("resumed", client.schedules.resume(schedule_id, note=note), json)


def trigger(schedule_id: ScheduleId, json: Json = False) -> None:
    """Start a run now, beside its times, and print its id."""
    with connected() as client, _told_as_usage():
        handle = client.schedules.trigger(schedule_id)
    if json:
        print_document({"run_id": handle.run_id, "schedule": schedule_id})
        return
    say(handle.run_id)
    hint(f"Look at it with: dramaturg status {handle.run_id}")


def backfill(
    schedule_id: ScheduleId,
    start: Annotated[str, typer.Option("--start", metavar="TIME", help="The first time that is made up for.")],
    end: Annotated[str, typer.Option("--end", metavar="TIME", help="The last one.")],
    overlap: Annotated[
        OverlapPolicy, typer.Option("--overlap", help="One after the other, or all at once with allow_all.")
    ] = OverlapPolicy.BUFFER_ALL,
    json: Json = False,
) -> None:
    """Make up for times that are over and have no run."""
    begin, until = _moment("--start", start), _moment("--end", end)
    assert begin is not None
    assert until is not None
    with connected() as client, _told_as_usage():
        made = client.schedules.backfill(schedule_id, begin, until, overlap.value)
    if json:
        print_document(_in_utc(made))
    else:
        say(f"backfilled: {len(made)} time{'' if len(made) == 1 else 's'}")


def delete(schedule_id: ScheduleId, json: Json = False) -> None:
    """Forget it; its runs stay."""
    with connected() as client:
        client.schedules.delete(schedule_id)
    if json:
        print_document({"deleted": schedule_id})
    else:
        say(f"deleted: {schedule_id}")


@contextmanager
def _told_as_usage() -> Generator[None, None, None]:
    """What cannot be meant is the fault of who typed it."""
    try:
        yield
    except (InvalidSchedule, AlreadyScheduled, TypeError, PayloadError) as error:
        raise UsageError(str(error)) from None


def _apart(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    from dramaturg.schedule_options import ScheduleOptions

    taken = sorted({*ScheduleOptions.__annotations__, "paused"} & kwargs.keys())
    if taken:
        raise UsageError(f"an argument called {taken[0]!r} goes through --input as an array of positions")
    return dict(kwargs)


def _calendar_of(pairs: list[str] | None) -> dict[str, int] | None:
    if not pairs:
        return None
    steps: dict[str, int] = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        if not number.isdecimal():
            raise UsageError(f"--calendar takes NAME=N like months=1, not {pair!r}")
        steps[name] = int(number)
    return steps


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise UsageError(f"{option} takes a date and time like 2030-01-31T09:00, not {text!r}") from None


def _tell(done: str, one: ScheduleDescription, json: bool) -> None:
    if json:
        print_document(_in_utc(asdict(one)))
        return
    coming = "" if one.next_due is None or one.next_time is None else f", next {_in_its_zone(one.next_time)}"
    say(f"{done}: {one.id}, {one.when}{coming}")


def _row(one: ScheduleDescription) -> tuple[str, ...]:
    coming = "-" if one.next_due is None else local_time(one.next_due)
    counts = (str(one.fired), str(one.skipped), str(one.missed))
    return one.id, one.workflow, one.when, coming, *counts, _state(one)


def _state(one: ScheduleDescription) -> str:
    if not one.paused:
        return "active" if one.next_time is not None else "over"
    words = {"by_hand": "paused", "left_code": "paused: gone from the code", "trouble": "paused: cannot fire"}
    return words.get(one.paused, one.paused)


def _in_utc(value: Any) -> Any:
    """A document with its moments in UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, dict):
        return {name: _in_utc(each) for name, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [_in_utc(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def _in_its_zone(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S %Z}"
