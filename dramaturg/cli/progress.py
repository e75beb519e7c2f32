"""What people see while a run goes on: a live picture on a terminal, one line for each event elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from dramaturg.cli.narration import OF_INTEREST, sentence_of, shortened
from dramaturg.cli.output import local_clock, rough, say
from dramaturg.cli.story import Batch, RunStory, StepStory, TimerStory
from dramaturg_store.clock import Now, system_now

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from dramaturg.views import Event

#: More steps of one name than this, side by side, are one bar.
FEW: Final = 3
_BAR_WIDTH: Final = 30
_SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_MARKS: Final = {
    "COMPLETED": ("✓", "green"),
    "FAILED": ("✗", "red"),
    "TIMED_OUT": ("✗", "red"),
    "CANCELLED": ("-", "yellow"),
    "RETRYING": ("↻", "yellow"),
}


class Display(Protocol):
    """Is told of a run's events, in order, from any thread."""

    def tell(self, event: Event) -> None:
        """Show an event."""
        ...


@contextmanager
def shown(story: RunStory, *, silent: bool) -> Generator[Display, None, None]:
    """A display that fits stdout and keeps the story up to date.

    Parameters:
      silent: show nothing, since stdout belongs to a JSON document.
    """
    if silent:
        yield Silent(story)
    elif sys.stdout.isatty():
        with on_terminal(story) as display:
            yield display
    else:
        yield Lines(story)


class Silent:
    """Keeps the story and shows nothing."""

    def __init__(self, story: RunStory) -> None:
        self._story = story

    def tell(self, event: Event) -> None:
        self._story.tell(event)


class Lines:
    """One line for each event of interest."""

    def __init__(self, story: RunStory) -> None:
        self._story = story

    def tell(self, event: Event) -> None:
        self._story.tell(event)
        if event.type == "run.started":
            say(f"{local_clock(event.time)}  run {self._story.run_id}")
        if event.type in OF_INTEREST:
            say(f"{local_clock(event.time)}  {sentence_of(event)}")


@contextmanager
def on_terminal(
    story: RunStory, console: Console | None = None, now: Now = system_now
) -> Generator[Display, None, None]:
    """A picture that is drawn again several times a second, and stays when it ends."""
    from rich.console import Console
    from rich.live import Live

    console = console or Console()
    picture = Picture(story, console, now)
    with Live(
        console=console, get_renderable=picture.draw, refresh_per_second=10, vertical_overflow="crop", screen=False
    ):
        yield picture


class Picture:
    """Draws a story: a row for each step while they are few, a bar for steps that run side by side."""

    def __init__(self, story: RunStory, console: Console, now: Now) -> None:
        self._story = story
        self._console = console
        self._now = now
        self._drawing = threading.Lock()

    def tell(self, event: Event) -> None:
        with self._drawing:
            self._story.tell(event)

    def draw(self) -> RenderableType:
        """The picture of this moment."""
        from rich.console import Group

        with self._drawing:
            now = self._now()
            return Group(self._head(now), self._rows(now))

    def _head(self, now: datetime) -> RenderableType:
        from rich.text import Text

        story = self._story
        took = (story.closed_at or now) - story.started_at if story.started_at is not None else timedelta(0)
        name = story.workflow or "run"
        head = Text.assemble((name, "bold"), f"  {story.run_id}  ", (story.shown_status, "bold"), f"  {rough(took)}")
        head.no_wrap, head.overflow = False, "fold"
        return head

    def _rows(self, now: datetime) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1))
        for overflow in ("crop", "fold", "crop"):
            table.add_column(overflow=overflow, no_wrap=overflow == "crop")
        table.add_column(overflow="ellipsis", no_wrap=True)
        lines = self._lines(now)
        room = max(self._console.height - 4, 3)
        if len(lines) > room:
            hidden = len(lines) - room
            lines = lines[hidden:]
            table.add_row(Text("…"), Text(f"{hidden} earlier", style="dim"))
        for line in lines:
            table.add_row(*line)
        return table

    def _lines(self, now: datetime) -> list[tuple[RenderableType, ...]]:
        lines: list[tuple[RenderableType, ...]] = []
        for row in self._story.rows:
            if isinstance(row, TimerStory):
                lines.append(_timer_line(row, now))
            elif len(row.steps) > FEW:
                lines.append(_bar_line(row, now))
            else:
                lines += [_step_line(step, now) for step in row.steps]
        return lines


def _step_line(step: StepStory, now: datetime) -> tuple[RenderableType, ...]:
    from rich.text import Text

    words = f"attempt {step.attempt}" if step.attempt > 1 or step.status == "RETRYING" else ""
    if step.retry_at is not None and step.is_open:
        words += f" in {rough(step.retry_at - now)}" if step.retry_at > now else " now"
    if step.error and step.status != "COMPLETED":
        words = f"{words}  {shortened(step.error)}" if words else shortened(step.error)
    took = rough((step.until or now) - step.since)
    return _mark(step.status, step.is_open, now), Text(step.name), Text(took, style="dim"), Text(words)


def _bar_line(batch: Batch, now: datetime) -> tuple[RenderableType, ...]:
    from rich.text import Text

    total, done = len(batch.steps), batch.count("COMPLETED")
    failed = batch.count("FAILED") + batch.count("TIMED_OUT")
    words = f"{done}/{total}"
    if failed:
        words += f", {failed} failed"
    if retrying := batch.count("RETRYING"):
        words += f", {retrying} trying again: {shortened(_last_error(batch), 80)}"
    since = batch.steps[0].since
    until = max((step.until or now for step in batch.steps), default=now)
    status = "FAILED" if failed else "COMPLETED" if done == total else "CANCELLED"
    filled = _BAR_WIDTH * (done + failed) // total
    bar = Text.assemble(("━" * filled, "green"), ("━" * (_BAR_WIDTH - filled), "dim"), " ", words)
    return _mark(status, batch.open > 0, now), Text(batch.name), Text(rough(until - since), style="dim"), bar


def _timer_line(timer: TimerStory, now: datetime) -> tuple[RenderableType, ...]:
    from rich.text import Text

    is_open = timer.until is None
    words = f"due {local_clock(timer.due)}"
    if is_open:
        words += f", in {rough(timer.due - now)}" if timer.due > now else ", now"
    took = rough((timer.until or now) - timer.since)
    mark = Text("◷", style="cyan") if is_open else Text("✓", style="green")
    return mark, Text("sleep"), Text(took, style="dim"), Text(words)


def _last_error(batch: Batch) -> str:
    return next((step.error for step in reversed(batch.steps) if step.status == "RETRYING" and step.error), "")


def _mark(status: str, is_open: bool, now: datetime) -> RenderableType:
    from rich.text import Text

    if is_open and status != "RETRYING":
        return Text(_SPINNER[now.microsecond // 100_000 % len(_SPINNER)], style="cyan")
    sign, colour = _MARKS.get(status, ("-", "yellow"))
    return Text(sign, style=colour)
