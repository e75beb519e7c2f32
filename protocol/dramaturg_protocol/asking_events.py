"""The events of what a run asks of people and of the world outside: approvals and hooks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dramaturg_protocol.payloads import Payload


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    """The code asks people for a decision.

    Attributes:
      approvers: who may decide; none for anybody.
      prompt: what they are asked.
      details: what they need to know.
      due: when it times out; ``None`` for never.
      base_url: where links to it lead, as it was set then.
    """

    seq: int
    name: str
    approvers: tuple[str, ...] = ()
    prompt: str = ""
    details: Payload | None = None
    due: datetime | None = None
    base_url: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalDecided:
    """Somebody decided, or nobody did in time.

    Attributes:
      at: when; it stays when the event counts anew after a retry.
      message_id: of the decision; ``None`` where time was over.
    """

    seq: int
    name: str
    approved: bool
    at: datetime
    by: str | None = None
    comment: str = ""
    timed_out: bool = False
    message_id: str | None = None


@dataclass(frozen=True, slots=True)
class ApprovalWithdrawn:
    """The code waits for the decision no longer."""

    seq: int
    name: str


@dataclass(frozen=True, slots=True)
class HookCreated:
    """The code waits for one call from outside. Its token is not stored: it follows from run, generation and position.

    Attributes:
      due: when it expires; ``None`` for never.
      base_url: where its URL leads, as it was set then.
    """

    seq: int
    name: str
    due: datetime | None = None
    base_url: str = ""


@dataclass(frozen=True, slots=True)
class HookResolved:
    """Whoever had the token of a hook used it."""

    seq: int
    name: str
    payload: Payload
    message_id: str | None = None


@dataclass(frozen=True, slots=True)
class HookExpired:
    """Nobody used the token of a hook in time."""

    seq: int
    name: str


@dataclass(frozen=True, slots=True)
class HookWithdrawn:
    """The code waits for the hook no longer."""

    seq: int
    name: str
