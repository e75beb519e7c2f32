"""The state of a run: what is open at the moment, not what was.

Its size follows the work in flight, not the length of the history. `evolve` alone changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from dramaturg_coordinator.core.states import CLOSED, RunPhase, StepPhase
from dramaturg_protocol import events as e
from dramaturg_protocol.payloads import Payload

#: The key of a run's own row of open work, which says when its time is over.
DEADLINE_KEY = (0, 0)
#: The position of the timer that puts off the code of a run that was started with a delay.
DELAY_SEQ = 1
#: And the one that says when it is tried again.
NEXT_TRY_KEY = (0, 1)


@dataclass(slots=True)
class OpenStep:
    """A step without an outcome.

    Attributes:
      attempt: the attempt that is under way or comes next, from 1.
      options: what the call itself set, as recorded.
      retry_at: when the next attempt is due, while RETRYING; ``None`` while it is held for a person.
      error: of the last attempt that failed.
      releases: how often the present attempt was handed back.
      lost: how many workers were lost with it, over all its attempts.
      first_attempt: from which its retry policy counts; a retry of the run gives it all attempts again.
      context: what it sees as its context: what held when it was asked for.
      undoes: of a compensation, what it undoes.
      is_left_open: its code is done, and somebody else will say what came of it.
      priority: what the run was started with, for steps that have none of their own.
      limits: the values of the keys of its limits, by option name.
    """

    seq: int
    name: str
    queue: str
    input: Payload
    options: Mapping[str, Any]
    generation: int
    scheduled_at: datetime
    phase: StepPhase = StepPhase.SCHEDULED
    attempt: int = 1
    started_at: datetime | None = None
    worker: str = ""
    delivery: int = 1
    lost: int = 0
    retry_at: datetime | None = None
    error: e.ErrorInfo | None = None
    releases: int = 0
    first_attempt: int = 1
    is_left_open: bool = False
    context: Payload | None = None
    undoes: int | None = None
    priority: int | None = None
    limits: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def is_held(self) -> bool:
        """It gave up, and waits for a person."""
        return self.phase is StepPhase.RETRYING and self.retry_at is None


def lost_with(step: OpenStep, delivery: int) -> int:
    """How many workers were lost with a step that is delivered again: not every broker counts beyond two."""
    return step.lost + max(delivery - step.delivery, 1)


Failure: TypeAlias = tuple[OpenStep, e.StepFailed | e.StepTimedOut]


@dataclass(slots=True)
class OpenTimer:
    """A timer that has not fired."""

    seq: int
    due: datetime
    generation: int


@dataclass(slots=True)
class OpenPlace:
    """A run's place under the limit of its workflow, asked for and not given yet."""

    seq: int
    generation: int
    since: datetime


@dataclass(slots=True)
class OpenChild:
    """A child that has not told of its end.

    Attributes:
      asked: what the code asked for.
      generation: in which it did.
      context: what its steps see.
      run_id: what the child is, since the last retry or reset.
      is_cancelled: the code asked for that.
    """

    asked: e.ChildStarted
    generation: int
    context: Payload | None
    run_id: str
    workflow_id: str
    is_cancelled: bool = False


@dataclass(slots=True)
class OpenApproval:
    """A decision that people are asked for.

    Attributes:
      since: when they were asked.
      due: when it times out; ``None`` for never.
    """

    seq: int
    name: str
    approvers: tuple[str, ...]
    prompt: str
    details: Payload | None
    generation: int
    since: datetime
    due: datetime | None


@dataclass(slots=True)
class OpenHook:
    """A call from outside that the code waits for.

    Attributes:
      due: when it expires; ``None`` for never.
      time: how long it had at first.
    """

    seq: int
    name: str
    generation: int
    since: datetime
    due: datetime | None
    time: timedelta | None


Answer: TypeAlias = e.ApprovalDecided | e.ApprovalWithdrawn | e.HookResolved | e.HookExpired | e.HookWithdrawn


@dataclass(slots=True)
class RunState:
    """What the history of a run says at the moment.

    Attributes:
      number: of the last event; 0 before the first.
      time: of the last event.
      started: the first event.
      end: the event that closed the run.
      asked: open approvals and hooks, by position.
      answers: how the last of those ended that are not, by generation and position, and when.
      messages: ids of the requests that counted.
      held: events that the code is still to be told, while it is not run.
      kept: numbers of the outcomes that outlived the last retry; they follow it, out of their order.
      context: what a step that is asked for now sees as its context.
      timeout: seconds that the run may take.
      deadline: when they are over; ``None`` where that does not count any more.
      attempt: which try of the run this is, from 1.
      tries: how many tries its own retries have counted before this one.
      next_try: its code has failed, and is tried again.
      undo_failures: positions of the compensations that failed for good.
      undoing: compensations are being run, and why.
      queued: its place under the limit of its workflow, while it waits for that.
      custom_status: what its code had shown as its status.
      updates: names of those that were accepted and whose handlers have not ended, by message id.
      failures: the steps that failed last, by position, for the letters to a person where the run fails of them.
    """

    run_id: str
    partition: int
    phase: RunPhase = RunPhase.NEW
    generation: int = 1
    version: int = 0
    number: int = 0
    time: datetime | None = None
    started: e.RunStarted | None = None
    started_at: datetime | None = None
    end: e.EventBody | None = None
    blocked: e.RunBlocked | None = None
    paused: e.RunPaused | None = None
    is_cancel_requested: bool = False
    steps: dict[int, OpenStep] = field(default_factory=dict[int, OpenStep])
    timers: dict[int, OpenTimer] = field(default_factory=dict[int, OpenTimer])
    children: dict[int, OpenChild] = field(default_factory=dict[int, OpenChild])
    asked: dict[int, OpenApproval | OpenHook] = field(default_factory=dict[int, "OpenApproval | OpenHook"])
    answers: dict[tuple[int, int], tuple[Answer, datetime]] = field(
        default_factory=dict[tuple[int, int], "tuple[Answer, datetime]"]
    )
    messages: set[str] = field(default_factory=set[str])
    held: list[e.HistoryEvent] = field(default_factory=list[e.HistoryEvent])
    kept: frozenset[int] = frozenset()
    context: Payload | None = None
    timeout: float | None = None
    deadline: datetime | None = None
    attempt: int = 1
    tries: int = 0
    next_try: e.RunRetrying | None = None
    queued: OpenPlace | None = None
    undo_failures: tuple[int, ...] = ()
    undoing: e.CompensationStarted | None = None
    custom_status: Payload | None = None
    updates: dict[str, str] = field(default_factory=dict[str, str])
    failures: dict[int, Failure] = field(default_factory=dict[int, "Failure"])

    @property
    def is_ending(self) -> bool:
        """Its code has ended, and what it did is being undone."""
        return self.undoing is not None and self.undoing.why != e.COMPENSATION_ASKED

    def only_awaits(self, step: OpenStep) -> bool:
        """Whether nothing but its undoing can come of a step: its run's code has ended."""
        return self.is_ending and step.undoes is None

    @property
    def begins_at(self) -> datetime | None:
        """When its code begins, where that was put off."""
        return None if self.started is None else self.started.begins_at

    @property
    def is_put_off(self) -> bool:
        """Whether its code has not begun, since it was started with a delay."""
        return self.begins_at is not None and DELAY_SEQ in self.timers

    @property
    def is_closed(self) -> bool:
        """Nothing changes it any more."""
        return self.phase in CLOSED

    @property
    def begins_nothing(self) -> bool:
        """A person paused it. While a step is held, the attempts of its siblings go on."""
        return self.phase is RunPhase.PAUSED and not self.is_waiting_for_person

    @property
    def is_waiting_for_person(self) -> bool:
        """It was paused because a step gave up, not because anybody asked for it."""
        return self.phase is RunPhase.PAUSED and self.paused is not None and not self.paused.message_id

    @property
    def has_held_steps(self) -> bool:
        """Some step gave up and waits for a person."""
        return not self.is_closed and any(step.is_held for step in self.steps.values())

    @property
    def open_keys(self) -> set[tuple[int, int]]:
        """Generation and position of all that is open: the keys of its rows of open work."""
        steps = {(step.generation, step.seq) for step in self.steps.values()}
        keys = steps | {(timer.generation, timer.seq) for timer in self.timers.values()}
        keys |= {(child.generation, seq) for seq, child in self.children.items()}
        if self.next_try is not None:
            keys.add(NEXT_TRY_KEY)
        keys |= {(asked.generation, asked.seq) for asked in self.asked.values()}
        if self.queued is not None:
            keys.add((self.queued.generation, self.queued.seq))
        return keys if self.deadline is None else keys | {DEADLINE_KEY}

    @property
    def status(self) -> str:
        """The status that people see."""
        if self.phase is RunPhase.NEW or (self.phase is RunPhase.OPEN and (self.is_put_off or self.queued)):
            return "PENDING"
        if self.phase is not RunPhase.OPEN:
            return self.phase.value
        if self.has_held_steps:
            return RunPhase.PAUSED.value
        if self.undoing is not None:
            return "COMPENSATING"
        return "RUNNING" if self.steps or self.children else "WAITING"
