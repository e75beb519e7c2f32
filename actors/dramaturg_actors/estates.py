"""What consumers leave when they are closed, for the next consumer of their queue."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from dramaturg_actors.deliveries import Delivery


@dataclass(frozen=True, slots=True)
class Estate:
    """What a consumer that was closed may still hold, under its name.

    Attributes:
      working: what is being worked on, by id.
    """

    name: str
    working: dict[str, Delivery]


class Estates:
    """The estates of one broker."""

    def __init__(self) -> None:
        self._by_queue: dict[str, list[Estate]] = defaultdict(list)
        self._lock = threading.Lock()

    def leave(self, queue: str, estates: Iterable[Estate]) -> None:
        """Leave them to whoever consumes the queue next."""
        with self._lock:
            self._by_queue[queue] += estates

    def take(self, queue: str) -> list[Estate]:
        """All that was left."""
        with self._lock:
            return self._by_queue.pop(queue, [])
