"""A queue that is fair between those who put things into it."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """In order for each key, and one of each key in turn: who puts in a thousand holds up nobody else.

    What has a lower priority is before all of a higher one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_priority: dict[int, OrderedDict[str, deque[T]]] = {}

    def put(self, key: str, item: T, priority: int = 0) -> None:
        """Add an item; from any thread."""
        with self._lock:
            by_key = self._by_priority.setdefault(priority, OrderedDict())
            by_key.setdefault(key, deque()).append(item)

    def get(self) -> T | None:
        """The next item; ``None`` where there is none. From any thread."""
        with self._lock:
            if not self._by_priority:
                return None
            priority = min(self._by_priority)
            by_key = self._by_priority[priority]
            key, items = by_key.popitem(last=False)
            item = items.popleft()
            if items:
                by_key[key] = items
            elif not by_key:
                del self._by_priority[priority]
            return item
