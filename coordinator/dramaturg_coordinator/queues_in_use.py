"""Which queues steps are in, whoever named them: a step, a setting, or a single call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

#: How long a queue counts after it was seen last. A sweep of the open work, twice a minute, sees all that hold any.
_SECONDS: Final = 300.0


class QueuesInUse:
    """Remembers the queues that were sent to, or that open work names; forgets those of which nothing is open.

    Parameters:
      monotonic: seconds, of a clock that is never set.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._seen: dict[str, float] = {}

    def see(self, queues: Iterable[str]) -> None:
        """These are in use now; from any thread."""
        now = self._monotonic()
        with self._lock:
            self._seen.update(dict.fromkeys(queues, now))

    def names(self) -> set[str]:
        """Those in use; from any thread."""
        oldest = self._monotonic() - _SECONDS
        with self._lock:
            self._seen = {name: seen for name, seen in self._seen.items() if seen >= oldest}
            return set(self._seen)
