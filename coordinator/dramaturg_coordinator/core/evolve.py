"""The state of a run, and the one function that changes it: `evolve(state, event)`.

The state holds what is open, not what was: its size follows the work in flight, not the length of the history.
`evolve` changes it in place (a copy for each event would cost the width of a fan-out each time); whoever is not sure
that an event will be committed throws the state away and folds the stored history again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from dramaturg_coordinator.core import asking
from dramaturg_coordinator.core.effective import effective
from dramaturg_coordinator.core.run_state import OpenChild, OpenPlace, OpenStep, OpenTimer, RunState, lost_with
from dramaturg_coordinator.core.states import (
    CLOSED,
    HOLDING,
    StepPhase,
    next_run_phase,
    next_step_phase,
    next_timer_phase,
)
from dramaturg_protocol import events as e
from dramaturg_protocol.errors import InternalError

_RESUMING, _WAKING = e.kinds_of(*e.RESUMES), e.kinds_of(*e.WAKES)
#: What the code may cancel although it has its outcome.
_CANCELLING = e.kinds_of(e.StepCancelled, e.CancelSent, e.ApprovalWithdrawn, e.HookWithdrawn, e.TimerCancelled)
#: A state's size does not follow the length of its history.
_FAILURES_KEPT = 100


def evolve(state: RunState, event: e.HistoryEvent) -> Sequence[e.HistoryEvent]:
    """Apply one event; gives the events of which the workflow's code is to be told now.

    Raises:
      InternalError: the event cannot follow what was before. It is a bug or a damaged history.
    """
    body = event.body
    event = _in_order(state, event)
    was_holding = state.phase in HOLDING
    state.phase = next_run_phase(state.phase, body)
    kind = type(body)
    apply = _APPLY.get(kind)
    if apply is not None:
        apply(state, body, event)
    if state.phase in CLOSED:
        state.end = body
        state.steps.clear()
        state.timers.clear()
        state.children.clear()
        state.asked.clear()
        state.deadline = state.next_try = state.queued = None
        state.held.clear()
        state.updates = {}
        return ()
    if state.next_try is not None:
        # Its code has ended, and begins from what counts then.
        return ()
    if kind in _RESUMING:
        held, state.held = state.held, []
        return [event, *held] if isinstance(body, e.Cut) else held
    if kind not in _WAKING:
        return ()
    if was_holding:
        state.held.append(event)
        return ()
    return (event,)


def _in_order(state: RunState, event: e.HistoryEvent) -> e.HistoryEvent:
    """Take note of its number; an outcome that outlived a retry happens anew, at the time of the retry."""
    if event.number in state.kept:
        assert state.time is not None
        return e.HistoryEvent(event.number, state.time, event.body)
    is_next = event.number == state.number + 1
    if not is_next and not (isinstance(event.body, e.Cut) and event.number > state.number):
        raise InternalError(f"run {state.run_id}: event {event.number} cannot follow event {state.number}")
    state.number = event.number
    state.time = event.time
    return event


def is_void(state: RunState, body: e.EventBody) -> bool:
    """Whether the code cancels what has its outcome already: an outcome of which it was not told yet."""
    if type(body) not in _CANCELLING:
        return False
    if isinstance(body, e.StepCancelled):
        return body.seq not in state.steps
    if isinstance(body, e.CancelSent):
        return body.child is not None and body.child not in state.children
    if isinstance(body, e.ApprovalWithdrawn | e.HookWithdrawn):
        return body.seq not in state.asked
    return isinstance(body, e.TimerCancelled) and body.seq not in state.timers


def fold(run_id: str, partition: int, history: Sequence[e.HistoryEvent]) -> RunState:
    """The state that a history leads to."""
    state = RunState(run_id, partition)
    for event in effective(history):
        evolve(state, event)
    return state


def _started(state: RunState, body: e.RunStarted, event: e.HistoryEvent) -> None:
    state.started = body
    state.started_at = event.time
    state.version = body.version
    state.context = body.context
    state.messages.add(body.message_id)
    _set_time(state, body.timeout, max(event.time, body.begins_at or event.time))


def _set_time(state: RunState, timeout: float | None, since: datetime) -> None:
    if timeout is not None:
        state.timeout, state.deadline = timeout, since + timedelta(seconds=timeout)


def _cancel_requested(state: RunState, body: e.RunCancelRequested, _: e.HistoryEvent) -> None:
    state.is_cancel_requested = True
    state.deadline = None
    state.messages.add(body.message_id)


def _retrying_run(state: RunState, body: e.RunRetrying, _: e.HistoryEvent) -> None:
    state.next_try = body
    state.queued = None
    state.steps.clear()
    state.timers.clear()
    state.asked.clear()
    state.held.clear()


def _queued(state: RunState, body: e.RunQueued, event: e.HistoryEvent) -> None:
    state.queued = OpenPlace(body.seq, state.generation, event.time)


def _admitted(state: RunState, _: e.RunAdmitted, __: e.HistoryEvent) -> None:
    state.queued = None


def _terminated(state: RunState, body: e.RunTerminated, _: e.HistoryEvent) -> None:
    state.messages.add(body.message_id)


def _blocked(state: RunState, body: e.RunBlocked, _: e.HistoryEvent) -> None:
    state.blocked = body


def _request_taken(state: RunState, body: e.StepSettled | e.SignalReceived, _: e.HistoryEvent) -> None:
    state.messages.add(body.message_id)


def _paused(state: RunState, body: e.RunPaused, _: e.HistoryEvent) -> None:
    state.paused = body
    if body.message_id:
        state.messages.add(body.message_id)


def _resumed(state: RunState, body: e.RunResumed, event: e.HistoryEvent) -> None:
    state.messages.add(body.message_id)
    for step in state.steps.values():
        # It goes out only now, and its time in the queue counts from now.
        if step.retry_at is not None and step.retry_at < event.time:
            step.retry_at = event.time


def _cut(state: RunState, body: e.Cut, event: e.HistoryEvent) -> None:
    state.messages.update((body.message_id, *body.messages))
    state.generation = body.generation
    if state.started is not None and state.started.message_id == body.message_id:
        state.started_at = event.time  # a fork begins where its own part does
    state.kept = frozenset(body.kept)
    state.blocked = state.next_try = None
    if isinstance(body, e.RunRetried):
        state.attempt, state.tries = body.attempt, body.tries
    if isinstance(body, e.RunRetried) and body.tries:
        state.deadline = body.deadline
    elif not state.is_cancel_requested:
        _set_time(state, state.timeout, max(event.time, state.begins_at or event.time))
    for seq, attempt in body.again:
        step = state.steps[seq]
        step.attempt = step.first_attempt = attempt
        step.phase = StepPhase.SCHEDULED
        step.scheduled_at = event.time
        step.started_at = step.retry_at = None
        step.is_left_open = False
        step.worker, step.releases, step.delivery, step.lost = "", 0, 1, 0
    for seq, due in body.timers:
        (state.timers.get(seq) or state.asked[seq]).due = due
    for seq, run_id in body.children:
        child = state.children[seq]
        if child.workflow_id == child.run_id:
            child.workflow_id = run_id
        child.run_id = run_id


def _unblocked(state: RunState, body: e.RunUnblocked, _: e.HistoryEvent) -> None:
    state.blocked = None
    if body.version is not None:
        state.version = body.version
    if state.started_at is not None and not state.is_cancel_requested:
        _set_time(state, body.timeout, max(state.started_at, state.begins_at or state.started_at))


def _scheduled(state: RunState, body: e.StepScheduled, event: e.HistoryEvent) -> None:
    next_step_phase(_phase_of(state, body.seq), body)
    state.steps[body.seq] = OpenStep(
        body.seq,
        body.name,
        body.queue,
        body.input,
        body.options,
        state.generation,
        event.time,
        context=state.context,
        undoes=body.undoes,
        priority=None if state.started is None else state.started.priority,
        limits=body.limits,
    )


def _step_started(state: RunState, body: e.StepStarted, event: e.HistoryEvent) -> None:
    step = _open_step(state, body)
    step.is_left_open = body.left_open
    step.started_at = event.time - timedelta(seconds=body.seconds or 0.0)
    step.worker = body.worker
    step.delivery = body.delivery
    step.retry_at = None


def _retrying(state: RunState, body: e.StepRetrying, event: e.HistoryEvent) -> None:
    was_held = body.seq in state.steps and state.steps[body.seq].is_held
    step = _open_step(state, body)
    if body.delivery is not None:
        step.lost = lost_with(step, body.delivery)
        step.delivery, step.error, step.is_left_open = body.delivery, body.error, False
        return
    step.delivery = 1
    if was_held:
        step.first_attempt, step.scheduled_at, step.lost = body.attempt, event.time, 0
    step.attempt = body.attempt + 1 if body.counts else body.attempt
    step.releases = 0 if body.counts else step.releases + 1
    step.retry_at = body.retry_at
    step.error = body.error
    step.is_left_open = False
    step.started_at = None
    step.worker = ""


def _settled(
    state: RunState, body: e.StepCompleted | e.StepFailed | e.StepTimedOut | e.StepCancelled, _: e.HistoryEvent
) -> None:
    next_step_phase(_phase_of(state, body.seq), body)
    step = state.steps.pop(body.seq)
    if isinstance(body, e.FAILURES):
        state.failures[body.seq] = (step, body)
        if len(state.failures) > _FAILURES_KEPT:
            del state.failures[next(iter(state.failures))]


def _undoing(state: RunState, body: e.CompensationStarted, _: e.HistoryEvent) -> None:
    state.undoing = body


def _undone(state: RunState, body: e.CompensationCompleted, _: e.HistoryEvent) -> None:
    state.undoing = None
    state.undo_failures = body.failed


def _marked(state: RunState, body: e.MarkerRecorded, _: e.HistoryEvent) -> None:
    if body.kind == e.CONTEXT_MARKER:
        state.context = body.value


def _status_set(state: RunState, body: e.StatusSet, _: e.HistoryEvent) -> None:
    state.custom_status = body.value


def _update_accepted(state: RunState, body: e.UpdateAccepted, _: e.HistoryEvent) -> None:
    state.messages.add(body.message_id)
    state.updates[body.message_id] = body.name


def _update_completed(state: RunState, body: e.UpdateCompleted, _: e.HistoryEvent) -> None:
    state.updates.pop(body.message_id, None)


def _timer_started(state: RunState, body: e.TimerStarted, _: e.HistoryEvent) -> None:
    next_timer_phase(body.seq in state.timers, body)
    state.timers[body.seq] = OpenTimer(body.seq, body.due, state.generation)


def _timer_ended(state: RunState, body: e.TimerFired | e.TimerCancelled, _: e.HistoryEvent) -> None:
    next_timer_phase(body.seq in state.timers, body)
    del state.timers[body.seq]


def _child_started(state: RunState, body: e.ChildStarted, _: e.HistoryEvent) -> None:
    context = body.context if body.context is not None else state.context
    state.children[body.seq] = OpenChild(body, state.generation, context, body.run_id, body.workflow_id)


def _child_closed(state: RunState, body: e.ChildClosed, _: e.HistoryEvent) -> None:
    if state.children.pop(body.seq, None) is None:
        raise InternalError(f"child #{body.seq} is not open and cannot take {e.type_of(body)}")


def _cancel_sent(state: RunState, body: e.CancelSent, _: e.HistoryEvent) -> None:
    if body.child is not None:
        state.children[body.child].is_cancelled = True


def _phase_of(state: RunState, seq: int) -> StepPhase | None:
    step = state.steps.get(seq)
    return None if step is None else step.phase


def _open_step(state: RunState, body: e.StepStarted | e.StepRetrying) -> OpenStep:
    phase = next_step_phase(_phase_of(state, body.seq), body)
    step = state.steps[body.seq]
    if phase is not None:
        step.phase = phase
    return step


_APPLY: Mapping[type[e.EventBody], Callable[[RunState, Any, e.HistoryEvent], None]] = {
    e.RunStarted: _started,
    e.RunCancelRequested: _cancel_requested,
    e.RunTerminated: _terminated,
    e.RunBlocked: _blocked,
    e.RunUnblocked: _unblocked,
    e.RunPaused: _paused,
    e.RunResumed: _resumed,
    e.RunRetrying: _retrying_run,
    e.RunQueued: _queued,
    e.RunAdmitted: _admitted,
    e.RunRetried: _cut,
    e.RunReset: _cut,
    e.StepSettled: _request_taken,
    e.StepScheduled: _scheduled,
    e.StepStarted: _step_started,
    e.StepRetrying: _retrying,
    e.StepCompleted: _settled,
    e.StepFailed: _settled,
    e.StepTimedOut: _settled,
    e.StepSkipped: _settled,
    e.StepCancelled: _settled,
    e.MarkerRecorded: _marked,
    e.SignalReceived: _request_taken,
    e.UpdateAccepted: _update_accepted,
    e.UpdateCompleted: _update_completed,
    e.StatusSet: _status_set,
    e.CompensationStarted: _undoing,
    e.CompensationCompleted: _undone,
    e.TimerStarted: _timer_started,
    e.TimerFired: _timer_ended,
    e.TimerCancelled: _timer_ended,
    e.ChildStarted: _child_started,
    e.ChildClosed: _child_closed,
    e.CancelSent: _cancel_sent,
    e.ApprovalRequested: asking.approval_requested,
    e.ApprovalDecided: asking.settled,
    e.ApprovalWithdrawn: asking.settled,
    e.HookCreated: asking.hook_created,
    e.HookResolved: asking.settled,
    e.HookExpired: asking.settled,
    e.HookWithdrawn: asking.settled,
}
