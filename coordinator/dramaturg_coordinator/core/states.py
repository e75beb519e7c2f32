"""The state machines of a run, a step and a timer: every transition that there is, as tables.

An event that its table does not list is refused with both names; the charts in the documentation are drawn from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

from dramaturg_protocol import events as e
from dramaturg_protocol.errors import InternalError


class RunPhase(StrEnum):
    """Where a run is, as far as its history alone says it."""

    NEW = "NEW"
    OPEN = "OPEN"
    BLOCKED = "BLOCKED"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TERMINATED = "TERMINATED"
    TIMED_OUT = "TIMED_OUT"
    CONTINUED = "CONTINUED"


class StepPhase(StrEnum):
    """Where a step is that has no outcome yet."""

    SCHEDULED = "SCHEDULED"
    STARTED = "STARTED"
    RETRYING = "RETRYING"


CLOSED = frozenset(
    {
        RunPhase.COMPLETED,
        RunPhase.FAILED,
        RunPhase.CANCELLED,
        RunPhase.TERMINATED,
        RunPhase.TIMED_OUT,
        RunPhase.CONTINUED,
    }
)

Body: TypeAlias = type[e.EventBody]

_OUTSIDE: tuple[Body, ...] = (
    e.StepStarted,
    e.StepRetrying,
    e.StepCompleted,
    e.StepFailed,
    e.StepTimedOut,
    e.StepSkipped,
    e.StepSettled,
    e.TimerFired,
    e.ChildClosed,
    e.ApprovalDecided,
    e.HookResolved,
    e.HookExpired,
    e.RunCancelRequested,
    e.RunAdmitted,
    e.SignalReceived,
)
_CODE: tuple[Body, ...] = (
    e.RunQueued,
    e.StepScheduled,
    e.StepCancelled,
    e.TimerStarted,
    e.TimerCancelled,
    e.ChildStarted,
    e.CancelSent,
    e.ApprovalRequested,
    e.ApprovalWithdrawn,
    e.HookCreated,
    e.HookWithdrawn,
    e.MarkerRecorded,
    e.CompensationStarted,
    e.CompensationCompleted,
    e.SignalSent,
    e.UpdateCompleted,
    e.StatusSet,
    e.Logged,
)

#: In these the code is not run: what would wake it is recorded, and it is told when it can run.
HOLDING = frozenset({RunPhase.BLOCKED, RunPhase.PAUSED})

_AGAIN: Mapping[Body, RunPhase] = dict.fromkeys((e.RunRetried, e.RunReset), RunPhase.OPEN)

#: What happens to a run. A closed run takes nothing but to be retried or reset.
RUN: Mapping[RunPhase, Mapping[Body, RunPhase]] = {
    RunPhase.NEW: {e.RunStarted: RunPhase.OPEN},
    RunPhase.OPEN: {
        **dict.fromkeys(_OUTSIDE + _CODE, RunPhase.OPEN),
        # Its validator is the code's own, and so it is taken only while that can be run.
        e.UpdateAccepted: RunPhase.OPEN,
        e.RunCompleted: RunPhase.COMPLETED,
        e.RunFailed: RunPhase.FAILED,
        e.RunRetrying: RunPhase.OPEN,
        e.RunCancelled: RunPhase.CANCELLED,
        e.RunTerminated: RunPhase.TERMINATED,
        e.RunTimedOut: RunPhase.TIMED_OUT,
        e.RunContinued: RunPhase.CONTINUED,
        e.RunBlocked: RunPhase.BLOCKED,
        e.RunPaused: RunPhase.PAUSED,
        **_AGAIN,
    },
    # Outcomes are recorded while the code cannot be run; it is told of them when it can.
    RunPhase.BLOCKED: {
        **dict.fromkeys(_OUTSIDE, RunPhase.BLOCKED),
        e.RunUnblocked: RunPhase.OPEN,
        # Other code than before, and it does not fit either.
        e.RunBlocked: RunPhase.BLOCKED,
        e.RunTerminated: RunPhase.TERMINATED,
        **_AGAIN,
    },
    RunPhase.PAUSED: {
        **dict.fromkeys(_OUTSIDE, RunPhase.PAUSED),
        e.RunResumed: RunPhase.OPEN,
        e.RunTerminated: RunPhase.TERMINATED,
        **_AGAIN,
    },
    # In the order of the phases, whatever the set's own is: charts are drawn from here.
    **{phase: _AGAIN for phase in RunPhase if phase in CLOSED and phase is not RunPhase.CONTINUED},
    # What it was to do, another run does.
    RunPhase.CONTINUED: {},
}

#: The events that close a run.
CLOSING: tuple[Body, ...] = tuple(body for body, phase in RUN[RunPhase.OPEN].items() if phase in CLOSED)

#: What happens to a step; ``None`` is before it is scheduled and after it is settled.
STEP: Mapping[StepPhase | None, Mapping[Body, StepPhase | None]] = {
    None: {e.StepScheduled: StepPhase.SCHEDULED},
    **{
        phase: {
            e.StepStarted: StepPhase.STARTED,
            e.StepRetrying: StepPhase.RETRYING,
            e.StepCompleted: None,
            e.StepFailed: None,
            e.StepTimedOut: None,
            e.StepSkipped: None,
            e.StepCancelled: None,
            e.StepSettled: phase,
        }
        for phase in StepPhase
    },
}

#: What happens to a timer: whether it runs.
TIMER: Mapping[bool, Mapping[Body, bool]] = {
    False: {e.TimerStarted: True},
    True: {e.TimerFired: False, e.TimerCancelled: False},
}

#: What happens to an approval, and to a hook: whether it is open.
APPROVAL: Mapping[bool, Mapping[Body, bool]] = {
    False: {e.ApprovalRequested: True},
    True: {e.ApprovalDecided: False, e.ApprovalWithdrawn: False},
}
HOOK: Mapping[bool, Mapping[Body, bool]] = {
    False: {e.HookCreated: True},
    True: {e.HookResolved: False, e.HookExpired: False, e.HookWithdrawn: False},
}


def next_run_phase(phase: RunPhase, body: e.EventBody) -> RunPhase:
    """The run's phase after an event; `InternalError` for one that cannot happen now."""
    try:
        return RUN[phase][type(body)]
    except KeyError:
        raise InternalError(f"a run that is {phase} cannot take {e.type_of(body)}") from None


def next_step_phase(phase: StepPhase | None, body: e.EventBody) -> StepPhase | None:
    """The step's phase after an event; `InternalError` for one that cannot happen now."""
    try:
        return STEP[phase][type(body)]
    except KeyError:
        raise InternalError(f"a step that is {phase or 'not open'} cannot take {e.type_of(body)}") from None


def next_timer_phase(is_running: bool, body: e.EventBody) -> bool:
    """Whether the timer runs after an event; `InternalError` for one that cannot happen now."""
    try:
        return TIMER[is_running][type(body)]
    except KeyError:
        words = "running" if is_running else "not running"
        raise InternalError(f"a timer that is {words} cannot take {e.type_of(body)}") from None


def next_asked_phase(is_open: bool, body: e.EventBody) -> bool:
    """Whether an approval or a hook is open after an event; `InternalError` for one that cannot happen now."""
    try:
        return {**APPROVAL[is_open], **HOOK[is_open]}[type(body)]
    except KeyError:
        words = "open" if is_open else "not open"
        raise InternalError(f"an approval or a hook that is {words} cannot take {e.type_of(body)}") from None
