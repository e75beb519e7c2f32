"""The queues that are known before anything is sent."""

from __future__ import annotations

from dramaturg_coordinator.metrics import queues_of
from dramaturg_protocol.config import Settings
from dramaturg_protocol.definitions import Registry


def named_queues(settings: Settings, known: Registry) -> set[str]:
    """The queues that steps and settings name; a call may name others yet."""
    default: str | None = settings.step.get("queue")
    return {*queues_of(known), *settings.queue, *([default] if default else [])}
