"""When the time of a step is over, and what follows.

There are four limits, each counted from a moment of its own:

    scheduled ──────────── total_timeout ────────────────────────────────────────────► final
    published ── queue_timeout ──► picked up ── timeout ──► (another attempt, if its policy allows)
                                       └─ heartbeat ─ heartbeat_timeout ─► (as timeout)

A backlog costs no step its `timeout`, which counts from the worker's word that it began. The worker keeps that one and
`heartbeat_timeout` itself; the coordinator waits a grace longer, for the workers that are gone. A step that is out of
`queue_timeout` or `total_timeout` is not tried again: it would meet the same queue, or has no time left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from dramaturg_coordinator.core.giving_up import give_up
from dramaturg_coordinator.core.retry import GiveUp, decide_retry
from dramaturg_coordinator.core.run_state import OpenStep, RunState
from dramaturg_coordinator.core.states import StepPhase
from dramaturg_protocol import events as e
from dramaturg_protocol.definitions import EffectiveOptions
from dramaturg_protocol.ids import attempt_id
from dramaturg_protocol.messages import StepReport
from dramaturg_protocol.signs import Sign

#: How much longer than the worker the coordinator waits for an attempt with a time-out.
TIMEOUT_GRACE = timedelta(seconds=5)
#: When an attempt goes out again that a worker dropped too early, its clock being ahead of ours.
SKEW_PAUSE = timedelta(seconds=5)

_TIMEOUT_NAMES = ("dramaturg_protocol.errors.StepTimedOut", "TimeoutError", "Exception")


class Limit(StrEnum):
    """Which time is over: the option that sets it."""

    ATTEMPT = "timeout"
    HEARTBEAT = "heartbeat_timeout"
    QUEUE = "queue_timeout"
    TOTAL = "total_timeout"


class Deadline(NamedTuple):
    """When a limit is reached."""

    at: datetime
    limit: Limit


def deadline_of(
    step: OpenStep, options: EffectiveOptions, sign: Sign | None = None, *, in_queue: bool
) -> Deadline | None:
    """The first limit that a step will reach as things are; ``None`` for none.

    Parameters:
      sign: the latest that it said of itself.
      in_queue: its message waits to be picked up.
    """
    if step.is_held:
        return None
    limits = [*_in_queue(step, options)] if in_queue else [*_under_way(step, options, sign)]
    if options.total_timeout is not None:
        limits.append(Deadline(step.scheduled_at + timedelta(seconds=options.total_timeout), Limit.TOTAL))
    return min(limits, default=None)


def _in_queue(step: OpenStep, options: EffectiveOptions) -> Iterator[Deadline]:
    # One that was picked up before, by a worker that is gone, has met this limit.
    if options.queue_timeout is not None and step.phase is not StepPhase.STARTED:
        since = step.retry_at or step.scheduled_at
        yield Deadline(since + timedelta(seconds=options.queue_timeout), Limit.QUEUE)


def _under_way(step: OpenStep, options: EffectiveOptions, sign: Sign | None) -> Iterator[Deadline]:
    if step.phase is not StepPhase.STARTED or step.started_at is None:
        return
    if options.timeout is not None:
        yield Deadline(step.started_at + timedelta(seconds=options.timeout) + TIMEOUT_GRACE, Limit.ATTEMPT)
    # Nobody is there any more who would give heartbeats for a step that was left open.
    if options.heartbeat_timeout is not None and not step.is_left_open:
        beat = sign.beat_at if sign is not None and sign.attempt == step.attempt else None
        since = max(beat or step.started_at, step.started_at)
        yield Deadline(since + timedelta(seconds=options.heartbeat_timeout) + TIMEOUT_GRACE, Limit.HEARTBEAT)


def is_in_queue(state: RunState, step: OpenStep, now: datetime) -> bool:
    """Whether a step's message is out, and no worker said that it began."""
    if step.phase is StepPhase.RETRYING:
        return not state.begins_nothing and step.retry_at is not None and step.retry_at <= now
    return step.phase is StepPhase.SCHEDULED


def reached(
    state: RunState, step: OpenStep, options: EffectiveOptions, sign: Sign | None, now: datetime
) -> Limit | None:
    """The limit that a step has reached."""
    deadline = deadline_of(step, options, sign, in_queue=is_in_queue(state, step, now))
    return None if deadline is None or deadline.at > now else deadline.limit


def attempt_limit(step: OpenStep, options: EffectiveOptions) -> tuple[float | None, Limit]:
    """Seconds that the next attempt may take, and which option says so: it is not to outlive the step's whole time."""
    if options.total_timeout is None:
        return options.timeout, Limit.ATTEMPT
    gone = (step.retry_at or step.scheduled_at) - step.scheduled_at
    left = max(options.total_timeout - gone.total_seconds(), 0.001)
    if options.timeout is not None and options.timeout <= left:
        return options.timeout, Limit.ATTEMPT
    return left, Limit.TOTAL


def after_report(
    state: RunState, step: OpenStep, report: StepReport, options: EffectiveOptions, now: datetime
) -> Sequence[e.EventBody]:
    """What follows where a worker says that time is over."""
    limit = reached(state, step, options, None, now)
    if limit is not Limit.TOTAL:
        known = report.limit in (Limit.HEARTBEAT, Limit.TOTAL)
        limit = Limit(report.limit) if known else Limit.ATTEMPT
    return after(state, step, limit, options, now)


def after(
    state: RunState, step: OpenStep, limit: Limit, options: EffectiveOptions, now: datetime
) -> Sequence[e.EventBody]:
    """What follows when a limit is reached."""
    error = e.ErrorInfo("TimeoutError", _words(step, limit, options))
    timed_out = e.StepTimedOut(step.seq, step.name, step.attempt, error, limit.value)
    if limit in (Limit.QUEUE, Limit.TOTAL):
        return give_up(state, step, timed_out, options)
    decision = decide_retry(
        options.retries,
        attempts=step.attempt - step.first_attempt + 1,
        error_names=_TIMEOUT_NAMES,
        is_fatal=not options.retry_on_timeout,
        retry_after=None,
        now=now,
        seed=attempt_id(state.run_id, step.generation, step.seq, step.attempt),
    )
    if isinstance(decision, GiveUp) or state.only_awaits(step):
        return give_up(state, step, timed_out, options)
    return (e.StepRetrying(step.seq, step.name, step.attempt, error, decision.at, "timeout"),)


def after_drop(state: RunState, step: OpenStep, options: EffectiveOptions, now: datetime) -> Sequence[e.EventBody]:
    """What follows where a worker dropped an attempt whose time to begin it took for over.

    It counts what our clock says: a worker whose clock is ahead must not end a step early.
    """
    limit = reached(state, step, options, None, now)
    if limit is Limit.QUEUE or limit is Limit.TOTAL:
        return after(state, step, limit, options, now)
    message = "a worker took the time to begin it for over, and it is not: set the clock of its machine"
    error = e.ErrorInfo("ClockSkew", message)
    return (e.StepRetrying(step.seq, step.name, step.attempt, error, now + SKEW_PAUSE, "released", counts=False),)


def _words(step: OpenStep, limit: Limit, options: EffectiveOptions) -> str:
    match limit:
        case Limit.ATTEMPT:
            time = "its time-out" if options.timeout is None else f"{options.timeout:g} s"
            return f"attempt {step.attempt} of step {step.name!r} took longer than {time}"
        case Limit.HEARTBEAT:
            time = "its heartbeat_timeout" if options.heartbeat_timeout is None else f"{options.heartbeat_timeout:g} s"
            return f"attempt {step.attempt} of step {step.name!r} gave no heartbeat for {time}"
        case Limit.QUEUE:
            return (
                f"step {step.name!r} was not picked up within its queue_timeout of {options.queue_timeout:g} s: the "
                f"workers of queue {step.queue!r} are too few, or none serves it"
            )
        case Limit.TOTAL:
            last = f"; last error: {step.error.type}: {step.error.message}" if step.error is not None else ""
            time = "its total_timeout" if options.total_timeout is None else f"{options.total_timeout:g} s"
            return f"step {step.name!r} had no outcome within {time} (total_timeout), at attempt {step.attempt}{last}"
