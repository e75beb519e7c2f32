"""How long a worker puts off messages whose actor it does not know: fleets are deployed in waves."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from typing import Final

#: How long a message that nobody else takes is put off before it is given up.
PATIENCE_SECONDS: Final = 600.0

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 2.0
_REMEMBERED: Final = 10_000
_WARNING_SECONDS: Final = 60.0

_logger = logging.getLogger("dramaturg.actors")


class Patience:
    """Remembers what was put off in this process, since when and how often.

    Parameters:
      seconds: how long the same message is put off, from the first time on.
      first_pause: in seconds; it doubles each time.
    """

    def __init__(self, seconds: float = PATIENCE_SECONDS, first_pause: float = _FIRST_PAUSE_SECONDS) -> None:
        self._seconds = seconds
        self._first_pause = first_pause
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._warned: dict[str, float] = {}
        self._lock = threading.Lock()

    def pause(self, message_id: str, actor: str, queue: str) -> float | None:
        """Seconds to hold a message before it is handed back; ``None`` when patience is at its end."""
        now = time.monotonic()
        with self._lock:
            since, times = self._seen.pop(message_id, (now, 0))
            if now - since >= self._seconds:
                return None
            self._seen[message_id] = (since, times + 1)
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
            warn = now >= self._warned.get(actor, now)
            if warn:
                self._warned[actor] = now + _WARNING_SECONDS
        if warn:
            _logger.warning(
                "this worker has no code for %r, which queue %r brings: its messages are handed back for another worker",
                actor,
                queue,
            )
        return min(self._first_pause * (1 << min(times, 10)), _LONGEST_PAUSE_SECONDS)
