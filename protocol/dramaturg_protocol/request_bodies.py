"""What a request to a run says: the body of its row in the inbox, as JSON text."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from pydantic import TypeAdapter

from dramaturg_protocol.error_info import ErrorInfo
from dramaturg_protocol.parents import ParentLink
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.reading import check_payload, validated
from dramaturg_protocol.talk_messages import QuestionBody, SignalBody


@dataclass(frozen=True, slots=True)
class ForkFrom:
    """Which run another one begins like.

    Attributes:
      step: position of the first step that is the new run's own; 0 where all of it is, since it has other input.
    """

    run_id: str
    step: int
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class StartBody:
    """Begin a run.

    Attributes:
      version: of the workflow; ``None`` for the highest that is registered.
      context: what its steps are to see, as `current_step().context`.
      fork: the run that it begins like, if any.
      parent: the run that started it, if one did.
      again: to a child that may be there already: ``tell`` has it tell its parent of its end once more, ``retry`` has it
        go on where it ended without a result.
      continued_from: the run that it continues, if it does.
      priority: of its steps that have none of their own.
      begins_at: when its code begins; ``None`` for at once.
    """

    workflow: str
    workflow_id: str
    input: Payload
    version: int | None = None
    tags: dict[str, str | int | bool] = field(default_factory=dict[str, str | int | bool])
    context: Payload | None = None
    fork: ForkFrom | None = None
    priority: int | None = None
    begins_at: datetime | None = None
    parent: ParentLink | None = None
    again: str = ""
    continued_from: str = ""


@dataclass(frozen=True, slots=True)
class ControlBody:
    """Cancel, terminate, pause, resume, retry or reset a run.

    Attributes:
      to_event: of a reset: the number of the last event that stays.
    """

    by: str | None = None
    reason: str | None = None
    to_event: int | None = None


@dataclass(frozen=True, slots=True)
class ChildClosedBody:
    """A child tells its parent how it ended.

    Attributes:
      seq: its position in the parent.
      child: the run that the parent knows: the first of a chain.
      run_id: the run that ended.
    """

    seq: int
    child: str
    run_id: str
    status: str
    result: Payload | None = None
    error: ErrorInfo | None = None


class SettleVerb(StrEnum):
    """What a person does with a step."""

    RETRY_NOW = "retry_now"
    COMPLETE = "complete"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class SettleBody:
    """A person takes a step into their hands.

    Attributes:
      value: its result, where they complete it.
      message: of its error, where they fail it.
      generation: of the step, where a token says it.
    """

    seq: int
    verb: SettleVerb
    value: Payload | None = None
    message: str = ""
    by: str | None = None
    reason: str | None = None
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class DecideBody:
    """Somebody decides what a run asks people for.

    Attributes:
      name: of the approval, where no position says which.
      generation, seq: of the approval, where a token or a list says it.
    """

    name: str
    approved: bool
    by: str
    comment: str = ""
    generation: int | None = None
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class ResolveBody:
    """Somebody uses the token of a hook."""

    generation: int
    seq: int
    payload: Payload


_START: TypeAdapter[StartBody] = TypeAdapter(StartBody)
_CONTROL: TypeAdapter[ControlBody] = TypeAdapter(ControlBody)
_SETTLE: TypeAdapter[SettleBody] = TypeAdapter(SettleBody)
_CHILD_CLOSED: TypeAdapter[ChildClosedBody] = TypeAdapter(ChildClosedBody)
_DECIDE: TypeAdapter[DecideBody] = TypeAdapter(DecideBody)
_RESOLVE: TypeAdapter[ResolveBody] = TypeAdapter(ResolveBody)

#: What a client says to a run that is there.
RunMessage: TypeAlias = ControlBody | SettleBody | SignalBody | QuestionBody | DecideBody | ResolveBody


def decode_start(text: str | bytes) -> StartBody:
    """Read the body of a start request; `MalformedMessage` when it is none."""
    start = validated(_START, text, "a start")
    check_payload(start.input, "a start: input")
    check_payload(start.context, "a start: context")
    return start


def decode_control(text: str | bytes) -> ControlBody:
    """Read the body of a request to a run, like a cancel; `MalformedMessage` when it is none."""
    return validated(_CONTROL, text, "a request to a run")


def decode_settle(text: str | bytes) -> SettleBody:
    """Read what a person does with a step; `MalformedMessage` when it is none."""
    body = validated(_SETTLE, text, "a request about a step")
    check_payload(body.value, "a request about a step: value")
    return body


def decode_child_closed(text: str | bytes) -> ChildClosedBody:
    """Read what a child tells of its end; `MalformedMessage` when it is none."""
    body = validated(_CHILD_CLOSED, text, "the end of a child")
    check_payload(body.result, "the end of a child: result")
    return body


def decode_decide(text: str | bytes) -> DecideBody:
    """Read a decision; `MalformedMessage` when it is none."""
    return validated(_DECIDE, text, "a decision")


def decode_resolve(text: str | bytes) -> ResolveBody:
    """Read what was sent to a hook; `MalformedMessage` when it is nothing of the kind."""
    body = validated(_RESOLVE, text, "a call of a hook")
    check_payload(body.payload, "a call of a hook: payload")
    return body
