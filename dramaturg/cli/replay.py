"""``dramaturg replay`` and ``export``: do histories still fit the code? Before a deploy, not after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dramaturg.cli.arguments import Json, RunOrWorkflowId
from dramaturg.cli.connection import connected
from dramaturg.cli.dev import Modules, MoreModules
from dramaturg.cli.exits import RUN_FAILED, UsageError
from dramaturg.cli.output import as_json, hint, print_document, say

if TYPE_CHECKING:
    from dramaturg.client import Client
    from dramaturg_protocol.events import RunBlocked

Runs = Annotated[
    list[str] | None, typer.Option("--run", metavar="ID", help="This run only, also a closed one. Repeatable.")
]
Files = Annotated[
    list[Path] | None,
    typer.Option("--file", "-f", metavar="FILE", help="A history that 'dramaturg export' wrote. Repeatable."),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="By default stdout.")]
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one run; `problem` is why it would be blocked."""

    run_id: str
    workflow: str
    version: int
    problem: RunBlocked | None


def replay(
    modules: Modules = None,
    module: MoreModules = None,
    run: Runs = None,
    file: Files = None,
    json: Json = False,
) -> None:
    """Replay all open runs against the code of these modules; nothing is written, nothing is sent.

    With --run only that run, with --file exported histories instead, without any database. Ends with exit code 1 where
    a run would be BLOCKED, and names the run, the event, and the line of the workflow.
    """
    from dramaturg_protocol.config import load_settings
    from dramaturg_protocol.modules import import_modules

    names = [*load_settings().modules, *(modules or ()), *(module or ())]
    if not names:
        raise UsageError("name the modules with the code to try, like: dramaturg replay orders")
    import_modules(names)
    count = 0
    unfit: list[Replayed] = []
    for each in _replayed(run or (), file or ()):
        count += 1
        if each.problem is not None:
            unfit.append(each)
            if not json:
                _tell(each, each.problem)
    if json:
        print_document({"runs": count, "unfit": unfit})
    else:
        which = "run(s)" if run or file else "open run(s)"
        say(f"{count} {which} replayed, {len(unfit)} would be BLOCKED")
    if unfit:
        raise typer.Exit(RUN_FAILED)


def export(any_id: RunOrWorkflowId, output: Output = None) -> None:
    """Write a run with its whole history as JSON, to be kept beside the code and replayed against it.

    The file holds all that the run was given and gave; what a CODEC encrypted stays so.
    """
    from dramaturg.histories import export_of

    with connected() as client:
        document = export_of(client, any_id)
    if output is None:
        say(as_json(document, indent=2))
        return
    output.write_text(as_json(document, indent=2) + "\n", encoding="utf-8")
    hint(f"wrote {len(document['events'])} events of run {document['run_id']} to {output}")


def _replayed(runs: Sequence[str], files: Sequence[Path]) -> Iterator[Replayed]:
    yield from map(_of_file, files)
    if files and not runs:
        return
    from dramaturg.embedded import rules_of
    from dramaturg_coordinator.rehearsal import rehearse

    with connected() as client:
        run_ids = iter([client.resolve(each) for each in runs]) if runs else _open_runs(client)
        for each in rehearse(client.store, rules_of(client.settings), run_ids, closed_too=bool(runs)):
            record = each.record
            yield Replayed(record.run_id, record.workflow, record.version, each.problem)


def _of_file(file: Path) -> Replayed:
    from dramaturg.embedded import rules_of
    from dramaturg.histories import read_history
    from dramaturg_coordinator.rehearsal import rehearse_history
    from dramaturg_protocol.config import load_settings

    try:
        history = read_history(file)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: {error}") from None
    problem = rehearse_history(rules_of(load_settings()), history.run_id, history.events)
    return Replayed(history.run_id or str(file), history.started.workflow, history.version, problem)


def _open_runs(client: Client) -> Iterator[str]:
    from dramaturg.filters import OPEN_STATUSES

    after = None
    while page := client.runs(status=OPEN_STATUSES, limit=_PAGE, after=after):
        yield from (each.run_id for each in page)
        after = page[-1].run_id


def _tell(each: Replayed, problem: RunBlocked) -> None:
    say(f"run {each.run_id} of {each.workflow}, version {each.version}: {problem.message}")
    if problem.event is not None:
        say(f"  event {problem.event}, at {problem.line or 'an unknown line'}")
    for title, lines in (("recorded", problem.recorded), ("now", problem.actual)):
        for line in lines:
            say(f"  {title:<9} {line}")
