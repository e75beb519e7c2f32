"""Steps that are delivered again begin one after the other in a process.

One of them may be what killed the worker before. What begins together with it would be killed with it again, and be
taken for the same.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from dramaturg_actors.attempts import Attempt

#: For how long one of them is alone at most: what kills its process mostly does so at once, and a long step is no reason
#: to hold up the others.
ALONE_SECONDS: Final = 0.6


class Suspects:
    """Lets one attempt begin at a time; the methods may be called from any thread."""

    def __init__(self, alone_seconds: float = ALONE_SECONDS) -> None:
        self._alone_seconds = alone_seconds
        self._changed = threading.Condition()
        self._current: Attempt | None = None
        self._until = 0.0

    def enter(self, attempt: Attempt) -> None:
        """Return when this one may begin."""
        with self._changed:
            while self._current is not None and (left := self._until - time.monotonic()) > 0:
                self._changed.wait(left)
            self._current, self._until = attempt, time.monotonic() + self._alone_seconds

    def leave(self, attempt: Attempt) -> None:
        """It has ended."""
        with self._changed:
            if self._current is attempt:
                self._current = None
                self._changed.notify_all()
