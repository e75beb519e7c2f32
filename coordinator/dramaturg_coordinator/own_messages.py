"""What a run is told: what came from outside, and messages of the coordinator to itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from pydantic_core import to_json

from dramaturg_coordinator.core.run_state import RunState
from dramaturg_coordinator.limits import Granted
from dramaturg_coordinator.window import Admitted
from dramaturg_protocol.messages import Request, StepReport
from dramaturg_protocol.records import DeadLetter, WorkItem


class TryAgain:
    """A message of the coordinator to itself: see whether a blocked run can go on."""


@dataclass(frozen=True, slots=True)
class CutOff:
    """A message of the coordinator to itself: a coordinator before it was running this local step."""

    item: WorkItem


class Mend:
    """A message of the coordinator to itself: rows of open work are gone, and the history says what they were."""


Message: TypeAlias = Request | StepReport | WorkItem | TryAgain | CutOff | Mend | Admitted | Granted


def letter_about(message: Message, reason: str, state: RunState, now: datetime) -> DeadLetter:
    """A message that cannot be applied to a run, for an operator to see."""
    body = to_json(message, fallback=repr).decode()
    source = "inbox" if isinstance(message, Request) else "report" if isinstance(message, StepReport) else "work"
    return DeadLetter(source, reason, body, state.run_id, state.partition, now)
