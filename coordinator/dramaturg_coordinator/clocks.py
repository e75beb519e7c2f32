"""The clock of a coordinator: the database's time, sampled at each renewal of the lease, and monotonic in between."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta

#: So much two clocks differ: that of a coordinator from the database's between two samples, or those of two coordinators.
#: What differs more was set back.
DRIFT = timedelta(seconds=1)


def no_earlier(now: datetime, sent_at: datetime | None) -> datetime:
    """When what a message brings happens: not before it was sent, where the clock of whoever sent it is a little ahead.

    So a run that a schedule starts at midnight does not begin on the day before, nor a child before its parent.
    """
    return sent_at if sent_at is not None and now < sent_at <= now + DRIFT else now


class DatabaseClock:
    """The port `Clock`: never goes back, whatever the clocks of machines do.

    Parameters:
      database_time: as the database said it just now.
    """

    def __init__(self, database_time: datetime) -> None:
        self._lock = threading.Lock()
        self._base = database_time
        self._since = time.monotonic()
        self._last = database_time

    def sample(self, database_time: datetime) -> None:
        """Follow the database's time.

        The clock waits where it ran a little ahead. It does not wait for a database that was set back: whoever sleeps
        would sleep for as much longer.
        """
        with self._lock:
            own = self._now()
            if database_time >= own - DRIFT:
                self._base = database_time
                self._since = time.monotonic()

    def now(self) -> datetime:
        """The database's time, as far as it is known."""
        with self._lock:
            return self._now()

    def _now(self) -> datetime:
        now = self._base + timedelta(seconds=time.monotonic() - self._since)
        self._last = max(self._last, now)
        return self._last
