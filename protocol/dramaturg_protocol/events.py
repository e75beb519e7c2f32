"""The events of a run's history: what happened, in the past tense, append-only.

A history is a list of `HistoryEvent`, numbered from 1 without gaps. An event's body is one of the frozen classes of
`run_events`, `step_events` and their like; `type_of` gives the name under which it is stored and shown;
`dramaturg_protocol.event_codec` has its JSON text.
Fields of the type `Payload` are JSON texts in memory and nested JSON in the stored text, so that people can read it.

Three sets say what an event is for the workflow's code:

- a *wake* hands something to the code, which then runs until it waits again;
- a *command* records what the code asked for; a replay must ask for the same again, in the same order;
- everything else concerns the run, not its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeAlias

from dramaturg_protocol.asking_events import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalWithdrawn,
    HookCreated,
    HookExpired,
    HookResolved,
    HookWithdrawn,
)
from dramaturg_protocol.child_events import CancelSent, ChildClosed, ChildStarted
from dramaturg_protocol.error_info import ErrorInfo
from dramaturg_protocol.run_events import (
    Cut,
    RunAdmitted,
    RunBlocked,
    RunCancelled,
    RunCancelRequested,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunLimit,
    RunPaused,
    RunQueued,
    RunReset,
    RunResumed,
    RunRetried,
    RunRetrying,
    RunStarted,
    RunTerminated,
    RunTimedOut,
    RunUnblocked,
)
from dramaturg_protocol.saga_events import (
    COMPENSATION_ASKED,
    Compensation,
    CompensationCompleted,
    CompensationStarted,
)
from dramaturg_protocol.step_events import (
    CONTEXT_MARKER,
    FAN_OUT_MARKER,
    Logged,
    MarkerRecorded,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepRetrying,
    StepScheduled,
    StepSettled,
    StepSkipped,
    StepStarted,
    StepTimedOut,
    TimerCancelled,
    TimerFired,
    TimerStarted,
)
from dramaturg_protocol.talk_events import (
    SignalReceived,
    SignalSent,
    StatusSet,
    UpdateAccepted,
    UpdateCompleted,
)

__all__ = [
    "CancelSent",
    "ChildClosed",
    "ChildStarted",
    "ApprovalDecided",
    "ApprovalRequested",
    "ApprovalWithdrawn",
    "COMMANDS",
    "COMPENSATION_ASKED",
    "CONTEXT_MARKER",
    "FAN_OUT_MARKER",
    "Compensation",
    "CompensationCompleted",
    "CompensationStarted",
    "Cut",
    "ErrorInfo",
    "EventBody",
    "FAILURES",
    "HistoryEvent",
    "HookCreated",
    "HookExpired",
    "HookResolved",
    "HookWithdrawn",
    "Logged",
    "MESSAGES",
    "MarkerRecorded",
    "RESUMES",
    "RunAdmitted",
    "RunBlocked",
    "RunCancelRequested",
    "RunCancelled",
    "RunCompleted",
    "RunContinued",
    "RunFailed",
    "RunLimit",
    "RunPaused",
    "RunQueued",
    "RunReset",
    "RunResumed",
    "RunRetried",
    "RunRetrying",
    "RunStarted",
    "RunTerminated",
    "RunTimedOut",
    "RunUnblocked",
    "SUCCESSES",
    "SignalReceived",
    "SignalSent",
    "StatusSet",
    "StepCancelled",
    "StepCompleted",
    "StepFailed",
    "StepRetrying",
    "StepScheduled",
    "StepSettled",
    "StepSkipped",
    "StepStarted",
    "StepTimedOut",
    "TYPES",
    "TimerCancelled",
    "TimerFired",
    "TimerStarted",
    "UpdateAccepted",
    "UpdateCompleted",
    "WAKES",
    "moment_text",
    "type_of",
]


EventBody: TypeAlias = (
    RunStarted
    | RunCompleted
    | RunFailed
    | RunRetrying
    | RunCancelRequested
    | RunCancelled
    | RunTerminated
    | RunTimedOut
    | RunContinued
    | RunBlocked
    | RunUnblocked
    | RunPaused
    | RunResumed
    | RunQueued
    | RunAdmitted
    | RunRetried
    | RunReset
    | StepScheduled
    | StepStarted
    | StepRetrying
    | StepCompleted
    | StepFailed
    | StepTimedOut
    | StepSkipped
    | StepCancelled
    | StepSettled
    | TimerStarted
    | TimerFired
    | TimerCancelled
    | ChildStarted
    | ChildClosed
    | CancelSent
    | ApprovalRequested
    | ApprovalDecided
    | ApprovalWithdrawn
    | HookCreated
    | HookResolved
    | HookExpired
    | HookWithdrawn
    | MarkerRecorded
    | CompensationStarted
    | CompensationCompleted
    | SignalReceived
    | SignalSent
    | UpdateAccepted
    | UpdateCompleted
    | StatusSet
    | Logged
)

#: The name under which each event is stored and shown.
TYPES: Mapping[str, type[EventBody]] = {
    "run.started": RunStarted,
    "run.completed": RunCompleted,
    "run.failed": RunFailed,
    "run.retrying": RunRetrying,
    "run.cancel_requested": RunCancelRequested,
    "run.cancelled": RunCancelled,
    "run.terminated": RunTerminated,
    "run.timed_out": RunTimedOut,
    "run.continued": RunContinued,
    "run.blocked": RunBlocked,
    "run.unblocked": RunUnblocked,
    "run.paused": RunPaused,
    "run.resumed": RunResumed,
    "run.queued": RunQueued,
    "run.admitted": RunAdmitted,
    "run.retried": RunRetried,
    "run.reset": RunReset,
    "step.scheduled": StepScheduled,
    "step.started": StepStarted,
    "step.retrying": StepRetrying,
    "step.completed": StepCompleted,
    "step.failed": StepFailed,
    "step.timed_out": StepTimedOut,
    "step.skipped": StepSkipped,
    "step.cancelled": StepCancelled,
    "step.settled": StepSettled,
    "timer.started": TimerStarted,
    "timer.fired": TimerFired,
    "timer.cancelled": TimerCancelled,
    "child.started": ChildStarted,
    "child.closed": ChildClosed,
    "cancel.sent": CancelSent,
    "signal.received": SignalReceived,
    "signal.sent": SignalSent,
    "update.accepted": UpdateAccepted,
    "update.completed": UpdateCompleted,
    "approval.requested": ApprovalRequested,
    "approval.decided": ApprovalDecided,
    "approval.withdrawn": ApprovalWithdrawn,
    "hook.created": HookCreated,
    "hook.resolved": HookResolved,
    "hook.expired": HookExpired,
    "hook.withdrawn": HookWithdrawn,
    "marker.recorded": MarkerRecorded,
    "status.set": StatusSet,
    "compensation.started": CompensationStarted,
    "compensation.completed": CompensationCompleted,
    "log": Logged,
}
_NAMES: Mapping[type[EventBody], str] = {body: name for name, body in TYPES.items()}

#: Hand something to the workflow's code.
WAKES = (
    RunStarted,
    RunAdmitted,
    RunCancelRequested,
    RunRetried,
    RunReset,
    StepCompleted,
    StepFailed,
    StepTimedOut,
    TimerFired,
    ChildClosed,
    SignalReceived,
    UpdateAccepted,
    ApprovalDecided,
    HookResolved,
    HookExpired,
)

#: What people and other runs say to the code: no retry and no reset takes it back.
MESSAGES = (SignalReceived, UpdateAccepted)

#: Say how something ended that the code asked for; a retry keeps those that succeeded.
SUCCESSES = (StepCompleted, TimerFired, ApprovalDecided, HookResolved)
FAILURES = (StepFailed, StepTimedOut)

#: Let a run go on whose code was not run: it is told now of what had arrived meanwhile.
RESUMES = (RunUnblocked, RunResumed, RunRetried, RunReset)

#: Record what the workflow's code asked for.
COMMANDS = (
    RunQueued,
    StepScheduled,
    StepCancelled,
    TimerStarted,
    TimerCancelled,
    ChildStarted,
    CancelSent,
    ApprovalRequested,
    ApprovalWithdrawn,
    HookCreated,
    HookWithdrawn,
    MarkerRecorded,
    CompensationStarted,
    CompensationCompleted,
    SignalSent,
    UpdateCompleted,
    StatusSet,
    RunCompleted,
    RunFailed,
    RunRetrying,
    RunCancelled,
    RunTimedOut,
    RunContinued,
)


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One line of a history.

    Attributes:
      number: from 1, without gaps.
      time: the coordinator's clock, aware, UTC; never lower than the event before.
      body: what happened.
    """

    number: int
    time: datetime
    body: EventBody


def kinds_of(*bodies: type[object]) -> frozenset[type[EventBody]]:
    """The types of events that are instances of these: themselves, and those that are a kind of one.

    To ask whether an event is one of many costs one look, where `isinstance` tries each.
    """
    return frozenset(kind for kind in TYPES.values() if issubclass(kind, bodies))


def type_of(body: EventBody) -> str:
    """The name under which an event is stored and shown, like ``step.completed``."""
    return _NAMES[type(body)]


@lru_cache(maxsize=512)
def moment_text(moment: datetime) -> str:
    """An aware moment as it stands in JSON: ISO 8601, UTC, microseconds.

    What one turn writes has few moments, and has them often.
    """
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
