"""What workflow code asks of people and of the world outside, and what it gets: values that rooms share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from dramaturg_protocol.payloads import Payload


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of an approval.

    Attributes:
      approved: whether somebody approved it; false where nobody decided in time.
      by: who decided; ``None`` where nobody did.
      comment: what they said to it.
      at: when it was decided, or timed out.
      timed_out: nobody decided in time.
    """

    approved: bool
    by: str | None
    comment: str
    at: datetime
    timed_out: bool


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """An approval as workflow code asks for it."""

    name: str
    due: datetime | None
    approvers: tuple[str, ...]
    prompt: str
    details: Payload | None


@dataclass(frozen=True, slots=True)
class HookRequest:
    """A hook as workflow code asks for it.

    Attributes:
      check: raises `PayloadError` for a payload that the code does not take.
    """

    name: str
    due: datetime | None
    check: Callable[[Payload], object]


@dataclass(frozen=True, slots=True)
class AskedApproval:
    """An approval that was asked for.

    Attributes:
      decision: what comes of it.
      token_of: the token with which somebody decides: whether they approve, and who they are.
      base_url: where links to it lead; empty where that was not set.
    """

    decision: asyncio.Future[Decision]
    token_of: Callable[[bool, str], str]
    base_url: str


@dataclass(frozen=True, slots=True)
class AskedHook:
    """A hook that was asked for.

    Attributes:
      payload: what it is resolved with; ``None`` where it expires.
      base_url: where its URL leads; empty where that was not set.
    """

    seq: int
    payload: asyncio.Future[Payload | None]
    token: str
    base_url: str
