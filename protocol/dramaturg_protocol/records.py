"""What the coordinator hands to the store and takes from it: rows as plain values, without any SQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from dramaturg_protocol.events import HistoryEvent
from dramaturg_protocol.limits import Slot, Ticket
from dramaturg_protocol.messages import Reply, Request, StepTask
from dramaturg_protocol.payloads import Payload


class WorkKind(StrEnum):
    """What a row of open work stands for."""

    STEP = "step"
    """A step whose message is out; due when its attempt must be given up, if ever."""
    WAITING = "waiting"
    """A step whose message goes out when there is room in its queue."""
    LIMITED = "limited"
    """A step that waits for the grant of a limit; due when its time is over."""
    LOCAL = "local"
    """A step that the coordinator runs itself; due as the one before."""
    LEFT_OPEN = "left_open"
    """A step whose code is done, and whose outcome somebody else will tell; due as a `STEP`."""
    RETRY = "retry"
    """A step that waits for its next attempt; due when its message goes out."""
    DEADLINE = "deadline"
    """The time of a run as a whole; due when it is over."""
    NEXT_TRY = "next_try"
    """The next try of a run as a whole; due when it begins."""
    TIMER = "timer"
    """A timer; due when it fires."""
    CHILD = "child"
    """A child that has not told of its end; never due."""
    APPROVAL = "approval"
    """A decision that people are asked for; due when it times out."""
    HOOK = "hook"
    """A call from outside that code waits for; due when it expires."""


#: Of an attempt that has begun, or does so as soon as there is room.
SENT_KINDS = frozenset({WorkKind.STEP, WorkKind.WAITING, WorkKind.LOCAL})


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One step, timer or child in flight, or an open approval or hook: its time-out, firing or next attempt, and the message
    to publish.

    Attributes:
      message: the encoded `StepTask` of the attempt that is out or comes next; of a child its run id; ``None`` where
        nothing is published.
        Of an approval or a hook: what lists show of it.
      republished: how often this attempt was sent again, since the broker did not have it any more and nobody had
        reported it.
      task: what the message says, where it was written just now.
      sign: the encoded `Sign` of a step that gave one.
    """

    run_id: str
    generation: int
    seq: int
    partition: int
    kind: WorkKind
    due: datetime | None
    attempt: int = 0
    message: str | None = None
    sign: str | None = None
    republished: int = 0
    task: StepTask | None = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> tuple[str, int, int]:
        """What identifies the row."""
        return (self.run_id, self.generation, self.seq)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run's row: what lists show, and what its history says at the moment.

    Attributes:
      namespace: whose run it is.
      tags: JSON text.
      last_event: number of its last event.
      result: of a completed run.
      error: JSON text of an `ErrorInfo` of a failed run, or of what blocks it.
      waits: JSON text of the `Wait`s of its code, as far as they have no row of open work; ``None`` for none.
      parent: the run that started it, if one did.
      continued_from: the run that it continues, if it does.
    """

    run_id: str
    namespace: str
    partition: int
    workflow_id: str
    workflow: str
    version: int
    status: str
    generation: int
    last_event: int
    tags: str
    started_at: datetime
    updated_at: datetime
    closed_at: datetime | None = None
    result: Payload | None = None
    error: str | None = None
    waits: str | None = None
    parent: str | None = None
    continued_from: str | None = None


class LetterKind(StrEnum):
    """What a dead letter is about."""

    GAVE_UP = "gave_up"
    """A step that gave up, of which its run failed."""
    HELD = "held"
    """A step that gave up and is held for a person."""
    WORKER_LOST = "worker_lost"
    """A step whose workers died, again and again."""
    NOT_REPORTED = "not_reported"
    """A step whose messages were acknowledged without a report."""
    COMPENSATION = "compensation"
    """A step that was to undo another and gave up: what it was to undo stays done."""
    INBOX = "inbox"
    """A request of a client that no run can take."""
    REPORT = "report"
    """A report of a worker that cannot be read, or that no run can take."""
    QUEUE = "queue"
    """What stood in a queue and is no message."""
    WORK = "work"
    """Something that was due and could not be done."""
    RUN = "run"
    """A run that cannot be read."""
    SCHEDULE = "schedule"
    """A schedule that cannot fire."""


class LetterOutcome(StrEnum):
    """How a dead letter was dealt with."""

    RETRIED = "retried"
    SETTLED = "settled"
    DROPPED = "dropped"


#: Letters about a step: its run is retried.
STEP_LETTERS = frozenset(
    {
        LetterKind.GAVE_UP,
        LetterKind.HELD,
        LetterKind.WORKER_LOST,
        LetterKind.NOT_REPORTED,
        LetterKind.COMPENSATION,
    }
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Something that could not be processed, put aside with the reason.

    Attributes:
      source: one of `LetterKind`.
      body: what it was, as text.
      seq, step: position and name of the step that it is about.
      closed_at: when it was dealt with; ``None`` while it is open.
      closed_as: one of `LetterOutcome`.
      closed_by, closed_reason: who did, and why.
    """

    source: str
    reason: str
    body: str
    run_id: str | None = None
    partition: int | None = None
    at: datetime | None = None
    id: int = 0
    seq: int | None = None
    step: str | None = None
    closed_at: datetime | None = None
    closed_as: str | None = None
    closed_by: str | None = None
    closed_reason: str | None = None


@dataclass(frozen=True, slots=True)
class LettersClosed:
    """Open dead letters of a run are dealt with.

    Attributes:
      seq: those about this position only.
      kind: those of this kind only.
    """

    outcome: LetterOutcome
    seq: int | None = None
    kind: LetterKind | None = None
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters are meant.

    Attributes:
      kinds: any of them; none for all.
      since: put aside then or later.
      closed: those that were dealt with, instead of the open ones.
    """

    kinds: tuple[str, ...] = ()
    run_id: str | None = None
    step: str | None = None
    since: datetime | None = None
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Revoked:
    """An attempt that a worker may have, and that nobody waits for any more.

    Attributes:
      queue: of its message; empty where it is not known.
    """

    message_id: str
    queue: str = ""


@dataclass(frozen=True, slots=True)
class KeptResult:
    """The result of a step that a later call with the same arguments may have.

    Attributes:
      key: stands for the step and its arguments.
      expires_at: when it may go.
    """

    key: str
    result: Payload
    stored_at: datetime
    expires_at: datetime


@dataclass(slots=True)
class RunWrites:
    """All that one turn writes for one run.

    Attributes:
      record: the run's row as it is after the turn; ``None`` where the run itself did not change.
      is_new: the row is inserted, not updated.
      events: new events, in order; their numbers follow those that are stored.
      work: rows of open work to insert or replace.
      settled: keys of open work to delete, `(generation, seq)`.
      is_closed: the run is closed: all of its open work goes.
      arrivals: the inbox rows that this consumed.
      replies: answers to their senders.
      sends: what the run asks of others: rows of the inbox; one whose message id is there already counts once.
      revoked: attempts that workers need not begin or end any more. Not stored: for those who are told of the commit.
      next_of_id: the workflow id of the run, and the run that has it from now on, where another one continues it.
      copied: how many of the events happened in another run, off which this one forks.
      letters_closed: dead letters of the run that are dealt with; before the new ones.
      freed: executions that are over or wait no more: what they have of limits goes, but for what is spent of a rate.
      slots: rows of executions that wait for a limit or have its grant now, to insert or replace; after `freed`.
      kept: results for later calls with the same arguments; the last one of a key holds.
      fences: partitions besides the run's own whose lease this needs.
    """

    run_id: str
    record: RunRecord | None = None
    is_new: bool = False
    events: list[HistoryEvent] = field(default_factory=list[HistoryEvent])
    work: list[WorkItem] = field(default_factory=list[WorkItem])
    settled: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    is_closed: bool = False
    arrivals: list[int] = field(default_factory=list[int])
    replies: list[Reply] = field(default_factory=list[Reply])
    sends: list[Request] = field(default_factory=list[Request])
    dead_letters: list[DeadLetter] = field(default_factory=list[DeadLetter])
    revoked: list[Revoked] = field(default_factory=list[Revoked])
    next_of_id: tuple[str, str] | None = None
    copied: int = 0
    letters_closed: list[LettersClosed] = field(default_factory=list[LettersClosed])
    freed: list[Ticket] = field(default_factory=list[Ticket])
    slots: list[Slot] = field(default_factory=list[Slot])
    kept: list[KeptResult] = field(default_factory=list[KeptResult])
    fences: set[int] = field(default_factory=set[int])


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as it is stored.

    Attributes:
      history: all of its events, in order.
      signs: the encoded `Sign` of each open step that gave one, by its generation and position.
      limited: those that wait for a limit's grant, by generation and position.
      sent: those whose row is of `SENT_KINDS`.
    """

    record: RunRecord
    history: Sequence[HistoryEvent]
    signs: Mapping[tuple[int, int], str] = field(default_factory=dict[tuple[int, int], str])
    limited: Collection[tuple[int, int]] = frozenset()
    sent: Collection[tuple[int, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to advance the runs of some partitions.

    Attributes:
      epochs: by partition; every take-over raises it by one.
    """

    owner: str
    epochs: dict[int, int]

    def of(self, partitions: Collection[int]) -> Lease:
        """The same right, to these of its partitions only."""
        return Lease(self.owner, {number: epoch for number, epoch in self.epochs.items() if number in partitions})

    def without(self, partitions: Collection[int]) -> Lease:
        """What is left when these are lost or given back."""
        return Lease(self.owner, {number: epoch for number, epoch in self.epochs.items() if number not in partitions})

    def along_with(self, epochs: Mapping[int, int]) -> Lease:
        """What it is when these come to it."""
        return Lease(self.owner, {**self.epochs, **epochs})


@dataclass(frozen=True, slots=True)
class Balance:
    """How far a coordinator is from its share of the partitions.

    Attributes:
      gained: partitions that it has been given just now, with their epochs.
      surplus: partitions that it is to give back, since others have a right to them.
    """

    gained: Mapping[int, int] = field(default_factory=dict[int, int])
    surplus: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A stored run whose history cannot be read.

    Attributes:
      reason: which row, what is wrong with it.
    """

    record: RunRecord
    reason: str


@dataclass(frozen=True, slots=True)
class StartOrder:
    """A start as a client orders it, before it is known whether it begins a new run.

    Attributes:
      run_id: the run that it would be; follows from the idempotency key where there is one.
      digest: of the arguments, where there is an idempotency key; ``None`` otherwise.
      has_explicit_id: the caller chose the workflow id, so that the policies apply.
      on_conflict: ``raise``, ``use_existing`` or ``terminate_existing``, while a run has the id.
      reuse: ``always``, ``if_failed`` or ``never``, after it closed.
      body: the encoded `StartBody`.
      signal: the encoded `SignalBody` for the run that it leads to, if any; `signal_id` is its message id.
      awaits_signal: whether the sender waits until a run that is there already has the signal.
    """

    run_id: str
    workflow_id: str
    workflow: str
    message_id: str
    body: str
    digest: str | None = None
    has_explicit_id: bool = False
    on_conflict: str = "raise"
    reuse: str = "always"
    signal: str | None = None
    signal_id: str = ""
    awaits_signal: bool = False


@dataclass(frozen=True, slots=True)
class StartOutcome:
    """What became of a `StartOrder`."""

    run_id: str
    workflow_id: str
    is_new: bool
