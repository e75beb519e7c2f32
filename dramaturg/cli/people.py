"""``dramaturg approve``, ``reject``, ``approvals`` and ``hook resume``: what runs wait for, answered from a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from dramaturg.cli.arguments import Json, RunOrWorkflowId, json_given
from dramaturg.cli.connection import connected
from dramaturg.cli.exits import UsageError
from dramaturg.cli.output import hint, local_time, print_columns, print_document, say
from dramaturg.cli.steer import tell_done

if TYPE_CHECKING:
    from dramaturg.approvals import ApprovalInfo

Name: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="Of the approval, as 'approvals' shows it.")]
Who: TypeAlias = Annotated[str, typer.Option("--by", metavar="WHO", help="Who decides; kept in the history.")]
Comment: TypeAlias = Annotated[str, typer.Option("--comment", metavar="TEXT", help="Why; kept in the history.")]


def approve(any_id: RunOrWorkflowId, name: Name, by: Who, comment: Comment = "", json: Json = False) -> None:
    """Approve what a run asks people for."""
    with connected() as client:
        handle = client.handle(any_id)
        try:
            handle.approve(name, by, comment)
        except ValueError as error:
            raise UsageError(str(error)) from None
        tell_done(handle, f"{name} approved", json)


def reject(any_id: RunOrWorkflowId, name: Name, by: Who, comment: Comment = "", json: Json = False) -> None:
    """Reject what a run asks people for."""
    with connected() as client:
        handle = client.handle(any_id)
        try:
            handle.reject(name, by, comment)
        except ValueError as error:
            raise UsageError(str(error)) from None
        tell_done(handle, f"{name} rejected", json)


def approvals(
    workflow: Annotated[str | None, typer.Option("--workflow", metavar="NAME", help="Of this workflow.")] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Of this name.")] = None,
    approver: Annotated[
        str | None, typer.Option("--approver", metavar="WHO", help="That this person may decide, also as one of all.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 50,
    json: Json = False,
) -> None:
    """List what waits for a decision, the oldest first."""
    with connected() as client:
        found = client.approvals.list(workflow=workflow, name=name, approver=approver, limit=limit)
    if json:
        print_document(found)
    elif found:
        heads = ("RUN", "WORKFLOW", "NAME", "FOR", "SINCE", "UNTIL", "PROMPT")
        print_columns(heads, [_row(each) for each in found])
        if len(found) == limit:
            hint("there may be more: --limit")
    else:
        hint("nothing waits for a decision")


def resume_hook(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Of the hook, as its workflow gave it.")],
    given: Annotated[
        str | None,
        typer.Option("--input", "-i", metavar="JSON", help="What it brings. @FILE reads a file, - reads stdin."),
    ] = None,
    json: Json = False,
) -> None:
    """Resolve a hook, once."""
    payload: Any = json_given("--input", given)
    with connected() as client:
        client.resume_hook(token, payload)
    if json:
        print_document({"resolved": True})
    else:
        say("resolved")


def _row(each: ApprovalInfo) -> tuple[str, ...]:
    return (
        each.run_id,
        each.workflow,
        each.name,
        ", ".join(each.approvers) or "anybody",
        local_time(each.since),
        local_time(each.due),
        " ".join(each.prompt.split()),
    )
