"""What is reported of an exception: bounded text that survives whatever the exception does."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from dramatiq.errors import ActorNotFound, RateLimitExceeded, Retry
from dramatiq.middleware import SkipMessage

from dramaturg_protocol.durations import parse_duration
from dramaturg_protocol.errors import (
    FatalError,
    PayloadError,
    RetryableError,
    StepInterrupt,
    StepTimedOut,
    WorkerShutdown,
)
from dramaturg_protocol.messages import ReportKind, StepReport, StepTask
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.retries import qualified_name

MAX_MESSAGE_BYTES: Final = 8 * 1024
MAX_TRACEBACK_BYTES: Final = 32 * 1024

_FATAL: Final = (FatalError, PayloadError, SkipMessage)
_OURS: Final = ("dramaturg_actors.", "dramatiq.", "asyncio.", "concurrent.futures.")

# Seconds after which a step that met a rate limit of Dramatiq's comes back; spread, so that not all come at once.
_RATE_LIMIT_PAUSES: Final = (0.5, 1.5)
_CHANCE: Final = random.Random()  # noqa: S311

_logger = logging.getLogger("dramaturg.actors")


class UnknownStep(FatalError):
    """A worker was sent a step that it has no code for."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended; the attributes are those of a `StepReport`."""

    kind: ReportKind
    result: Payload | None = None
    error_type: str = ""
    bases: tuple[str, ...] = ()
    message: str = ""
    traceback: str = ""
    retry_after: float | None = None
    fatal: bool = False
    limit: str = "timeout"

    def report(self, task: StepTask, worker: str, seconds: float | None, delivery: int = 1) -> StepReport:
        """The outcome as a report on a task."""
        return StepReport(
            run_id=task.run_id,
            generation=task.generation,
            seq=task.seq,
            attempt=task.attempt,
            partition=task.partition,
            kind=self.kind,
            result=self.result,
            error_type=self.error_type,
            bases=self.bases,
            message=self.message,
            traceback=self.traceback,
            retry_after=self.retry_after,
            fatal=self.fatal,
            worker=worker,
            seconds=seconds,
            release=task.release,
            delivery=delivery,
            limit=self.limit,
        )


def outcome_of(error: BaseException, task: StepTask, reason: StepInterrupt | None) -> Outcome:
    """What an exception that ended an attempt means.

    Parameters:
      reason: why the attempt was told to stop, if it was.
    """
    if isinstance(error, ActorNotFound):
        error = unknown_step(task)
    if reason is not None and isinstance(error, (StepInterrupt, asyncio.CancelledError)):
        return _failure(_kind_of(reason), reason, error.__traceback__)
    if isinstance(error, SkipMessage):
        return _failure(ReportKind.SKIPPED, error, None)
    if isinstance(error, RateLimitExceeded):
        # Nothing was tried: the attempt does not count, and comes back after a pause.
        outcome = _failure(ReportKind.RELEASED, error, error.__traceback__)
        return dataclasses.replace(outcome, retry_after=_CHANCE.uniform(*_RATE_LIMIT_PAUSES))
    return _failure(ReportKind.FAILED, error, error.__traceback__)


def interrupted(reason: StepInterrupt) -> Outcome:
    """The outcome of an attempt that was told to stop."""
    return _failure(_kind_of(reason), reason, None)


def too_late(task: StepTask) -> Outcome:
    """The outcome of an attempt that was picked up when its time to begin was over."""
    message = f"step {task.name!r} was picked up after its time to begin was over, and dropped"
    return Outcome(ReportKind.EXPIRED, error_type="TimeoutError", message=message)


def unknown_step(task: StepTask) -> UnknownStep:
    """The error of a step that has no code here."""
    return UnknownStep(
        f"no worker code for step {task.name!r} on queue {task.queue!r}: import the module that defines it in the "
        f"worker that serves this queue (`modules`), or give the step the queue of a worker that does"
    )


def worker_lost(task: StepTask, times: int) -> Outcome:
    """The outcome of a step whose workers died, one after the other, over all its attempts."""
    return Outcome(
        ReportKind.FAILED,
        error_type="WorkerLost",
        bases=("WorkerLost", "Exception", "BaseException"),
        message=(
            f"step {task.name!r} was begun {times} times whose worker was gone or silent before it ended: look for a "
            f"process that was killed (memory), crashed, or was held up for long"
        ),
        fatal=True,
    )


def process_lost(task: StepTask, how: str) -> Outcome:
    """The outcome of an isolated step whose process is gone; it is tried again."""
    return Outcome(
        ReportKind.FAILED,
        error_type="WorkerLost",
        bases=("WorkerLost", "Exception", "BaseException"),
        message=f"the process of step {task.name!r} is gone before the step ended: {how}",
    )


def _kind_of(reason: StepInterrupt) -> ReportKind:
    if isinstance(reason, StepTimedOut):
        return ReportKind.TIMED_OUT
    if isinstance(reason, WorkerShutdown):
        return ReportKind.RELEASED
    return ReportKind.FAILED


def _failure(kind: ReportKind, error: BaseException, trace: TracebackType | None) -> Outcome:
    # Mixins too: a policy may give a class by its name.
    bases = tuple(_clean(qualified_name(cls)) for cls in type(error).__mro__ if cls is not object)
    return Outcome(
        kind=kind,
        error_type="UnknownStep" if isinstance(error, UnknownStep) else bases[0],
        bases=bases,
        message=message_of_error(error),
        traceback=traceback_of(error, trace),
        retry_after=_retry_after(error),
        fatal=any(isinstance(leaf, _FATAL) for leaf in _leaves(error)),
        limit=error.limit if isinstance(error, StepTimedOut) else "timeout",
    )


def message_of_error(error: BaseException) -> str:
    """``str(error)``, bounded; also of an exception that cannot be printed."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - user code
        text = f"<str() of {type(error).__qualname__} failed>"
    data = _clean(text[: MAX_MESSAGE_BYTES + 1]).encode()
    if len(data) <= MAX_MESSAGE_BYTES:
        return data.decode()
    return data[: MAX_MESSAGE_BYTES - 3].decode(errors="ignore") + "…"


def traceback_of(error: BaseException, trace: TracebackType | None) -> str:
    """The traceback from the user's first frame on; of a long one the end, and empty where there is no such frame."""
    while trace is not None and _is_ours(trace):
        trace = trace.tb_next
    if trace is None and error.__cause__ is None and error.__context__ is None:
        return ""
    try:
        text = "".join(traceback.TracebackException(type(error), error, trace, compact=True).format())
    except Exception:  # noqa: BLE001 - user code
        text = f"<the traceback of {type(error).__qualname__} cannot be formatted>"
    data = _clean(text[-MAX_TRACEBACK_BYTES:]).encode()
    return data[-MAX_TRACEBACK_BYTES:].decode(errors="ignore")


def _is_ours(trace: TracebackType) -> bool:
    return f"{trace.tb_frame.f_globals.get('__name__', '')}.".startswith(_OURS)


def _clean(text: str) -> str:
    # A lone surrogate is no UTF-8, hence no JSON.
    return text.encode(errors="backslashreplace").decode()


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
            yield from _leaves(inner)  # pyright: ignore[reportUnknownArgumentType]
    else:
        yield error


def _retry_after(error: BaseException) -> float | None:
    for leaf in _leaves(error):
        if isinstance(leaf, Retry) and leaf.delay is not None:
            return max(0.0, leaf.delay / 1000)
        if isinstance(leaf, RetryableError) and leaf.retry_after is not None:
            try:
                return parse_duration(leaf.retry_after).total_seconds()
            except (TypeError, ValueError) as wrong:
                _logger.warning("retry_after of %s is ignored: %s", type(leaf).__qualname__, wrong)
    return None
