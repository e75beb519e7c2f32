"""A schedule's row and its firings as plain values, between the store and those who decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from dramaturg_protocol.messages import Request
from dramaturg_protocol.records import DeadLetter

#: The tags of a run that a schedule started: which one, and the time that it is for.
SCHEDULE_TAG, TIME_TAG = "dramaturg.schedule", "dramaturg.scheduled_for"


class Paused(StrEnum):
    """Why a schedule does not fire."""

    NO = ""
    BY_HAND = "by_hand"
    """Somebody paused it; no deploy goes over that."""
    LEFT_CODE = "left_code"
    """It was declared in code, and no coordinator that is there declares it any more."""
    TROUBLE = "trouble"
    """It cannot fire: its workflow is gone, or what is stored cannot be read."""


class FiringKind(StrEnum):
    """What a firing is due to."""

    TIME = "time"
    TRIGGER = "trigger"
    BACKFILL = "backfill"


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """A schedule's row.

    Attributes:
      body: the encoded `StartBody` of its runs, but for what each has of its own.
      spec: JSON text.
      overlap: one of `Overlap`.
      catchup: seconds that a firing may be late without being missed.
      declared: by ``client`` or by ``code``.
      paused: one of `Paused`.
      note: of whoever paused it, or what is wrong with it.
      next_time: the time that comes next; ``None`` where there is none any more.
      next_due: when that is to fire, its jitter included; ``None`` also while it is paused.
      waiting: firings that wait for the run before them.
      running: its runs that were open when it was looked at last; not kept where they do not matter.
      last_time, last_fired_at, last_run_id: of the last firing that began a run.
    """

    id: str
    partition: int
    workflow: str
    body: str
    spec: str
    overlap: str
    catchup: int
    declared: str
    paused: str
    note: str
    next_time: datetime | None
    next_due: datetime | None
    waiting: int
    running: tuple[str, ...]
    fired: int
    skipped: int
    missed: int
    last_time: datetime | None
    last_fired_at: datetime | None
    last_run_id: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Firing:
    """A time of a schedule that has its run, or waits for one.

    Attributes:
      run_id: ``None`` while it waits for the run before it.
    """

    time: datetime
    kind: FiringKind
    run_id: str | None
    decided_at: datetime


@dataclass(slots=True)
class Fired:
    """What was decided about one schedule: written as one.

    Attributes:
      record: its row as it is now.
      firings: new ones, and those that waited and have their run now.
      drops_waiting: those that waited before will have none.
      requests: starts of runs, and cancels of others.
      outcomes: how many times began a run, were skipped, were missed.
      late: how many seconds after they were due those with a run began.
    """

    record: ScheduleRecord
    firings: list[Firing] = field(default_factory=list[Firing])
    drops_waiting: bool = False
    requests: list[Request] = field(default_factory=list[Request])
    letters: list[DeadLetter] = field(default_factory=list[DeadLetter])
    outcomes: tuple[int, int, int] = (0, 0, 0)
    late: list[float] = field(default_factory=list[float])


@dataclass(frozen=True, slots=True)
class Found:
    """A schedule as it was found, locked.

    Attributes:
      waiting: its firings that wait, oldest first; some of them where there are very many.
      open_runs: those of its runs that are open.
    """

    record: ScheduleRecord
    waiting: Sequence[Firing] = ()
    open_runs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ScheduleCounts:
    """How the schedules of a namespace stand.

    Attributes:
      states: how many are ``active``, and paused for which reason.
      waiting: firings that wait for the run before them.
      next_due_seconds: in how many seconds the next one is due; below zero where it is late, ``None`` for none.
    """

    states: Mapping[str, int] = field(default_factory=lambda: {"active": 0})
    waiting: int = 0
    next_due_seconds: float | None = None
