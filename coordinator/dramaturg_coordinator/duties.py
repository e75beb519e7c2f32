"""Housekeeping while a server is away: it waits, for all duties that need the server alike, and says so once in a while.

a duty fails ──► its server is away: pause of 1, 2, 4 … 30 s ──► one duty tries; the others, once it has answered
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dramaturg_protocol.faults import Unreachable

logger = logging.getLogger("dramaturg.coordinator")

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0


@dataclass(slots=True)
class _Outage:
    """One server that does not answer."""

    pause: float
    until: float


class Duties:
    """What is known of the servers that duties need; safe to share between threads, none of which waits here.

    Parameters:
      now: a clock that only goes forward, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._outages: dict[str, _Outage] = {}
        self._needs: dict[Callable[[], object], str] = {}

    def patient(self, duty: Callable[[], object], *, always: bool = False) -> Callable[[], None]:
        """The duty, left out while the server that it failed for is away.

        Parameters:
          always: it is tried each time all the same.
        """

        def run() -> None:
            server = self._needs.get(duty, "")
            outage = self._outages.get(server)
            if outage is not None and not always and self._now() < outage.until:
                return
            try:
                duty()
            except Unreachable as error:
                self._failed(duty, error)
            else:
                self._answered(duty)

        return run

    def _failed(self, duty: Callable[[], object], error: Unreachable) -> None:
        server = self._needs[duty] = _server_of(error)
        outage = self._outages.get(server)
        now = self._now()
        if outage is not None and now < outage.until:
            logger.debug("%s", error)
            return
        pause = _FIRST_PAUSE if outage is None else min(2 * outage.pause, _LONGEST_PAUSE)
        self._outages[server] = _Outage(pause, now + pause)
        logger.warning("%s; the duties that need it try again in %g s", error, pause)

    def _answered(self, duty: Callable[[], object]) -> None:
        server = self._needs.pop(duty, "")
        if self._outages.pop(server, None) is not None:
            logger.info("the coordinator's duties go on")


def _server_of(error: Unreachable) -> str:
    """Which server does not answer, as far as its client tells: ``sqlalchemy``, ``redis``, ``pika`` and so on."""
    cause = error.__cause__
    return type(error if cause is None else cause).__module__.partition(".")[0]
