"""What happens to a run as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from dramaturg_protocol.error_info import ErrorInfo
from dramaturg_protocol.parents import ParentLink
from dramaturg_protocol.payloads import Payload


@dataclass(frozen=True, slots=True)
class RunLimit:
    """The limit that a run is under: ``@workflow(concurrency=…)``.

    Attributes:
      most: runs at once.
      key: the value of its key; empty where it has none.
      on_conflict: ``queue``, ``skip`` or ``cancel_running``.
      error: why its key could not be read: the run fails of it.
    """

    most: int
    key: str = ""
    on_conflict: str = "queue"
    error: str = ""


@dataclass(frozen=True, slots=True)
class RunQueued:
    """The run asks for its place under the limit of its workflow; its code begins once it has one."""

    seq: int


@dataclass(frozen=True, slots=True)
class RunAdmitted:
    """The run has its place, until it is closed."""

    seq: int


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run was accepted; its code begins.

    Attributes:
      version: of the workflow; 0 where it was not known yet.
      python: version of the interpreter, like ``3.12``.
      fingerprint: of the workflow's code.
      context: what its steps see as `current_step().context`, until the code sets another.
      forked_from: the run whose recorded prefix it shares, or whose workflow it does again with other input.
      seeds: for a fork: up to which generation the values that its code derives are those of which run.
      by, reason: who forked it, and why.
      priority: of its steps that have none of their own: lower runs first.
      timeout: seconds that the run may take, from here, or from when its code begins.
      begins_at: when its code begins, where that was put off.
      limit: how many such runs there may be at once.
      parent: the run that started it, if one did.
      continued_from: the run that it continues, if it does.
    """

    message_id: str
    workflow_id: str
    workflow: str
    version: int
    input: Payload
    tags: dict[str, str | int | bool] = field(default_factory=dict[str, str | int | bool])
    python: str = ""
    fingerprint: str = ""
    context: Payload | None = None
    forked_from: str = ""
    seeds: tuple[tuple[int, str], ...] = ()
    by: str | None = None
    reason: str | None = None
    timeout: float | None = None
    priority: int | None = None
    begins_at: datetime | None = None
    limit: RunLimit | None = None
    parent: ParentLink | None = None
    continued_from: str = ""


@dataclass(frozen=True, slots=True)
class RunCompleted:
    """The workflow returned."""

    result: Payload


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The workflow raised.

    Attributes:
      error: what it raised.
      positions: the positions of the steps that the error stems from.
    """

    error: ErrorInfo
    positions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RunRetrying:
    """The workflow raised, and its own ``retries`` have it tried again; steps under way count no more.

    Attributes:
      error: what it raised.
      positions: the positions of the steps that the error stems from; without any the code begins anew.
      attempt: the try of the run that failed.
      retry_at: when the next one begins.
    """

    error: ErrorInfo
    positions: tuple[int, ...]
    attempt: int
    retry_at: datetime


@dataclass(frozen=True, slots=True)
class RunCancelRequested:
    """Somebody asked for the run to be cancelled, or its time is over; its code sees ``asyncio.CancelledError``.

    Attributes:
      timed_out: its time is over.
    """

    message_id: str
    by: str | None = None
    reason: str | None = None
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class RunCancelled:
    """The workflow's code ended after a cancel."""


@dataclass(frozen=True, slots=True)
class RunTimedOut:
    """The workflow's code ended after its time was over."""


@dataclass(frozen=True, slots=True)
class RunContinued:
    """The workflow's code ended the run and began the next of its chain, under the same workflow id.

    Attributes:
      run_id: of the next run.
      input: of the next run.
      signals: ids of the signals that the code did not take, and that go on to the next run.
    """

    run_id: str
    input: Payload
    signals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunTerminated:
    """Somebody ended the run at once, without clean-up."""

    message_id: str
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RunBlocked:
    """The run cannot go on with the code that is there; it goes on by itself when that is mended.

    Attributes:
      reason: ``nondeterminism``, ``unknown_workflow``, ``stuck``, ``deadly`` or ``refused``.
      message: what is wrong and what to do, for people.
      event: number of the first event that does not fit, for ``nondeterminism``.
      recorded: what the history says, a line each, around the first difference.
      actual: what the code asks for now, a line each.
      line: file and line of the workflow's code.
      unrecorded: the code had been woken and what it asked for then is not in the history.
    """

    reason: str
    message: str
    event: int | None = None
    recorded: tuple[str, ...] = ()
    actual: tuple[str, ...] = ()
    line: str = ""
    unrecorded: bool = False


@dataclass(frozen=True, slots=True)
class RunUnblocked:
    """The code fits again; what had arrived meanwhile is handed to it now.

    Attributes:
      version: of the workflow, where the run had begun without one.
      timeout: seconds that the run may take from its start, where that was not known before.
    """

    version: int | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class RunPaused:
    """The run's code is told of nothing until it is resumed; what arrives is recorded and handed to it then.

    Attributes:
      message_id: of the person's request; empty where a step gave up that is held (``on_give_up="pause"``): the
        attempts of other steps go on then, while a person's pause begins nothing any more.
    """

    message_id: str
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RunResumed:
    """A paused run goes on."""

    message_id: str
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """The run goes on from an earlier point, in a new generation: what came after that point counts no more.

    Attributes:
      keep: number of the last event that stays.
      kept: numbers of the later outcomes that stay as well; the code is told of them now.
      generation: of everything that the code asks for from now on; what was kept keeps its own.
      again: the open steps, each with the number of the attempt that comes next: none that was ever used.
      timers: the open timers, each with the moment at which it is due now: time stood still for them.
      messages: ids of the requests that were cut; they count once all the same.
      children: the open children that begin again or go on, each with the run that it is from now on.
      early: the code is of this generation and time as soon as it has asked again for all that stays, and not only once it
        waits.
    """

    message_id: str
    keep: int
    generation: int
    kept: tuple[int, ...] = ()
    again: tuple[tuple[int, int], ...] = ()
    timers: tuple[tuple[int, datetime], ...] = ()
    messages: tuple[str, ...] = ()
    children: tuple[tuple[int, str], ...] = ()
    by: str | None = None
    reason: str | None = None
    early: bool = False


@dataclass(frozen=True, slots=True)
class RunRetried(Cut):
    """A run that failed goes on with the steps that failed; what succeeded stays.

    Attributes:
      attempt: which try of the run begins here.
      tries: how many its own ``retries`` have counted by now; 0 where a person asked for it: all are left again.
      anew: the code begins at its first line, and at this time.
      deadline: when the time of the run is over, where its own ``retries`` go on: they give it no new time-out.
    """

    attempt: int = 1
    tries: int = 0
    anew: bool = False
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunReset(Cut):
    """Somebody set the run back to an event."""
