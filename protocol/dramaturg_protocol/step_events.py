"""What happens at the positions of a run: steps, timers, recorded values; and what its code logs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dramaturg_protocol.error_info import ErrorInfo
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.saga_events import Compensation


@dataclass(frozen=True, slots=True)
class StepSettled:
    """A person took a step into their hands; what comes of it follows as an event of its own.

    Attributes:
      verb: ``retry_now``, ``complete`` or ``fail``.
    """

    seq: int
    name: str
    attempt: int
    message_id: str
    verb: str
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class StepScheduled:
    """The workflow asked for a step.

    Attributes:
      seq: position in the run.
      name: the step.
      input: arguments, ``{"args": […], "kwargs": {…}}``.
      queue: where its message goes.
      options: what the call itself set, by option name; everything else comes from the definition.
      compensate: what undoes it, where it succeeds and the run does not end well.
      undoes: of a compensation: position of the step that it undoes, of one that the code asked for with `compensate()`
        the step that had succeeded last, 0 for none.
      limits: the values of the keys of its limits, by option name.
      group: position of the fan-out that it belongs to.
    """

    seq: int
    name: str
    input: Payload
    queue: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    compensate: Compensation | None = None
    undoes: int | None = None
    limits: dict[str, str] = field(default_factory=dict[str, str])
    group: int | None = None


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A worker reported that it began an attempt.

    Attributes:
      delivery: how often it was begun, this time included; more than once where a worker was lost.
      seconds: how long it was under way when the worker said so; only steps that take long, or have a time-out, are
        told of.
      left_open: its code is done, and somebody else will say what came of it.
    """

    seq: int
    name: str
    attempt: int
    worker: str = ""
    delivery: int = 1
    seconds: float | None = None
    left_open: bool = False


@dataclass(frozen=True, slots=True)
class StepRetrying:
    """An attempt ended without an outcome and another will be made.

    Attributes:
      attempt: the attempt that ended.
      retry_at: when the next one is due; none while the step is held for a person.
      reason: ``error``, ``timeout``, ``released`` (handed back by a worker that stops), ``redelivered`` (its worker was
        lost, and the same attempt begins again), ``limited`` (by a rate limiter of the step's own), ``held`` (it gave up, and ``on_give_up="pause"`` keeps it for a person) or
        ``by hand`` (a person has it tried again).
      counts: whether the attempt counts: the next one has a number of its own.
      delivery: where it was redelivered: how often it begins, this time included.
    """

    seq: int
    name: str
    attempt: int
    error: ErrorInfo
    retry_at: datetime | None
    reason: str = "error"
    counts: bool = True
    delivery: int | None = None


@dataclass(frozen=True, slots=True)
class StepCompleted:
    """A step's result. Recorded once; the step never runs again.

    Attributes:
      cached: it is the result of an earlier call with the same arguments: nothing was run.
    """

    seq: int
    name: str
    attempt: int
    result: Payload
    worker: str = ""
    seconds: float | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class StepFailed:
    """A step gave up."""

    seq: int
    name: str
    attempt: int
    error: ErrorInfo
    worker: str = ""


@dataclass(frozen=True, slots=True)
class StepSkipped(StepFailed):
    """A middleware of the application's broker would not have the step run; the workflow sees it fail."""


@dataclass(frozen=True, slots=True)
class StepTimedOut:
    """A step ran out of time.

    Attributes:
      limit: the option that said how much it had, like ``timeout``.
    """

    seq: int
    name: str
    attempt: int
    error: ErrorInfo
    limit: str = "timeout"


@dataclass(frozen=True, slots=True)
class StepCancelled:
    """The workflow no longer waits for this step."""

    seq: int
    name: str


@dataclass(frozen=True, slots=True)
class TimerStarted:
    """The workflow waits until a moment."""

    seq: int
    due: datetime


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The moment came."""

    seq: int


@dataclass(frozen=True, slots=True)
class TimerCancelled:
    """The workflow no longer waits for this timer."""

    seq: int


#: The kind of a marker that says what later steps see as their context.
CONTEXT_MARKER = "context"

#: The kind of a marker where a fan-out begins: over how many items, and how many of them are one call.
FAN_OUT_MARKER = "fan_out"


@dataclass(frozen=True, slots=True)
class MarkerRecorded:
    """A value that the code must see again on replay.

    Attributes:
      kind: ``side_effect``, ``patched`` or ``context``.
      name: the function, or the change id.
      value: what a side effect returned; what later steps see as their context.
    """

    seq: int
    kind: str
    name: str
    value: Payload | None = None


@dataclass(frozen=True, slots=True)
class Logged:
    """A record of the workflow's logger, from ``HISTORY_LOG_LEVEL`` on."""

    level: str
    message: str
