"""``dramaturg run``: one workflow, to its end, in this process."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dramaturg.cli.arguments import Arg, Input, Json, call_of
from dramaturg.cli.connection import log_to_stderr
from dramaturg.cli.exits import INTERRUPTED, UsageError
from dramaturg.cli.output import hint
from dramaturg.cli.progress import Display, shown
from dramaturg.cli.story import RunStory
from dramaturg.cli.watching import finish
from dramaturg_protocol.errors import NotFound, PayloadError, RunEnded

if TYPE_CHECKING:
    from dramaturg.handle import Handle
    from dramaturg_protocol.records import RunWrites

Target = Annotated[
    str, typer.Argument(metavar="MODULE:WORKFLOW", help="Like orders:checkout for checkout in orders.py.")
]
WorkflowId = Annotated[
    str | None,
    typer.Option("--id", help="The workflow id. An open run of this id is taken up where it stopped."),
]


def run(
    target: Target, given: Input = None, arg: Arg = None, workflow_id: WorkflowId = None, json: Json = False
) -> None:
    """Run a workflow to its end in this process, showing its progress.

    Nothing has to be set up: runs are kept in a SQLite file (.dramaturg/dramaturg.db, or DRAMATURG_DATABASE_URL), and
    the steps run on threads of this process. Beside a running 'dramaturg dev' it uses a private database; 'dramaturg
    start' hands the run to that one instead.
    """
    from dramaturg.embedded import run_observed

    log_to_stderr(logging.WARNING)
    args, kwargs = call_of(given, arg)
    wf = workflow_at(target)
    args, kwargs = beside_options(wf, args, kwargs)
    told = _Told()
    # What becomes of each attempt is told by the display.
    logging.getLogger("dramaturg.actors").setLevel(logging.ERROR)
    try:
        with shown(told.story, silent=json) as display:
            told.display = display
            bound = wf if workflow_id is None else _with_id(wf, workflow_id)
            with suppress(RunEnded):
                run_observed(bound, args, kwargs, [told.commit], told.begin)
    except KeyboardInterrupt:
        _tell_interrupted(told.story.run_id)
        raise typer.Exit(INTERRUPTED) from None
    except (TypeError, ValueError, PayloadError) as error:
        if told.story.run_id:
            raise
        raise UsageError(str(error)) from None
    finish(told.story, json=json)


def workflow_at(target: str) -> Any:
    """The workflow, or step, that ``MODULE:WORKFLOW`` names.

    Raises:
      UsageError: there is none.
      ConfigurationError: the module cannot be imported.
    """
    from dramaturg.steps import StepFunction
    from dramaturg.workflows import Workflow
    from dramaturg_protocol.modules import import_modules

    module_name, separator, name = target.partition(":")
    if not separator or not module_name or not name:
        raise UsageError(f"name the workflow as MODULE:WORKFLOW, like orders:checkout, not {target!r}")
    import_modules([module_name])
    found: Any = importlib.import_module(module_name)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, (Workflow, StepFunction)):
        there = sorted(key for key, value in vars(importlib.import_module(module_name)).items() if _is(value, Workflow))
        has = f"it has {', '.join(there)}" if there else "it has none; decorate an async function with @workflow"
        raise UsageError(f"module {module_name!r} has no workflow {name!r}: {has}")
    return found  # pyright: ignore[reportUnknownVariableType]


def beside_options(wf: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same call without keywords that bear the name of an option of a start: those go by position."""
    from dramaturg_protocol.options import START_OPTIONS

    if START_OPTIONS.isdisjoint(kwargs):
        return args, kwargs
    try:
        bound = inspect.signature(wf.fn).bind(*args, **kwargs)
    except TypeError as error:
        raise UsageError(f"workflow {wf.name!r}: {error}") from None
    return bound.args, bound.kwargs


class _Told:
    """Tells a display what the coordinator in this process commits."""

    def __init__(self) -> None:
        self.story = RunStory("")
        self.display: Display | None = None

    def begin(self, handle: Handle[Any]) -> None:
        """The run is accepted; tell what it did before, if it is taken up again."""
        self.story.run_id = handle.run_id
        for event in handle.events() if _has_begun(handle) else ():
            self._tell(event)

    def commit(self, writes: Sequence[RunWrites]) -> None:
        """A turn was committed."""
        from dramaturg.cli.happenings import events_of

        for event in events_of(writes, self.story.run_id):
            self._tell(event)

    def _tell(self, event: Any) -> None:
        if self.display is not None:
            self.display.tell(event)


def _has_begun(handle: Handle[Any]) -> bool:
    return handle.describe().started_at is not None


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind)


def _with_id(wf: Any, workflow_id: str) -> Any:
    from dramaturg.steps import StepFunction

    if isinstance(wf, StepFunction):
        raise UsageError("a run of a single step takes no --id")
    return wf.options(id=workflow_id)


def _tell_interrupted(run_id: str) -> None:
    from dramaturg.client import Client

    if not run_id:
        return
    with Client() as client:
        try:
            client.describe(run_id)
        except NotFound:
            hint(f"\nInterrupted: run {run_id} was in a private database and is gone.")
            return
    hint(
        f"\nInterrupted: run {run_id} stays open where it is, and nothing is lost. 'dramaturg dev MODULE' goes on "
        f"with it; look at it with: dramaturg status {run_id}"
    )
