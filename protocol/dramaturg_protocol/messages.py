"""What rooms send each other: a step's task on its way to a worker, its report on the way back, a client's request.

All three travel as JSON text. A task is the body of an ordinary Dramatiq message (`StepTask` under the option
``dramaturg``); a report goes to the coordinator that owns the run's partition; a request is a row of the inbox.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from pydantic import TypeAdapter
from pydantic_core import to_json

from dramaturg_protocol.ids import attempt_id
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.reading import check_payload, validated
from dramaturg_protocol.request_bodies import ChildClosedBody, RunMessage, StartBody
from dramaturg_protocol.sealed_fields import sealed_fields
from dramaturg_protocol.signs import Progress

#: How many workers may be lost with a step, over all its attempts, before it fails.
MOST_LOST: Final = 3


@dataclass(frozen=True, slots=True)
class StepTask:
    """One attempt of a step, on its way to a worker.

    Attributes:
      partition: whose owner hears the report.
      input: the arguments.
      timeout: seconds that the attempt may take, from its pick-up; ``None`` for no limit.
      release: how often the attempt was handed back before.
      max_attempts: how many the retry policy allows, for the step to know.
      isolated: in a process of its own.
      context: what the run was started with for its steps, or its code set since.
      limit: the option that `timeout` stems from.
      heartbeat_timeout: seconds that may pass between two heartbeats.
      start_by: a worker that picks it up later drops it.
      announce: the worker says at once that it begins.
      heartbeat: the details that an attempt before this one gave last.
      seal: makes the token under which the step can be completed later.
      priority: lower runs first; ``None`` leaves it to what the worker knows of the step.
      lost: how many workers were lost with the attempts before this one.
    """

    run_id: str
    generation: int
    seq: int
    attempt: int
    partition: int
    name: str
    queue: str
    workflow: str
    workflow_id: str
    input: Payload
    max_attempts: int
    timeout: float | None = None
    release: int = 0
    context: Payload | None = None
    limit: str = "timeout"
    heartbeat_timeout: float | None = None
    start_by: datetime | None = None
    announce: bool = False
    heartbeat: Payload | None = None
    isolated: bool = False
    seal: str = ""
    priority: int | None = None
    lost: int = 0

    @property
    def key(self) -> tuple[str, int, int]:
        """What identifies the step, over all its attempts."""
        return (self.run_id, self.generation, self.seq)

    @property
    def message_id(self) -> str:
        """The same for every copy of this attempt."""
        return attempt_id(self.run_id, self.generation, self.seq, self.attempt)


class ReportKind(StrEnum):
    """What a worker says of an attempt."""

    STARTED = "started"
    ALIVE = "alive"
    """A heartbeat, or how far it is."""
    EXPIRED = "expired"
    """It was picked up too late, and dropped."""
    LEFT_OPEN = "left_open"
    """Its code is done, and somebody else will say what came of it."""
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    """A middleware of the application's broker would not have it run."""
    TIMED_OUT = "timed_out"
    RELEASED = "released"

    @property
    def is_final(self) -> bool:
        """Whether nothing more comes of the attempt."""
        return self not in (ReportKind.STARTED, ReportKind.ALIVE)


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a worker says of one attempt, on its way to the coordinator.

    Attributes:
      result: of a completed attempt.
      error_type: qualified name of the exception's type, without ``builtins.``.
      bases: qualified names of that type and all its bases, for ``retry_on`` and ``give_up_on``.
      retry_after: seconds from now at which the step wants to be tried again.
      fatal: never to be tried again.
      worker: who ran it.
      seconds: how long the attempt took, or takes so far.
      delivery: how often the attempt was begun, this time included; more than once where a worker was lost.
      release: as in the task: tells a copy of a report from the next one of the same kind.
      limit: of an attempt that ran out of time: the option that says how much it had.
      beat: the step gave a heartbeat since the report before.
      heartbeat: the details of its last one.
      progress: how far it is.
    """

    run_id: str
    generation: int
    seq: int
    attempt: int
    partition: int
    kind: ReportKind
    result: Payload | None = None
    error_type: str = ""
    bases: tuple[str, ...] = ()
    message: str = ""
    traceback: str = ""
    retry_after: float | None = None
    fatal: bool = False
    worker: str = ""
    seconds: float | None = None
    release: int = 0
    delivery: int = 1
    limit: str = "timeout"
    beat: bool = False
    heartbeat: Payload | None = None
    progress: Progress | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        """What identifies the step, over all its attempts."""
        return (self.run_id, self.generation, self.seq)


class RequestKind(StrEnum):
    """What a client asks of a run, or another run tells it; and a worker's report, where its code is elsewhere."""

    START = "start"
    CANCEL = "cancel"
    TERMINATE = "terminate"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    RESET = "reset"
    SETTLE = "settle"
    DECIDE = "decide"
    RESOLVE = "resolve"
    REPORT = "report"
    CHILD_CLOSED = "child_closed"
    SIGNAL = "signal"
    GRANTED = "granted"
    """A limit lets executions of the run through."""
    ASK = "ask"
    """Executions ask a limit for its grant."""
    FREE = "free"
    """Executions that had a limit's grant, or waited for it, are over."""
    QUERY = "query"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Request:
    """A client's message to a run: one row of the inbox.

    Attributes:
      run_id: of the run; its workflow id where another run sent it, which knows no more.
      message_id: counts once.
      reply: whether the sender waits for an answer.
      arrival: the row's number; 0 before it is stored.
      sent_at: when it was stored, by the database's clock or the sender's sample of it; ``None`` before that.
    """

    message_id: str
    kind: RequestKind
    run_id: str
    partition: int
    body: str
    reply: bool = False
    arrival: int = 0
    sent_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request.

    Attributes:
      error: the name of an error class; empty where it was done.
      value: what a query or an update gave.
    """

    message_id: str
    error: str = ""
    message: str = ""
    value: Payload | None = None


_TASK: TypeAdapter[StepTask] = TypeAdapter(StepTask)
_REPORT: TypeAdapter[StepReport] = TypeAdapter(StepReport)


def encode_message(message: StepTask | StepReport | StartBody | ChildClosedBody | RunMessage) -> str:
    """The JSON text of a message; its values are sealed where there is a codec."""
    return to_json(sealed_fields(message)).decode()


def decode_task(text: str | bytes) -> StepTask:
    """Read a task; `MalformedMessage` when it is none.

    Values that cannot be opened here stay sealed: the step says so when it is run, and is tried again elsewhere.
    """
    return validated(_TASK, text, "a step's task", is_lenient=True)


def decode_report(text: str | bytes) -> StepReport:
    """Read a report; `MalformedMessage` when it is none."""
    report = validated(_REPORT, text, "a step's report")
    check_payload(report.result, "a step's report: result")
    check_payload(report.heartbeat, "a step's report: heartbeat")
    return report
