"""The events of undoing: what undoes a step, and when it began and ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dramaturg_protocol.error_info import ErrorInfo


@dataclass(frozen=True, slots=True)
class Compensation:
    """The step that undoes another.

    Attributes:
      queue: as its decorator or its own options say; ``None`` for the project's default.
      options: what was set where it was named, by option name.
    """

    name: str
    queue: str | None = None
    options: dict[str, Any] = field(default_factory=dict[str, Any])


#: Why compensations are run while the code goes on: it asked for them.
COMPENSATION_ASKED = "asked"


@dataclass(frozen=True, slots=True)
class CompensationStarted:
    """What succeeded is undone from here on, step by step, the last first.

    Attributes:
      why: ``failed``, ``cancelled`` or ``timed_out``, which the run is once all is undone: its code has ended; or
        ``asked``, by the code itself.
      error: what the code raised.
      positions: as in the end of a failed run.
    """

    why: str
    error: ErrorInfo | None = None
    positions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CompensationCompleted:
    """All that could be undone is.

    Attributes:
      failed: positions of the compensations that failed for good.
    """

    failed: tuple[int, ...] = ()
