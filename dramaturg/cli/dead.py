"""``dramaturg dead list``, ``show``, ``retry`` and ``drop``: what was put aside, and what a person does about it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from dramaturg.cli.arguments import By, Json, Reason, since_of
from dramaturg.cli.connection import connected
from dramaturg.cli.exits import UsageError
from dramaturg.cli.narration import sentence_of
from dramaturg.cli.output import as_json, local_time, print_columns, print_document, say

if TYPE_CHECKING:
    from dramaturg.dead_letters import DeadLetter

Kind: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--kind", metavar="KIND", help="gave_up, held, worker_lost, not_reported, inbox, report, queue …"),
]
OfRun: TypeAlias = Annotated[str | None, typer.Option("--run", metavar="ID", help="About this run.")]
OfStep: TypeAlias = Annotated[str | None, typer.Option("--step", metavar="NAME", help="About steps of this name.")]
Since: TypeAlias = Annotated[
    str | None, typer.Option("--since", metavar="WHEN", help="Put aside then or later: 1h, 3d, or a date and time.")
]
LetterId: TypeAlias = Annotated[int | None, typer.Argument(metavar="[N]", help="One letter; or give a filter.")]


def list_letters(
    kind: Kind = None,
    run: OfRun = None,
    step: OfStep = None,
    since: Since = None,
    closed: Annotated[bool, typer.Option("--closed", help="Those that were dealt with.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 50,
    after: Annotated[int, typer.Option("--after", metavar="N", min=0, help="Those beyond this number.")] = 0,
    json: Json = False,
) -> None:
    """What was put aside, oldest first."""
    with connected() as client, told_as_usage():
        letters = client.dead_letters.list(kind, run, step, since_of(since), closed, limit, after)
    if json:
        print_document(letters)
    elif letters:
        print_columns(("N", "KIND", "SINCE", "RUN", "REASON"), [_row(letter) for letter in letters])
    else:
        say("no dead letters")


def show(
    number: Annotated[int, typer.Argument(metavar="N", help="The letter, as 'dead list' shows it.")],
    json: Json = False,
) -> None:
    """One of them: its reason, its payload and the history of its step."""
    with connected() as client:
        letter = client.dead_letters.get(number)
    if json:
        print_document(letter)
        return
    say(f"dead letter {letter.id}, {letter.kind}, since {local_time(letter.created_at)}")
    say(f"  reason   {letter.reason}")
    if letter.run_id is not None:
        say(f"  run      {letter.run_id}")
    if letter.closed_as is not None:
        by = f" by {letter.closed_by}" if letter.closed_by else ""
        say(f"  closed   {letter.closed_as}{by}, {local_time(letter.closed_at)} {letter.closed_reason or ''}".rstrip())
    payload = letter.payload if isinstance(letter.payload, str) else as_json(letter.payload, indent=2)
    say(f"  payload  {payload}")
    for event in letter.history:
        say(f"{event.number:>5}  {local_time(event.time)}  {event.type:<16}  {sentence_of(event)}")


def _verb(name: str, done: str, text: str) -> Callable[..., None]:
    """A command that does the same to one letter, or to all of a filter."""

    def command(
        number: LetterId = None,
        kind: Kind = None,
        run: OfRun = None,
        step: OfStep = None,
        since: Since = None,
        by: By = None,
        reason: Reason = None,
        json: Json = False,
    ) -> None:
        _check(number, kind, run, step, since)
        with connected() as client, told_as_usage():
            do = getattr(client.dead_letters, name)
            count: int = do(number, kind=kind, run=run, step=step, since=since_of(since), by=by, reason=reason)
        _tell(done, count, json)

    command.__name__, command.__doc__ = name, text
    return command


retry = _verb("retry", "retried", "Try again: a step's run goes on, a message goes back to where it was taken from.")
drop = _verb("drop", "dropped", "Nothing is to be done about it.")


@contextmanager
def told_as_usage() -> Generator[None, None, None]:
    """A filter that cannot be meant is the fault of who typed it."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from None


def _check(number: int | None, *filters: object) -> None:
    has_filter = any(each is not None for each in filters)
    if (number is None) != has_filter:
        raise UsageError("give the number of one letter, or a filter: --kind, --run, --step, --since")


def _tell(done: str, count: int, json: bool) -> None:
    if json:
        print_document({done: count})
    else:
        say(f"{done}: {count} dead letter{'' if count == 1 else 's'}")


def _row(letter: DeadLetter) -> tuple[str, ...]:
    return str(letter.id), letter.kind, local_time(letter.created_at), letter.run_id or "-", _short(letter.reason)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else line[:99] + "…"
