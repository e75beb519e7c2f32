"""What the code of a run waits for besides what has a row of open work: somebody outside, or a condition of its own.

The histories do not hold it: it is told of a run's row, as its code last said, for people and for the audit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import TypeAdapter
from pydantic_core import to_json


class WaitKind(StrEnum):
    """What may bring it on."""

    SIGNAL = "signal"
    CONDITION = "condition"
    """Whatever makes a predicate true."""
    UPDATE = "update"
    """A handler is bound, and the code may wait for what it does."""


@dataclass(frozen=True, slots=True)
class Wait:
    """One thing that is waited for.

    Attributes:
      name: of the signal or the update; of the predicate, as far as it has one.
      timer: position of the timer that ends it; 0 where none does.
    """

    kind: WaitKind
    name: str
    since: datetime
    timer: int = 0


_WAITS: TypeAdapter[list[Wait]] = TypeAdapter(list[Wait])


def encode_waits(waits: Sequence[Wait]) -> str | None:
    """The text that a run's row keeps; ``None`` for nothing."""
    return to_json(waits).decode() if waits else None


def decode_waits(text: str | None) -> list[Wait]:
    """What a run's row says."""
    return [] if text is None else _WAITS.validate_json(text)
