"""What an attempt says of itself while it runs, gathered until somebody reports it."""

from __future__ import annotations

import threading
import time
from typing import Any, Final, NamedTuple

from dramaturg_protocol.messages import StepTask
from dramaturg_protocol.payloads import Payload, decode_value, encode_value
from dramaturg_protocol.signs import Progress

#: The most bytes that the details of a heartbeat may have: they travel once a second, and in the next attempt's message.
MAX_DETAILS: Final = 64 * 1024


class News(NamedTuple):
    """What an attempt said since it was reported last."""

    beat: bool
    heartbeat: Payload | None
    progress: Progress | None


class VitalSigns:
    """Heartbeats and progress of one attempt; written by the step, taken by whoever reports them.

    Attributes:
      beat_at: when it gave its last heartbeat, else when it began, on the monotonic clock.
    """

    def __init__(self, task: StepTask) -> None:
        self._where = f"heartbeat of step {task.name!r}"
        self._last = task.heartbeat
        self._lock = threading.Lock()
        self._news: News | None = None
        self.beat_at = time.monotonic()

    @property
    def last(self) -> tuple[Any, ...]:
        """The details of the last heartbeat of the attempts before."""
        return () if self._last is None else tuple(decode_value(self._last, list[Any], where=self._where))

    def follow(self, heartbeat: Payload) -> None:
        """The delivery before this one, whose worker was lost, said this last."""
        self._last = heartbeat

    def beat(self, details: tuple[Any, ...]) -> None:
        """Take a heartbeat; one without details leaves those of the one before."""
        payload = None
        if details:
            payload = encode_value(list(details), list[Any], where=self._where, limit=MAX_DETAILS)
        with self._lock:
            self.beat_at = time.monotonic()
            before = self._news or _NOTHING
            self._news = News(True, payload or before.heartbeat, before.progress)

    def progress(self, progress: Progress) -> None:
        """Take how far it is."""
        with self._lock:
            before = self._news or _NOTHING
            self._news = before._replace(progress=progress)

    def hear(self, news: News) -> None:
        """Take what it said in another process, since it was heard last."""
        with self._lock:
            if news.beat:
                self.beat_at = time.monotonic()
            before = self._news or _NOTHING
            self._news = News(
                news.beat or before.beat, news.heartbeat or before.heartbeat, news.progress or before.progress
            )

    def begin(self) -> None:
        """Its code begins only now."""
        self.beat_at = time.monotonic()

    def take(self) -> News | None:
        """What was not reported yet; from now on it is."""
        with self._lock:
            news, self._news = self._news, None
            return news

    def give_back(self, news: News) -> None:
        """It was not reported after all; what was said since counts more."""
        with self._lock:
            later = self._news or _NOTHING
            self._news = News(
                news.beat or later.beat, later.heartbeat or news.heartbeat, later.progress or news.progress
            )


_NOTHING: Final = News(False, None, None)
