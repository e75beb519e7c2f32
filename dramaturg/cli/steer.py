"""``dramaturg pause``, ``resume``, ``retry``, ``reset`` and ``step``: what a person does with a run that is under way or failed."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dramaturg.cli.arguments import Arg, By, Input, Json, Reason, RunOrWorkflowId, call_of, json_or_text
from dramaturg.cli.connection import connected
from dramaturg.cli.exits import UsageError
from dramaturg.cli.output import print_document, say

if TYPE_CHECKING:
    from dramaturg.handle import Handle


class StepAction(StrEnum):
    """What is done with a step."""

    RETRY = "retry"
    COMPLETE = "complete"
    FAIL = "fail"


def pause(any_id: RunOrWorkflowId, by: By = None, reason: Reason = None, json: Json = False) -> None:
    """Begin nothing more of a run until it is resumed; what is under way ends, and what arrives is kept."""
    with connected() as client:
        handle = client.handle(any_id)
        handle.pause(by=by, reason=reason)
        tell_done(handle, "paused", json)


def resume(any_id: RunOrWorkflowId, by: By = None, reason: Reason = None, json: Json = False) -> None:
    """Go on with a paused run."""
    with connected() as client:
        handle = client.handle(any_id)
        handle.resume(by=by, reason=reason)
        tell_done(handle, "resumed", json)


def retry(any_id: RunOrWorkflowId, by: By = None, reason: Reason = None, json: Json = False) -> None:
    """Go on with a failed run from the steps that failed; what succeeded is not run again."""
    with connected() as client:
        handle = client.handle(any_id)
        handle.retry(by=by, reason=reason)
        tell_done(handle, "retried", json)


def reset(
    any_id: RunOrWorkflowId,
    to_event: Annotated[int, typer.Option("--to-event", metavar="N", min=1, help="The last event that stays.")],
    by: By = None,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Set a run back, open or closed: what came after an event is done again. 'dramaturg events' shows the numbers."""
    with connected() as client:
        handle = client.handle(any_id)
        handle.reset(to_event, by=by, reason=reason)
        tell_done(handle, f"set back to event {to_event}", json)


def fork(
    any_id: RunOrWorkflowId,
    from_step: Annotated[
        int, typer.Option("--from-step", metavar="N", min=1, help="The first step that the new run does itself.")
    ] = 1,
    given: Input = None,
    arg: Arg = None,
    by: By = None,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Begin a new run that shares what a run recorded before a step; or does all of it with other input."""
    args: object = None
    if given is not None or arg:
        positions, named = call_of(given, arg)
        if positions and named:
            raise UsageError("give positions or keywords, not both")
        args = positions or named
    with connected() as client:
        try:
            new = client.handle(any_id).fork(from_step, args, by=by, reason=reason)
        except (ValueError, TypeError) as error:
            raise UsageError(str(error)) from None
        tell_done(new, f"forked from step {from_step}", json)


def step(
    any_id: RunOrWorkflowId,
    number: Annotated[int, typer.Argument(metavar="N", min=1, help="The step's position, as 'status' shows it.")],
    action: Annotated[StepAction, typer.Argument(help="Try it again now, or say what came of it.")],
    value: Annotated[
        str | None, typer.Option("--value", metavar="JSON", help="complete: the step's result; text if it is not JSON.")
    ] = None,
    message: Annotated[str | None, typer.Option("--message", metavar="TEXT", help="fail: what went wrong.")] = None,
    by: By = None,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Take an open step into your hands."""
    if (value is not None and action is not StepAction.COMPLETE) or (message and action is not StepAction.FAIL):
        raise UsageError("--value goes with complete, --message with fail")
    with connected() as client:
        handle = client.handle(any_id)
        one = handle.step(number)
        match action:
            case StepAction.RETRY:
                one.retry_now(by=by, reason=reason)
            case StepAction.COMPLETE:
                result: Any = None if value is None else json_or_text(value)
                one.complete(result, by=by, reason=reason)
            case StepAction.FAIL:
                one.fail(message or "failed by hand", by=by, reason=reason)
        tell_done(handle, f"step {number}: {action.value}", json)


def tell_done(handle: Handle[object], done: str, json: bool) -> None:
    """Say what was done, and how the run is now."""
    status = handle.describe().status
    if json:
        print_document({"run_id": handle.run_id, "status": status})
    else:
        say(f"{done}: run {handle.run_id} is {status}")
