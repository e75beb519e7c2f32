"""``dramaturg status``, ``list``, ``events``, ``result``: look at runs, and wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dramaturg.cli.arguments import Json, RunOrWorkflowId, duration_of, moment_of, since_of, tags_of
from dramaturg.cli.connection import connected
from dramaturg.cli.exits import RUN_FAILED, UsageError
from dramaturg.cli.live_progress import LiveProgress
from dramaturg.cli.narration import error_type, sentence_of
from dramaturg.cli.output import (
    as_json,
    coloured,
    hint,
    local_time,
    plain,
    print_columns,
    print_document,
    print_json_line,
    rough,
    say,
    untagged,
)
from dramaturg.cli.story import RunStory
from dramaturg.cli.watching import interruptible, tell_failure, watch
from dramaturg_store.clock import system_now

if TYPE_CHECKING:
    from dramaturg.views import Event, OpenItem, RunDescription, RunSummary

Workflow = Annotated[str | None, typer.Option("--workflow", "-w", metavar="NAME", help="Runs of this workflow only.")]
Status = Annotated[
    list[str] | None, typer.Option("--status", "-s", metavar="STATUS", help="Like RUNNING or FAILED. Repeatable.")
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="WHEN", help="Started then or later: 2h, 3d, or a date like 2026-05-01T12:00."),
]
Until = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Started before that.")]
Tag = Annotated[list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="With this tag. Repeatable.")]
Text = Annotated[
    str | None, typer.Option("--text", metavar="TEXT", help="With this in an id, the workflow, a tag or the error.")
]
IdleFor = Annotated[
    str | None, typer.Option("--idle-for", metavar="DURATION", help="Open, and nothing happened for so long.")
]
WaitingOn = Annotated[
    str | None,
    typer.Option(
        "--waiting-on", metavar="KIND", help="Such open work is under way: step, timer, retry, approval, hook"
    ),
]
OfStep = Annotated[str | None, typer.Option("--step", metavar="NAME", help="A step of this name is under way.")]
OfQueue = Annotated[str | None, typer.Option("--queue", metavar="NAME", help="A step of this queue is under way.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")]
After = Annotated[str | None, typer.Option("--after", metavar="RUN", help="Go on after this run, the last of a page.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens until the run is closed.")]
Timeout = Annotated[str | None, typer.Option(metavar="DURATION", help="Like 30s; by default for ever.")]


def status(any_id: RunOrWorkflowId, json: Json = False) -> None:
    """Say how a run is, and in one sentence what it waits for."""
    with connected() as client:
        description = client.handle(any_id).describe()
    if json:
        print_document({**plain(description), "result": untagged(description.result)})
    else:
        _tell(description)


def list_runs(
    workflow: Workflow = None,
    status: Status = None,
    since: Since = None,
    until: Until = None,
    tag: Tag = None,
    text: Text = None,
    idle_for: IdleFor = None,
    waiting_on: WaitingOn = None,
    step: OfStep = None,
    queue: OfQueue = None,
    limit: Limit = 50,
    after: After = None,
    json: Json = False,
) -> None:
    """List runs, newest first. With --json one array."""
    with connected() as client:
        try:
            wanted = [each.upper() for each in status or ()]
            found = client.runs(
                workflow=workflow,
                status=wanted,
                since=since_of(since),
                until=moment_of("--until", until),
                tags=tags_of(tag),
                text=text,
                idle_for=None if idle_for is None else duration_of("--idle-for", idle_for),
                waiting_on=waiting_on,
                step=step,
                queue=queue,
                limit=limit,
                after=after,
            )
        except ValueError as error:
            raise UsageError(str(error)) from None
    if json:
        print_document(found)
    elif found:
        print_columns(("RUN", "WORKFLOW", "STATUS", "STARTED", "TOOK", "WORKFLOW ID"), [_row(each) for each in found])
        if len(found) == limit:
            hint(f"there may be more: --after {found[-1].run_id}")
    else:
        hint("no runs")


def events(any_id: RunOrWorkflowId, follow: Follow = False, json: Json = False) -> None:
    """Print a run's history. With --json one array; with --follow too, one JSON object a line.

    With --follow it tells how far running steps are, too: those lines have no number, since they stand in no history.
    """
    with connected() as client:
        run_id = client.handle(any_id).run_id
        if not follow:
            history = list(client.events_of(run_id, follow=False))
            _print_events(history, json)
            return
        with interruptible(run_id):
            for event in watch(client, run_id, progress=LiveProgress(client, run_id)):
                print_json_line(event) if json else say(_event_line(event))


def result(any_id: RunOrWorkflowId, timeout: Timeout = None, json: Json = False) -> None:
    """Wait for a run's end and print its result as JSON.

    With --json the result stands in a document beside the run's id, status and error.
    """
    limit = None if timeout is None else duration_of("--timeout", timeout)
    with connected() as client:
        run_id = client.handle(any_id).run_id
        story = RunStory(run_id)
        with interruptible(run_id):
            for event in watch(client, run_id, limit):
                story.tell(event)
    if json:
        print_document(story.document())
    elif story.status == "COMPLETED":
        say(as_json(story.shown_result, indent=2))
    else:
        tell_failure(story)
    if story.status != "COMPLETED":
        raise typer.Exit(RUN_FAILED)


def _print_events(history: list[Event], json: bool) -> None:
    if json:
        print_document(history)
        return
    for event in history:
        say(_event_line(event))


def _event_line(event: Event) -> str:
    moment = event.time.astimezone()
    clock = f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} {moment:%Z}"
    return f"{event.number or '':>5}  {clock}  {event.type:<20}  {sentence_of(event)}"


def _row(run: RunSummary) -> tuple[str, ...]:
    took = rough((run.closed_at or system_now()) - run.started_at)
    other_id = run.workflow_id if run.workflow_id != run.run_id else ""
    return run.run_id, run.workflow, run.status, local_time(run.started_at), took, other_id


def _tell(run: RunDescription) -> None:
    version = f", version {run.version}" if run.version else ""
    say(f"run {run.run_id} of {run.workflow}{version}: {coloured(run.status)}")
    if run.waiting_for:
        say(f"  waits for    {run.waiting_for}")
    if run.workflow_id != run.run_id:
        say(f"  workflow id  {run.workflow_id}")
    if run.parent is not None:
        say(f"  parent       {run.parent}")
    if run.continued_from is not None:
        say(f"  continues    {run.continued_from}")
    if run.continued_to is not None:
        say(f"  goes on as   {run.continued_to}")
    if run.tags:
        say(f"  tags         {', '.join(f'{name}={as_json(value)}' for name, value in run.tags.items())}")
    if run.custom_status is not None:
        say(f"  says         {as_json(run.custom_status)}")
    if run.started_at is not None:
        say(f"  started      {local_time(run.started_at)}")
        took = rough((run.closed_at or system_now()) - run.started_at)
        say(f"  closed       {local_time(run.closed_at)}, after {took}" if run.closed_at else f"  open for     {took}")
    _tell_progress(run.progress)
    _tell_open(run.open)
    _tell_children(run.children)
    _tell_end(run)


def _tell_progress(progress: dict[str, int]) -> None:
    if progress.get("total"):
        failed = f", {progress['failed']} failed" if progress["failed"] else ""
        say(f"  items        {progress['done']} of {progress['total']} done{failed}")
    if progress.get("scheduled"):
        say(f"  steps        {progress['completed']} of {progress['scheduled']} completed so far")


def _tell_children(children: list[RunSummary]) -> None:
    if children:
        say()
        print_columns(
            ("CHILD", "WORKFLOW", "STATUS", "STARTED", "TOOK", "WORKFLOW ID"), [_row(each) for each in children]
        )
        say()


def _tell_open(items: list[OpenItem]) -> None:
    if items:
        say()
        heads = ("#", "UNDER WAY", "STATUS", "ATTEMPT", "WORKER", "DUE", "LAST ERROR")
        print_columns(heads, [_open_row(item) for item in items])


def _open_row(item: OpenItem) -> tuple[str, ...]:
    attempt = str(item.attempt) if item.attempt else ""
    due = local_time(item.due) if item.due is not None else ""
    return str(item.seq), item.name, item.status, attempt, item.worker, due, " ".join(item.error.split())


def _tell_end(run: RunDescription) -> None:
    if run.status == "COMPLETED":
        say(f"  result       {as_json(untagged(run.result))}")
    error: dict[str, Any] = run.error or {}
    if error:
        say(f"  error        {error_type(error)}: {error.get('message', '')}")
        if error.get("traceback"):
            say(f"\n{error['traceback'].rstrip()}")
