"""Told at once: whoever waits in the coordinator's own process hears of a commit the moment it happened."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from dramaturg_protocol.records import RunWrites

T = TypeVar("T")

#: Seconds before a coroutine that nobody tells looks again: the longer it waits, the longer.
_FIRST_PAUSE, _GROWTH = 0.05, 1.5


class Notices:
    """Wakes those who wait for something in the database.

    Parameters:
      period: seconds after which they look for themselves: short where the coordinator is in another process.
    """

    def __init__(self, period: float) -> None:
        self._period = period
        self._condition = threading.Condition()
        self._commits = 0
        self._interests: dict[str, int] = {}
        self._tellers: dict[str, set[Callable[[], None]]] = {}

    def committed(self, writes: Sequence[RunWrites]) -> None:
        """A turn was committed."""
        interests = self._interests
        if interests and any(each.run_id in interests for each in writes):
            with self._condition:
                self._commits += 1
                self._condition.notify_all()
                for each in writes:
                    for tell in self._tellers.get(each.run_id, ()):
                        tell()

    def wait_for(self, run_id: str, look: Callable[[], T | None], timeout: float | None) -> T | None:
        """Look again after every commit that touches the run, until there is something; ``None`` when time is over.

        Parameters:
          timeout: seconds; ``None`` for ever.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self._gain_interest(run_id)
        try:
            while True:
                seen = self._commits
                found = look()
                if found is not None:
                    return found
                left = self._period if deadline is None else min(self._period, deadline - time.monotonic())
                if left <= 0:
                    return None
                with self._condition:
                    if self._commits == seen:
                        self._condition.wait(left)
        finally:
            self._lose_interest(run_id)

    async def wait_for_async(
        self,
        run_id: str,
        look: Callable[[], T | None],
        timeout: float | None,  # noqa: ASYNC109 - as `wait_for`
    ) -> T | None:
        """As `wait_for`, in a coroutine: a thread is held while it looks, not while it waits."""
        deadline = None if timeout is None else time.monotonic() + timeout
        is_told = asyncio.Event()
        loop = asyncio.get_running_loop()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(is_told.set)

        pause = min(_FIRST_PAUSE, self._period)
        self._gain_interest(run_id, tell)
        try:
            while True:
                is_told.clear()
                found = await asyncio.to_thread(look)
                if found is not None:
                    return found
                left = pause if deadline is None else min(pause, deadline - time.monotonic())
                if left <= 0:
                    return None
                pause = min(pause * _GROWTH, self._period)
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await is_told.wait()
        finally:
            self._lose_interest(run_id, tell)

    def _gain_interest(self, run_id: str, tell: Callable[[], None] | None = None) -> None:
        with self._condition:
            self._interests[run_id] = self._interests.get(run_id, 0) + 1
            if tell is not None:
                self._tellers.setdefault(run_id, set()).add(tell)

    def _lose_interest(self, run_id: str, tell: Callable[[], None] | None = None) -> None:
        with self._condition:
            left = self._interests[run_id] - 1
            if left:
                self._interests[run_id] = left
            else:
                del self._interests[run_id]
            if tell is not None:
                self._tellers[run_id].discard(tell)
                if not self._tellers[run_id]:
                    del self._tellers[run_id]
