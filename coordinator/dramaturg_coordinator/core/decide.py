"""What follows from a message: `(state, message, options, now) → events`. Values in, values out.

A message that is late, doubled or for something that is settled already gives no events; that is how at-least-once
transports become recorded-once outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from dramaturg_coordinator.core import asking, deliveries, timeouts
from dramaturg_coordinator.core.giving_up import give_up
from dramaturg_coordinator.core.retry import GiveUp, decide_retry
from dramaturg_coordinator.core.run_state import DEADLINE_KEY, OpenStep, RunState
from dramaturg_coordinator.core.states import RunPhase, StepPhase
from dramaturg_protocol import events as e
from dramaturg_protocol.definitions import EffectiveOptions
from dramaturg_protocol.ids import attempt_id, is_local_worker
from dramaturg_protocol.messages import ReportKind, Request, StepReport, StepTask, encode_message
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import WorkItem, WorkKind
from dramaturg_protocol.request_bodies import ControlBody, StartBody
from dramaturg_protocol.signs import Sign, encode_sign

_OF_ONE_DELIVERY = (ReportKind.STARTED, ReportKind.ALIVE, ReportKind.RELEASED, ReportKind.EXPIRED)


def on_start(
    state: RunState,
    request: Request,
    body: StartBody,
    *,
    version: int,
    python: str,
    fingerprint: str,
    timeout: float | None = None,
    limit: e.RunLimit | None = None,
) -> Sequence[e.EventBody]:
    """The first event of a run; none where it has begun already."""
    if state.phase is not RunPhase.NEW:
        return ()
    return (
        e.RunStarted(
            request.message_id,
            body.workflow_id,
            body.workflow,
            version,
            body.input,
            dict(body.tags),
            python,
            fingerprint,
            body.context,
            *_forked(body),
            timeout=timeout,
            parent=body.parent,
            continued_from=body.continued_from,
            priority=body.priority,
            begins_at=body.begins_at,
            limit=limit,
        ),
    )


def _forked(body: StartBody) -> tuple[str, tuple[tuple[int, str], ...], str | None, str | None]:
    fork = body.fork
    return ("", (), None, None) if fork is None else (fork.run_id, (), fork.by, fork.reason)


def on_cancel(state: RunState, request: Request, body: ControlBody) -> Sequence[e.EventBody]:
    """A run is cancelled once; a closed one is not, and a paused one goes on, so that its code can clean up."""
    if state.is_closed or state.phase is RunPhase.NEW or state.is_cancel_requested or state.is_ending:
        return ()
    return _cancelled(state, e.RunCancelRequested(request.message_id, body.by, body.reason), "it is cancelled")


def _cancelled(state: RunState, cancelled: e.RunCancelRequested, why: str) -> Sequence[e.EventBody]:
    events: tuple[e.EventBody, ...] = (cancelled,)
    if state.phase is RunPhase.PAUSED:
        events = (e.RunResumed(cancelled.message_id, cancelled.by, why), cancelled)
    if state.next_try is not None:
        # There is no code under way that could clean up.
        return (*events, e.RunTimedOut() if cancelled.timed_out else e.RunCancelled())
    return events


def on_deadline(state: RunState, now: datetime) -> Sequence[e.EventBody]:
    """The time of a run is over: its code is cancelled, and may clean up."""
    if state.deadline is None or state.deadline > now:
        return ()
    words = f"it took longer than its timeout of {state.timeout:g} s"
    message_id = f"{state.run_id}:timeout:{state.number}"
    return _cancelled(state, e.RunCancelRequested(message_id, None, words, timed_out=True), words)


def on_terminate(state: RunState, request: Request, body: ControlBody) -> Sequence[e.EventBody]:
    """An open run ends at once."""
    if state.is_closed or state.phase is RunPhase.NEW:
        return ()
    return (e.RunTerminated(request.message_id, body.by, body.reason),)


def on_report(
    state: RunState, report: StepReport, options: EffectiveOptions, now: datetime, *, has_begun: bool = False
) -> Sequence[e.EventBody]:
    """What a worker says of an attempt; nothing where it speaks of an attempt that is no longer the open one.

    Parameters:
      has_begun: the next attempt of a step that is tried again was sent, also where a clock that was set back says that
        it is not due.
    """
    step = state.steps.get(report.seq)
    if step is None or step.generation != report.generation or step.attempt != report.attempt:
        return ()
    # What began before it was handed back says nothing of where it is now.
    if report.kind in _OF_ONE_DELIVERY and step.releases != report.release:
        return ()
    if step.is_held or (step.retry_at is not None and step.retry_at > now and not has_begun):
        return ()
    match report.kind:
        case ReportKind.STARTED | ReportKind.ALIVE | ReportKind.LEFT_OPEN:
            return deliveries.after_word(state, step, report, options, now)
        case ReportKind.EXPIRED:
            return timeouts.after_drop(state, step, options, now)
        case ReportKind.COMPLETED:
            result = report.result if report.result is not None else "null"
            return (e.StepCompleted(step.seq, step.name, step.attempt, Payload(result), report.worker, report.seconds),)
        case ReportKind.RELEASED:
            error = e.ErrorInfo(report.error_type, report.message)
            # A limit of the step's own says when there may be room; a worker that stops does not.
            reason = "released" if report.retry_after is None else "limited"
            retry_at = now + timedelta(seconds=report.retry_after or 0.0)
            return (e.StepRetrying(step.seq, step.name, step.attempt, error, retry_at, reason, counts=False),)
        case ReportKind.FAILED | ReportKind.SKIPPED:
            return _after_failure(state, step, report, options, now)
        case ReportKind.TIMED_OUT:
            return timeouts.after_report(state, step, report, options, now)


def _after_failure(
    state: RunState, step: OpenStep, report: StepReport, options: EffectiveOptions, now: datetime
) -> Sequence[e.EventBody]:
    error = e.ErrorInfo(report.error_type, report.message, report.traceback)
    if report.kind is ReportKind.SKIPPED:
        return (e.StepSkipped(step.seq, step.name, step.attempt, error, report.worker),)
    decision = decide_retry(
        options.retries,
        attempts=step.attempt - step.first_attempt + 1,
        error_names=report.bases or (report.error_type,),
        is_fatal=report.fatal,
        retry_after=report.retry_after,
        now=now,
        seed=attempt_id(state.run_id, step.generation, step.seq, step.attempt),
    )
    if not isinstance(decision, GiveUp):
        if not state.only_awaits(step):
            return (e.StepRetrying(step.seq, step.name, step.attempt, error, decision.at),)
    elif decision.problem:
        error = e.ErrorInfo(error.type, f"{error.message} (not tried again: {decision.problem})", error.traceback)
    return give_up(state, step, e.StepFailed(step.seq, step.name, step.attempt, error, report.worker), options)


def on_due(
    state: RunState, item: WorkItem, options: EffectiveOptions | None, now: datetime, sign: Sign | None = None
) -> Sequence[e.EventBody]:
    """A timer fires, or the time of a step or of the run is over; nothing where it is settled or not due yet."""
    if item.kind is WorkKind.DEADLINE:
        return on_deadline(state, now)
    if item.kind is WorkKind.TIMER:
        timer = state.timers.get(item.seq)
        is_due = timer is not None and timer.generation == item.generation and timer.due <= now
        return (e.TimerFired(item.seq),) if is_due else ()
    if item.kind in asking.KINDS:
        return asking.on_due(state, item, now)
    step = state.steps.get(item.seq)
    if step is None or options is None or (step.generation, step.attempt) != (item.generation, item.attempt):
        return ()
    limit = timeouts.reached(state, step, options, sign, now)
    return () if limit is None else timeouts.after(state, step, limit, options, now)


def is_cut_off(state: RunState, item: WorkItem) -> bool:
    """Whether an attempt that a coordinator before this one ran itself is still the open one."""
    step = state.steps.get(item.seq)
    return (
        step is not None
        and step.generation == item.generation
        and step.attempt == item.attempt
        and step.phase is not StepPhase.RETRYING
    )


def is_to_send(state: RunState, generation: int, seq: int, attempt: int, now: datetime) -> bool:
    """Whether an attempt that waits for room is still the open one, and not begun."""
    step = state.steps.get(seq)
    return (
        step is not None
        and (step.generation, step.attempt) == (generation, attempt)
        and step.phase is not StepPhase.STARTED
        and not step.is_held
        and (step.retry_at is None or step.retry_at <= now)
    )


def is_retry_due(state: RunState, item: WorkItem, options: EffectiveOptions | None, now: datetime) -> bool:
    """Whether the next attempt of a step is to be published now."""
    step = state.steps.get(item.seq)
    return (
        step is not None
        and not state.begins_nothing
        and options is not None
        and timeouts.reached(state, step, options, None, now) is not timeouts.Limit.TOTAL
        and step.phase is StepPhase.RETRYING
        and (step.generation, step.attempt) == (item.generation, item.attempt)
        and step.retry_at is not None
        and step.retry_at <= now
    )


def sign_after(step: OpenStep, report: StepReport, before: Sign | None, now: datetime) -> Sign | None:
    """The latest that a step said of itself, after a report of its present attempt; ``before`` where that is no news."""
    if (step.generation, step.attempt) != (report.generation, report.attempt):
        return before
    if not report.beat and report.heartbeat is None and report.progress is None:
        return before
    known = before or Sign(report.attempt)
    is_same = known.attempt == report.attempt
    return Sign(
        attempt=report.attempt,
        beat_at=now if report.beat else known.beat_at if is_same else None,
        details=report.heartbeat if report.heartbeat is not None else known.details,
        progress=report.progress or (known.progress if is_same else None),
    )


def task_of(
    state: RunState, step: OpenStep, options: EffectiveOptions, sign: Sign | None = None, *, seal: str = ""
) -> StepTask:
    """The message of a step's current attempt.

    Parameters:
      seal: makes the token under which the step can be completed later.
    """
    started = state.started
    assert started is not None
    timeout, limit = timeouts.attempt_limit(step, options)
    start_by = timeouts.deadline_of(step, options, in_queue=True)
    return StepTask(
        run_id=state.run_id,
        generation=step.generation,
        seq=step.seq,
        attempt=step.attempt,
        partition=state.partition,
        name=step.name,
        queue=step.queue,
        workflow=started.workflow,
        workflow_id=started.workflow_id,
        input=step.input,
        max_attempts=step.first_attempt - 1 + options.retries.max_attempts,
        timeout=timeout,
        limit=limit.value,
        isolated=options.isolated,
        priority=options.priority,
        lost=step.lost,
        release=step.releases,
        context=step.context,
        heartbeat_timeout=options.heartbeat_timeout,
        start_by=None if start_by is None else start_by.at,
        announce=options.announces,
        heartbeat=None if sign is None else sign.details,
        seal=seal,
    )


def work_of_step(
    state: RunState,
    step: OpenStep,
    options: EffectiveOptions,
    sign: Sign | None = None,
    *,
    is_sent: bool = False,
    seal: str = "",
) -> WorkItem:
    """The row of open work for a step as it is now.

    Parameters:
      is_sent: an attempt begins (again), although the history says RETRYING, or STARTED by somebody who is gone.
    """
    is_ours = is_local(step, options, begins=is_sent)
    deadline = timeouts.deadline_of(step, options, sign, in_queue=is_sent or step.phase is StepPhase.SCHEDULED)
    due = None if deadline is None else deadline.at
    if step.phase is StepPhase.RETRYING and not is_sent:
        kind, again = WorkKind.RETRY, None if state.begins_nothing else step.retry_at
        due = min((at for at in (due, again) if at is not None), default=None)
    else:
        kind = WorkKind.LOCAL if is_ours else WorkKind.STEP
        kind = WorkKind.LEFT_OPEN if step.is_left_open and not is_sent else kind
    task = None if is_ours else task_of(state, step, options, sign, seal=seal)
    return WorkItem(
        run_id=state.run_id,
        generation=step.generation,
        seq=step.seq,
        partition=state.partition,
        kind=kind,
        due=due,
        attempt=step.attempt,
        message=None if task is None else encode_message(task),
        sign=None if sign is None else encode_sign(sign),
        task=task,
    )


def is_local(step: OpenStep, options: EffectiveOptions, *, begins: bool = False) -> bool:
    """Whether the coordinator runs the present attempt itself. Options that change hold from the next attempt on."""
    if step.phase is StepPhase.STARTED and not begins:
        return is_local_worker(step.worker)
    return options.local


def work_of_run(state: RunState) -> WorkItem | None:
    """The row of open work for a run's time; ``None`` where it has no end."""
    if state.deadline is None:
        return None
    return WorkItem(state.run_id, *DEADLINE_KEY, state.partition, WorkKind.DEADLINE, state.deadline)


def work_of_child(state: RunState, seq: int) -> WorkItem:
    """The row of open work for a child; it names its run, so that one whose child has ended can be found."""
    child = state.children[seq]
    return WorkItem(state.run_id, child.generation, seq, state.partition, WorkKind.CHILD, None, message=child.run_id)


def work_of_place(state: RunState) -> WorkItem | None:
    """The row of open work for a run that waits for its place."""
    queued = state.queued
    if queued is None:
        return None
    return WorkItem(state.run_id, queued.generation, queued.seq, state.partition, WorkKind.LIMITED, None)


def work_of_timer(state: RunState, seq: int) -> WorkItem:
    """The row of open work for a timer."""
    timer = state.timers[seq]
    return WorkItem(state.run_id, timer.generation, seq, state.partition, WorkKind.TIMER, timer.due)
