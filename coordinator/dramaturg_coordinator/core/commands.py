"""What workflow code asks for, and whether it is what it asked for before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from dramaturg_protocol import events as e
from dramaturg_protocol.payloads import Payload


@dataclass(frozen=True, slots=True)
class Command:
    """Something that the code asks for: the event that it becomes.

    Attributes:
      line: file and line of the workflow's code; known during a replay only, where it may be needed.
    """

    body: e.EventBody
    line: str = ""


#: Before the name of a workflow, where a call of it is compared and not one of a step.
CHILD_CALL = "child:"

#: Whether two encoded calls of a step (its name, recorded, actual) are equal though their texts differ.
SameCall = Callable[[str, Payload, Payload], bool]


def is_same(recorded: e.EventBody, actual: e.EventBody, same_call: SameCall) -> bool:
    """Whether a replay asks for what the history recorded: kind, position, name and arguments, never options."""
    if type(recorded) is not type(actual):
        return isinstance(recorded, e.RunRetrying) and isinstance(actual, e.RunFailed)
    identity = _IDENTITY.get(type(recorded))
    if identity is not None and identity(recorded) != identity(actual):
        return False
    match recorded, actual:
        case e.StepScheduled(), e.StepScheduled():
            name = recorded.name
        case e.ChildStarted(), e.ChildStarted():
            name = CHILD_CALL + recorded.workflow
        case _:
            return True
    return recorded.input == actual.input or same_call(name, recorded.input, actual.input)


#: What has to be the same besides the kind; arguments are compared as values.
_IDENTITY: Mapping[type[e.EventBody], Callable[[Any], object]] = {
    e.StepScheduled: attrgetter("seq", "name"),
    e.StepCancelled: attrgetter("seq"),
    e.ChildStarted: attrgetter("seq", "workflow"),
    e.CancelSent: attrgetter("seq", "child", "workflow_id"),
    e.TimerStarted: attrgetter("seq"),
    e.TimerCancelled: attrgetter("seq"),
    e.RunQueued: attrgetter("seq"),
    e.MarkerRecorded: attrgetter("seq", "kind", "name"),
    e.ApprovalRequested: attrgetter("seq", "name"),
    e.ApprovalWithdrawn: attrgetter("seq"),
    e.HookCreated: attrgetter("seq", "name"),
    e.HookWithdrawn: attrgetter("seq"),
    e.SignalSent: attrgetter("seq", "workflow_id", "name", "payload"),
    e.UpdateCompleted: attrgetter("message_id"),
}


def describe(body: e.EventBody) -> str:
    """One line that a person can compare."""
    words = _WORDS.get(type(body))
    return e.type_of(body) if words is None else words(body)


def _cancel_words(body: e.CancelSent) -> str:
    return f"cancel run {body.workflow_id}" if body.child is None else f"cancel child #{body.child}"


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:99] + "…"


_WORDS: Mapping[type[e.EventBody], Callable[[Any], str]] = {
    e.StepScheduled: lambda body: f"step {body.name} #{body.seq} {_short(body.input)}",
    e.StepCancelled: lambda body: f"cancel step {body.name} #{body.seq}",
    e.ChildStarted: lambda body: f"child {body.workflow} #{body.seq} {_short(body.input)}",
    e.CancelSent: _cancel_words,
    e.TimerStarted: lambda body: f"timer #{body.seq} until {e.moment_text(body.due)}",
    e.TimerCancelled: lambda body: f"cancel timer #{body.seq}",
    e.RunQueued: lambda body: f"ask for a place #{body.seq}",
    e.ApprovalRequested: lambda body: f"approval {body.name} #{body.seq}",
    e.ApprovalWithdrawn: lambda body: f"withdraw approval {body.name} #{body.seq}",
    e.HookCreated: lambda body: f"hook {body.name} #{body.seq}",
    e.HookWithdrawn: lambda body: f"withdraw hook {body.name} #{body.seq}",
    e.MarkerRecorded: lambda body: f"{body.kind} {body.name} #{body.seq}",
    e.SignalSent: lambda body: f"signal {body.name} #{body.seq} to {body.workflow_id} {_short(body.payload)}",
    e.UpdateCompleted: lambda body: f"end of update {body.name}",
    e.StatusSet: lambda body: f"status {_short(body.value)}",
    e.RunCompleted: lambda body: f"return {_short(body.result)}",
    e.RunFailed: lambda body: f"raise {body.error.type}: {body.error.message[:80]}",
    e.RunRetrying: lambda body: f"raise {body.error.type}: {body.error.message[:80]}",
    e.RunContinued: lambda body: f"continue as new {_short(body.input)}",
    e.RunCancelled: lambda _: "end as cancelled",
    e.RunTimedOut: lambda _: "end as timed out",
}
