"""Reading histories in tests."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dramaturg import Handle

OUTCOMES = ("step.completed", "step.failed", "step.timed_out", "step.cancelled", "timer.fired", "timer.cancelled")


def types_of(handle: Handle[Any]) -> list[str]:
    """The types of a run's events, without what workers and deploys add."""
    beside = ("step.started", "step.retrying", "run.blocked", "run.unblocked")
    return [event.type for event in handle.events() if event.type not in beside]


def events_of(handle: Handle[Any], kind: str) -> list[dict[str, Any]]:
    """The data of all events of a type."""
    return [event.data for event in handle.events() if event.type == kind]


def outcomes_of(handle: Handle[Any]) -> Counter[int]:
    """How many outcomes each position has."""
    return Counter(event.data["seq"] for event in handle.events() if event.type in OUTCOMES)


def has_gapless_numbers(handle: Handle[Any]) -> bool:
    """Whether the events are numbered from 1 without gaps."""
    numbers = [event.number for event in handle.events()]
    return numbers == list(range(1, len(numbers) + 1))
