"""One attempt of a step on this worker, from its pick-up to its report."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from dramaturg_actors.context import StepContext
from dramaturg_actors.failures import Outcome, outcome_of
from dramaturg_actors.interrupts import Interruption
from dramaturg_actors.vital_signs import News
from dramaturg_protocol.errors import StepCancelled, StepInterrupt
from dramaturg_protocol.messages import ReportKind, StepReport, StepTask

_logger: Final = logging.getLogger("dramaturg.actors")


class Attempt:
    """An attempt that this worker took.

    Its outcome is written once: whoever comes later (an interrupt in a hook, a step that ends after the worker gave
    it back) changes nothing. Its report is claimed once.

    Attributes:
      delivery: how often it was begun, this time included, as far as it is known.
      is_counted: whether that is exact.
      interruption: how to stop it, while its code runs.
      call: its arguments, once they are decoded.
      refine: what the step itself says of an outcome, from the exception behind it.
      is_announced: it was reported that it began.
      told_at: when it was reported last what it says of itself, on the monotonic clock.
    """

    def __init__(self, task: StepTask, context: StepContext) -> None:
        self.task = task
        self.delivery = 1
        self.is_counted = True
        self.context = context
        self.interruption: Interruption | None = None
        self.call: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self.is_announced = False
        self.told_at = 0.0
        self.refine: Callable[[Outcome, BaseException], Outcome] | None = None
        self._outcome: Outcome | None = None
        self._started = time.monotonic()
        self._seconds: float | None = None
        self._is_claimed = False
        self._lock = threading.Lock()

    def __str__(self) -> str:
        task = self.task
        return f"step {task.name!r} ({task.message_id}, attempt {task.attempt} of {task.max_attempts})"

    @property
    def is_settled(self) -> bool:
        """Whether the outcome is known."""
        return self._outcome is not None

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; ``None`` while it has not."""
        return self._outcome

    @property
    def outcome_kind(self) -> ReportKind | None:
        """What the outcome is; ``None`` while there is none."""
        return None if self._outcome is None else self._outcome.kind

    @property
    def age(self) -> float:
        """Seconds since it was picked up."""
        return time.monotonic() - self._started

    @property
    def seconds(self) -> float | None:
        """How long it took; ``None`` while there is no outcome."""
        return self._seconds

    @property
    def is_reported(self) -> bool:
        """Whether somebody claimed the report."""
        return self._is_claimed

    def settle(self, outcome: Outcome) -> bool:
        """Write the outcome; false where there is one already."""
        with self._lock:
            if self._outcome is not None:
                return False
            self._outcome = outcome
            self._seconds = time.monotonic() - self._started
            return True

    def fail(self, error: BaseException) -> None:
        """Write what an exception means as the outcome, and log it, unless there is an outcome."""
        if self.is_settled:
            return
        try:
            outcome = outcome_of(error, self.task, self.context.interrupted)
            if self.refine is not None:
                outcome = self.refine(outcome, error)
        except Exception:
            _logger.exception("what %s raised cannot be described", self)
            outcome = Outcome(ReportKind.FAILED, error_type="Exception", bases=("Exception", "BaseException"))
        self.take(outcome)

    def take(self, outcome: Outcome) -> None:
        """Write the outcome, and log it unless it is a success, or there is one."""
        if not self.settle(outcome) or outcome.kind is ReportKind.COMPLETED:
            return
        is_last = outcome.fatal or self.task.attempt >= self.task.max_attempts
        is_expected = outcome.kind is ReportKind.RELEASED or self.context.cancelled
        level = logging.WARNING if is_last and not is_expected else logging.INFO
        _logger.log(level, "%s %s: %s: %s", self, outcome.kind, outcome.error_type, outcome.message)
        _logger.debug("%s", outcome.traceback)

    def interrupt(self, reason: StepInterrupt) -> None:
        """Tell the step's code to stop, if it is running."""
        interruption = self.interruption
        if interruption is not None:
            interruption.send(reason)

    def cancel(self, reason: StepCancelled) -> None:
        """Nobody waits for the step any more: tell its code to stop, also where that only begins."""
        if self.context.cancel_reason is None:
            self.context.cancel_reason = reason
            self.interrupt(reason)

    def claim_report(self, worker: str) -> StepReport | None:
        """The final report, for the first who asks; ``None`` for the others and while there is no outcome."""
        with self._lock:
            if self._is_claimed or self._outcome is None:
                return None
            self._is_claimed = True
            report = self._outcome.report(self.task, worker, self._seconds, self.delivery)
        news = None if report.kind is ReportKind.COMPLETED else self.context.signs.take()
        return report if news is None else dataclasses.replace(report, **news._asdict())

    def disclaim_report(self) -> None:
        """Leave the claimed report to the next who asks: it was not published."""
        with self._lock:
            self._is_claimed = False

    def started_report(self, worker: str) -> StepReport:
        """That the attempt was picked up."""
        return Outcome(ReportKind.STARTED).report(self.task, worker, self.age, self.delivery)

    def alive_report(self, worker: str, news: News) -> StepReport:
        """What it says of itself."""
        report = Outcome(ReportKind.ALIVE).report(self.task, worker, self.age, self.delivery)
        return dataclasses.replace(report, **news._asdict())
