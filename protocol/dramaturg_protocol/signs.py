"""What a running step says of itself: that it is alive, where it is, how far it is.

It is no part of the history, which it would only make long: the latest is kept beside the step's row of open work.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter
from pydantic_core import to_json

from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.sealed_fields import opened_fields, sealed_fields


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step is.

    Attributes:
      done: in units of the step's own.
      total: how many there are; ``None`` where it is not known.
      note: what it does at the moment.
    """

    done: float
    total: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Sign:
    """The latest that a step said of itself.

    Attributes:
      attempt: the one that said it.
      beat_at: when the coordinator heard of its last heartbeat.
      details: what that one told; outlives the attempt, for the next one to go on from there.
    """

    attempt: int
    beat_at: datetime | None = None
    details: Payload | None = None
    progress: Progress | None = None


_SIGN: TypeAdapter[Sign] = TypeAdapter(Sign)


def encode_sign(sign: Sign) -> str:
    """Its JSON text."""
    return to_json(sealed_fields(sign)).decode()


def decode_sign(text: str) -> Sign:
    """Read it; ``ValueError`` when it is none."""
    return opened_fields(_SIGN.validate_json(text), is_lenient=True)
