"""The clock of this machine. What counts is the database's; this one is for hints."""

from __future__ import annotations

from datetime import UTC, datetime


def system_now() -> datetime:
    """The time of this machine, aware, UTC."""
    return datetime.now(UTC)
