"""The clock of this machine: the only place of the room where time is read. Everything else takes it as an argument."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

Now: TypeAlias = Callable[[], datetime]


def system_now() -> datetime:
    """The time of this machine, aware, UTC."""
    return datetime.now(UTC)
