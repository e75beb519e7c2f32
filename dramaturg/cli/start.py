"""``dramaturg start``: hand a run to the coordinator."""

from __future__ import annotations

from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dramaturg.cli.arguments import Arg, Input, Json, call_of, moment_of, tags_of
from dramaturg.cli.connection import connected
from dramaturg.cli.exits import UsageError
from dramaturg.cli.output import hint, print_document, say
from dramaturg.cli.watching import finish, follow, interruptible
from dramaturg_protocol.errors import GraphError, NotFound, PayloadError

if TYPE_CHECKING:
    from dramaturg.client import Client
    from dramaturg.handle import Handle


class OnConflict(StrEnum):
    """What to do while a run with the id is open."""

    RAISE = "raise"
    USE_EXISTING = "use_existing"
    TERMINATE_EXISTING = "terminate_existing"


class Reuse(StrEnum):
    """What to do once the run with the id is closed."""

    ALWAYS = "always"
    IF_FAILED = "if_failed"
    NEVER = "never"


Name = Annotated[str, typer.Argument(metavar="NAME", help="The workflow's name, as it is registered.")]
WorkflowId = Annotated[str | None, typer.Option("--id", help="The workflow id; by default the run id.")]
Key = Annotated[
    str | None, typer.Option("--key", help="Idempotency key: the same key of a workflow gives the same run.")
]
OnConflictOption = Annotated[OnConflict | None, typer.Option(help="While a run with this --id is open.")]
ReuseOption = Annotated[Reuse | None, typer.Option(help="After the run with this --id was closed.")]
Version = Annotated[int | None, typer.Option(help="Version of the workflow; by default the highest.")]
Tag = Annotated[list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="A tag of the run. Repeatable.")]
Delay = Annotated[
    str | None,
    typer.Option("--delay", metavar="WHEN", help="Begin later: after 30s, 2h, 3d, or at a date and time."),
]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Show the run's progress and wait for its result.")]


def start(
    name: Name,
    given: Input = None,
    arg: Arg = None,
    workflow_id: WorkflowId = None,
    key: Key = None,
    on_conflict: OnConflictOption = None,
    reuse: ReuseOption = None,
    version: Version = None,
    tag: Tag = None,
    delay: Delay = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Start a run, and print its id.

    The run is accepted when this returns; a coordinator ('dramaturg dev MODULE') that uses the same database takes it
    up. With --wait it ends when the run does.
    """
    args, kwargs = call_of(given, arg)
    options: dict[str, Any] = {
        "id": workflow_id,
        "idempotency_key": key,
        "on_conflict": on_conflict and on_conflict.value,
        "reuse": reuse and reuse.value,
        "version": version,
        "tags": tags_of(tag) or None,
        "delay": moment_of("--delay", delay),
    }
    with connected() as client:
        refuse_unknown(client, name)
        handle = _submit(client, name, args, kwargs, {key: each for key, each in options.items() if each is not None})
        if not wait:
            _tell_started(handle, name, json)
            return
        with interruptible(handle.run_id):
            story = follow(client, handle.run_id, json=json)
    finish(story, json=json)


def refuse_unknown(client: Client, name: str) -> None:
    """Refuse a name that no coordinator has registered, once there are coordinators.

    Raises:
      NotFound: there is no such workflow; the message names those that there are.
    """
    from dramaturg_protocol.graph_form import GRAPH_PREFIX

    names = client.workflow_names()
    if not names or name in names or name.startswith(GRAPH_PREFIX):
        return
    close = get_close_matches(name, names, 1)
    meant = f"; did you mean {close[0]!r}?" if close else f": they have {', '.join(sorted(names))}"
    raise NotFound(f"no coordinator has a workflow {name!r}{meant}")


def _submit(
    client: Client, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
) -> Handle[Any]:
    from dramaturg_protocol.options import START_OPTIONS

    try:
        if not (args and kwargs):
            # Here arguments and options are apart, so that an argument may bear an option's name.
            return client.start_many(name, [kwargs or args], **options)[0]
        taken = sorted(START_OPTIONS & kwargs.keys())
        if taken:
            raise UsageError(f"an argument called {taken[0]!r} goes into --input with all others by name")
        return client.start(name, *args, **kwargs, **options)
    except (TypeError, ValueError, PayloadError, GraphError) as error:
        raise UsageError(str(error)) from None


def _tell_started(handle: Handle[Any], name: str, json: bool) -> None:
    if json:
        print_document({"run_id": handle.run_id, "workflow_id": handle.workflow_id, "workflow": name})
        return
    say(handle.run_id)
    hint(f"started {name}. Look at it with: dramaturg status {handle.run_id}")
