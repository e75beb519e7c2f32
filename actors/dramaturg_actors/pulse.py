"""One thread that looks at the attempts that run: tells of those that take long, and of what they say of themselves.

Steps that are short cost it nothing but being seen now and then: it looks twice a second while anything runs, sleeps when
nothing does, and reports at most once a second for a step. What it cannot report it tries again at its next look.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from dramaturg_actors.attempts import Attempt
from dramaturg_protocol.errors import StepTimedOut
from dramaturg_protocol.messages import StepReport

#: An attempt that runs so long is told of.
LONG_SECONDS: Final = 2.0
#: How often one attempt's heartbeats and progress are reported at most.
PERIOD_SECONDS: Final = 1.0

_LOOK_SECONDS: Final = 0.5

_logger = logging.getLogger("dramaturg.actors")


class Pulse:
    """Watches attempts.

    Parameters:
      running: gives the attempts that run.
      send: publishes a report; an exception means that it was not taken.
      worker: the name that reports bear.
    """

    def __init__(
        self, running: Callable[[], Iterable[Attempt]], send: Callable[[StepReport], None], worker: str
    ) -> None:
        self._running = running
        self._send = send
        self._worker = worker
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_asleep = False
        self._is_closed = False

    def begins(self) -> None:
        """An attempt begins; it is one of those that run already."""
        if self._thread is not None and not self._is_asleep:
            return
        with self._changed:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="dramaturg-pulse", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def look(self) -> float | None:
        """Report what is to be reported; gives the seconds until the next look, ``None`` where nothing runs."""
        attempts = [attempt for attempt in self._running() if not attempt.is_settled]
        if not attempts:
            return None
        wait = min(_interrupt_if_silent(attempt) for attempt in attempts)
        for attempt in attempts:
            try:
                self._tell(attempt)
            except Exception as error:  # noqa: BLE001 - it is told later, and the others now
                _logger.debug("what %s says of itself was not taken: %r", attempt, error)
        return min(max(wait, 0.01), _LOOK_SECONDS)

    def _tell(self, attempt: Attempt) -> None:
        if not attempt.is_announced and attempt.age >= LONG_SECONDS:
            self._send(attempt.started_report(self._worker))
            attempt.is_announced = True
        now = time.monotonic()
        if now - attempt.told_at < PERIOD_SECONDS:
            return
        signs = attempt.context.signs
        news = signs.take()
        if news is None:
            return
        attempt.told_at = now
        try:
            self._send(attempt.alive_report(self._worker, news))
        except BaseException:
            signs.give_back(news)
            raise

    def _run(self) -> None:
        while self._is_open():
            wait = self._looked()
            with self._changed:
                # In this order: an attempt that begins in between is seen here, or wakes.
                self._is_asleep = wait is None
                has_more = self._is_asleep and any(not attempt.is_settled for attempt in self._running())
                if self._is_open() and not has_more:
                    self._changed.wait(wait)
                self._is_asleep = False

    def _is_open(self) -> bool:
        return not self._is_closed

    def _looked(self) -> float | None:
        try:
            return self.look()
        except Exception:
            _logger.exception("a bug in the watching of steps; please report it")
            return _LOOK_SECONDS


def _interrupt_if_silent(attempt: Attempt) -> float:
    """Interrupt an attempt whose heartbeat is overdue; the seconds until it is."""
    limit = attempt.task.heartbeat_timeout
    if limit is None:
        return _LOOK_SECONDS
    left = attempt.context.signs.beat_at + limit - time.monotonic()
    if left <= 0:
        text = f"step {attempt.task.name!r} gave no heartbeat for {limit:g} s (heartbeat_timeout)"
        attempt.interrupt(StepTimedOut(text, limit="heartbeat_timeout"))
        return _LOOK_SECONDS
    return left
