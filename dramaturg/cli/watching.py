"""Waiting for a run, and what is said when it has ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import typer

from dramaturg.cli.exits import INTERRUPTED, RUN_FAILED, NoAnswerInTime, NoCoordinator
from dramaturg.cli.narration import error_type
from dramaturg.cli.output import as_json, hint, print_document, say
from dramaturg.cli.progress import shown
from dramaturg.cli.story import RunStory
from dramaturg_protocol.durations import format_duration
from dramaturg_protocol.errors import DramaturgError

if TYPE_CHECKING:
    from dramaturg.cli.live_progress import LiveProgress
    from dramaturg.client import Client
    from dramaturg.views import Event

#: How long a coordinator that was there may be away: a deploy restarts it.
PATIENCE_SECONDS: Final = 30.0
_FIRST_LOOK_SECONDS: Final = 0.3
_LOOK_SECONDS: Final = 1.0


def follow(client: Client, run_id: str, *, json: bool, timeout: timedelta | None = None) -> RunStory:
    """Show a run until it is closed; gives its story."""
    story = RunStory(run_id)
    with shown(story, silent=json) as display:
        for event in watch(client, run_id, timeout):
            display.tell(event)
    return story


def watch(
    client: Client, run_id: str, timeout: timedelta | None = None, progress: LiveProgress | None = None
) -> Iterator[Event]:
    """A run's events, those to come too, until it is closed.

    Parameters:
      progress: what to tell between them of steps that run.

    Raises:
      NoAnswerInTime: it is still open after the timeout.
      NoCoordinator: nobody is there who would go on with it.
    """
    mail: SimpleQueue[Event | Exception | None] = SimpleQueue()
    # A thread of its own reads, so that this one can look after the time and the coordinator meanwhile.
    threading.Thread(target=_read, args=(client, run_id, mail), daemon=True).start()
    attention = _Attention(client, run_id)
    deadline = None if timeout is None else time.monotonic() + timeout.total_seconds()
    pause = _FIRST_LOOK_SECONDS
    while True:
        left = pause if deadline is None else min(pause, max(deadline - time.monotonic(), 0.0))
        try:
            item = mail.get(timeout=left) if left else mail.get_nowait()
        except Empty:
            attention.look()
            if progress is not None:
                yield from progress.look()
            if timeout is not None and deadline is not None and time.monotonic() >= deadline:
                raise _too_late(client, run_id, timeout) from None
            pause = _LOOK_SECONDS
            continue
        if item is None:
            return
        if isinstance(item, Exception):
            raise item
        if progress is not None:
            progress.hear(item)
        yield item


@contextmanager
def interruptible(run_id: str) -> Generator[None, None, None]:
    """Ctrl-C ends the waiting, not the run, and says so."""
    try:
        yield
    except KeyboardInterrupt:
        hint(f"\nInterrupted: run {run_id} goes on. Look at it with: dramaturg status {run_id}")
        raise typer.Exit(INTERRUPTED) from None


def finish(story: RunStory, *, json: bool) -> None:
    """Print how a run ended; the program ends with exit code 1 unless it completed."""
    if json:
        print_document(story.document())
    elif story.status == "COMPLETED":
        say(f"result: {as_json(story.shown_result)}")
    else:
        tell_failure(story)
    if story.status != "COMPLETED":
        raise typer.Exit(RUN_FAILED)


def tell_failure(story: RunStory) -> None:
    """Say on stderr how a run ended that has no result, with the traceback of the step that it stems from."""
    error: dict[str, Any] = story.error or {}
    step = story.last_failed
    if story.status == "FAILED":
        traceback = step.traceback if step is not None and step.traceback else error.get("traceback", "")
        if traceback:
            where = f"step {step.name} #{step.seq}, attempt {step.attempt}" if step is not None else story.workflow
            hint(f"in {where}:\n{traceback.rstrip()}")
        hint(f"Error: run {story.run_id} failed: {error_type(error)}: {error.get('message')}")
    else:
        hint(f"Error: run {story.run_id} is {story.status}")


def _read(client: Client, run_id: str, mail: SimpleQueue[Event | Exception | None]) -> None:
    try:
        for event in client.events_of(run_id, follow=True):
            mail.put(event)
    except Exception as error:  # noqa: BLE001 - raised again where it is read
        mail.put(error)
    else:
        mail.put(None)


def _too_late(client: Client, run_id: str, timeout: timedelta) -> DramaturgError:
    waits = client.describe(run_id).waiting_for
    return NoAnswerInTime(f"run {run_id} is still open after {format_duration(timeout)}: it waits for {waits}")


class _Attention:
    """Notices that nobody is there who would go on with a run."""

    def __init__(self, client: Client, run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self._seen_at: float | None = None
        self._has_warned = False

    def look(self) -> None:
        if self._client.has_live_coordinator():
            self._seen_at, self._has_warned = time.monotonic(), False
        elif self._seen_at is None or time.monotonic() - self._seen_at > PATIENCE_SECONDS:
            from dramaturg_actors.application_broker import serving_command

            raise NoCoordinator(
                f"no coordinator is running, so nobody goes on with run {self._run_id}; nothing is lost. "
                f"Start one with: {serving_command(self._client.settings)}"
            )
        elif not self._has_warned:
            self._has_warned = True
            hint(f"the coordinator is gone; waiting up to {PATIENCE_SECONDS:g} s for another one")
