"""Waiting for a queue to have something, without taking it, until somebody wakes the one who waits."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Final

import redis

from dramaturg_actors.redis_scripts import told_as_closed

#: How often a server is asked that does not block (fakeredis does not).
_POLL_SECONDS: Final = 0.01
_SHORTEST_BLOCK_SECONDS: Final = 0.01
_WAKE_TRIES: Final = 50
_WAKE_SECONDS: Final = 0.02


class QueueWaiter:
    """Waits for a list of Redis, on a connection of its own."""

    def __init__(self, client: redis.Redis, key: str) -> None:
        self._client: Any = client
        self._own: Any = None
        self._own_id: int | None = None
        self._key = key
        self._does_block = True
        self._changed = threading.Condition()
        self._is_waiting = False
        self._is_woken = False

    def wait(self, seconds: float) -> None:
        """Return when the list has something, after `wake`, or when the time is over.

        Raises:
          ConnectionClosed: Redis does not answer.
        """
        with self._changed:
            if self._is_woken:
                self._is_woken = False
                return
            self._is_waiting = True
        try:
            with told_as_closed():
                self._wait(max(seconds, _SHORTEST_BLOCK_SECONDS))
        finally:
            with self._changed:
                self._is_waiting = self._is_woken = False
                self._changed.notify_all()

    def wake(self) -> None:
        """End the present wait, or the next, from another thread."""
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()
        # It may be about to block, and not be blocked yet: so this is said until it is heard.
        for _ in range(_WAKE_TRIES):
            if not self._is_waiting:
                return
            self._unblock()
            with self._changed:
                self._changed.wait_for(lambda: not self._is_waiting, _WAKE_SECONDS)

    def close(self) -> None:
        """Give the connection back, unless somebody waits on it."""
        if self._own is not None and not self._is_waiting:
            self._own.close()

    def _wait(self, seconds: float) -> None:
        due = time.monotonic() + seconds
        if self._does_block:
            self._block(seconds)
        if not self._does_block:
            self._poll(due)

    def _block(self, seconds: float) -> None:
        if self._own is None:
            self._own = self._client.client()  # with one connection, which it makes here
            self._own_id = self._own.client_id()
        began = time.monotonic()
        # From a list to itself, at the same end: it takes nothing.
        head = self._own.blmove(self._key, self._key, seconds, "LEFT", "LEFT")
        if head is None and not self._is_woken and time.monotonic() - began < seconds / 2:
            self._does_block = False

    def _poll(self, due: float) -> None:
        while time.monotonic() < due and not self._client.llen(self._key):
            with self._changed:
                if self._changed.wait_for(lambda: self._is_woken, _POLL_SECONDS):
                    return

    def _unblock(self) -> None:
        if self._own_id is not None and self._does_block:
            with contextlib.suppress(redis.RedisError, OSError):
                self._client.client_unblock(self._own_id)
