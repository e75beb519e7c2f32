"""What the demo says: a line where something happens, the same on a terminal and in a file."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from rich.console import Console
from rich.table import Table

from dramaturg import Event
from dramaturg.demo.proof import Claim, Row


class Narrator:
    """Tells what happens in a run, from its events.

    Parameters:
      console: where.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began: datetime | None = None
        self._files = 0
        self._counted = 0

    def follow(self, events: Iterable[Event]) -> None:
        """Tell of each event, as it comes."""
        for event in events:
            self._began = self._began or event.time
            text = self._text_of(event)
            if text:
                seconds = (event.time - self._began).total_seconds()
                self._console.print(f"{seconds:7.2f} s  {text}", markup=False, soft_wrap=True)

    def _text_of(self, event: Event) -> str:
        data = event.data
        match event.type, data.get("name"):
            case "step.completed", "find_files":
                self._files = len(data["result"])
                return f"find_files     {self._files} files; now one step for each, all at once"
            case "step.completed", "count_file":
                return self._count()
            case "step.retrying", _:
                pause = (datetime.fromisoformat(data["retry_at"]) - event.time).total_seconds()
                error = data["error"]["message"]
                return f"{data['name']:<14} attempt {data['attempt']} failed, next in {pause:.2f} s: {error}"
            case "step.completed", name:
                return f"{name:<14} attempt {data['attempt']} completed"
            case "timer.started", _:
                return "sleep          1 s: a row in the database, no thread and no worker waits"
            case "timer.fired", _:
                return "sleep          over"
            case "run.completed", _:
                return "run            COMPLETED"
            case _:
                return ""

    def _count(self) -> str:
        self._counted += 1
        quarters = {self._files * quarter // 4 for quarter in (1, 2, 3, 4)}
        return f"count_file     {self._counted} of {self._files}" if self._counted in quarters else ""


class HalfWay:
    """Tells how far the run is that is going to be killed, a few times.

    Parameters:
      console: where.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told = -1

    def __call__(self, completed: int, scheduled: int) -> None:
        """Told often, it tells each eighth once."""
        eighth = completed * 8 // scheduled if scheduled > 1 else -1
        if eighth > self._told:
            self._told = eighth
            self._console.print(f"running    {completed} of {scheduled} steps completed")


def print_proof(console: Console, rows: Iterable[Row], claims: Iterable[Claim]) -> None:
    """The table and the claims under it."""
    table = Table("steps", title="What ran, from the ledger; what counts, from the history", title_justify="left")
    for name in ("steps", "ran before", "ran after", "outcomes"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row.what, str(row.steps), str(row.first), str(row.second), str(row.outcomes))
    console.print(table)
    grid = Table.grid(padding=(0, 2))
    for claim in claims:
        grid.add_row("[green]ok[/]" if claim.holds else "[bold red]FAILED[/]", claim.text)
    console.print(grid)
