"""``dramaturg signal``, ``query`` and ``update``: what a person says to the code of a run, and asks it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dramaturg.cli.arguments import By, Json, Reason, RunOrWorkflowId, duration_of, json_given, moment_of
from dramaturg.cli.connection import connected
from dramaturg.cli.exits import UsageError
from dramaturg.cli.output import as_json, print_document, say
from dramaturg.cli.steer import tell_done

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name under which the workflow listens.")]
Value = Annotated[
    str | None,
    typer.Option("--input", "-i", metavar="JSON", help="Any JSON. @FILE reads a file, - reads stdin."),
]


Key = Annotated[str | None, typer.Option("--key", metavar="KEY", help="Idempotency key: the same one counts once.")]


Delay = Annotated[
    str | None,
    typer.Option("--delay", metavar="WHEN", help="Send it later: after 30s, 2h, 3d, or at a date and time."),
]


def signal(
    any_id: RunOrWorkflowId,
    name: Name,
    given: Value = None,
    key: Key = None,
    delay: Delay = None,
    by: By = None,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Send a run a signal. It is kept until the workflow takes it."""
    payload: Any = json_given("--input", given)
    later = moment_of("--delay", delay)
    with connected() as client:
        handle = client.handle(any_id)
        handle.signal(name, payload, key, later, by=by, reason=reason)
        tell_done(handle, f"signal {name} {'sent' if later is None else 'will be sent'}", json)


Arguments = Annotated[
    str | None,
    typer.Option(
        "--input", "-i", metavar="JSON", help="Its arguments, a JSON array. @FILE reads a file, - reads stdin."
    ),
]


def query(any_id: RunOrWorkflowId, name: Name, given: Arguments = None, json: Json = False) -> None:
    """Ask a run something that its workflow answers; it changes nothing, and works on closed runs too."""
    arguments = _arguments(given)
    with connected() as client:
        handle = client.handle(any_id)
        _tell(handle.run_id, handle.query(name, *arguments), json)


def update(
    any_id: RunOrWorkflowId,
    name: Name,
    given: Arguments = None,
    key: Key = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="How long to wait for its end; 10s by default.")
    ] = None,
    json: Json = False,
) -> None:
    """Have a run's workflow do something, and print what that gives."""
    arguments = _arguments(given)
    seconds = None if timeout is None else duration_of("--timeout", timeout)
    with connected() as client:
        handle = client.handle(any_id)
        _tell(handle.run_id, handle.update(name, *arguments, idempotency_key=key, timeout=seconds), json)


def _arguments(given: str | None) -> list[Any]:
    arguments: Any = [] if given is None else json_given("--input", given)
    if not isinstance(arguments, list):
        raise UsageError(f"--input must be a JSON array of arguments, not {given}")
    return arguments  # pyright: ignore[reportUnknownVariableType]


def _tell(run_id: str, value: Any, json: bool) -> None:
    if json:
        print_document({"run_id": run_id, "value": value})
    else:
        say(as_json(value))
