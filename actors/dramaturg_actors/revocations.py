"""Attempts that nobody waits for any more: a worker that knows of one does not begin it."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Final

#: How many are known; the oldest are forgotten first, and begin where their message is still there.
_LIMIT: Final = 100_000


class Revocations:
    """A bounded set of the ids of attempts; safe to share between threads."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._ids: dict[str, None] = {}
        self._changing = threading.Condition()

    def add(self, ids: Collection[str]) -> None:
        """Know of these."""
        with self._changing:
            self._ids.update(dict.fromkeys(ids))
            while len(self._ids) > self._limit:
                del self._ids[next(iter(self._ids))]
            self._changing.notify_all()

    def wait_for(self, id: str, seconds: float) -> bool:  # noqa: A002
        """Whether this one becomes known within some time."""
        with self._changing:
            return self._changing.wait_for(lambda: id in self._ids, seconds)

    def __contains__(self, id: object) -> bool:  # noqa: A002
        return id in self._ids
