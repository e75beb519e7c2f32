"""What happened in the world, as those who watch it are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from dramaturg_protocol.messages import StepReport, StepTask
from dramaturg_protocol.records import DeadLetter, Lease, RunWrites, WorkItem
from dramaturg_protocol.schedule_records import Fired


@dataclass(frozen=True, slots=True)
class Operated:
    """Any other operation of a coordinator."""

    process: str
    operation: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A client or a worker sent something."""


@dataclass(frozen=True, slots=True)
class Acquired:
    """A coordinator was given a lease, whether it heard of it or not."""

    process: str
    lease: Lease


@dataclass(frozen=True, slots=True)
class Committed:
    """A transaction was committed, whether its caller heard of it or not."""

    process: str
    writes: Sequence[RunWrites]
    lease: Lease


@dataclass(frozen=True, slots=True)
class Decided:
    """It was committed what schedules do, whether the caller heard of it or not."""

    process: str
    fired: Sequence[Fired]
    lease: Lease


@dataclass(frozen=True, slots=True)
class Loaded:
    """Histories of runs were read."""

    process: str
    run_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """Messages were handed to the broker; with none, the epochs of a lease."""

    process: str
    work: tuple[WorkItem, ...]
    lease: Lease


@dataclass(frozen=True, slots=True)
class Entered:
    """A message is new in the broker."""

    task: StepTask
    epoch: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Reports were cut off their streams."""

    process: str
    reports: tuple[StepReport | DeadLetter, ...]


@dataclass(frozen=True, slots=True)
class Observed:
    """An observer of a coordinator was told of these."""

    process: str
    writes: Sequence[RunWrites]


@dataclass(frozen=True, slots=True)
class Began:
    """A worker begins an attempt."""

    worker: str
    task: StepTask


@dataclass(frozen=True, slots=True)
class Reported:
    """A worker says how an attempt ended."""

    task: StepTask


@dataclass(frozen=True, slots=True)
class Recovered:
    """A coordinator has taken up what the one before it left behind."""

    process: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An operation of a coordinator ended with an error."""

    process: str


@dataclass(frozen=True, slots=True)
class Emptied:
    """The broker has lost everything."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A coordinator's process is gone, with all that it had in memory, or lost its lease."""

    process: str


Happening: TypeAlias = (
    Operated
    | Sent
    | Acquired
    | Committed
    | Decided
    | Loaded
    | Published
    | Entered
    | Acknowledged
    | Observed
    | Began
    | Reported
    | Recovered
    | Failed
    | Emptied
    | Ended
)
