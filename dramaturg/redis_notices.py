"""Told at once from another process: a channel for each run that somebody waits for."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis

from dramaturg.notices import Notices
from dramaturg.redis_bell import Bell
from dramaturg_protocol.redis_keys import RedisKeys

T = TypeVar("T")

logger = logging.getLogger("dramaturg.client")

#: Seconds between two looks at the database while Redis would tell.
PERIOD = 2.0
#: Seconds between two looks while Redis does not answer.
PERIOD_ALONE = 0.2


class RedisNotices(Notices):
    """Wakes those who wait, from the coordinator's messages over Redis; each waiting thread has a connection."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        super().__init__(PERIOD)
        self._client: Any = client
        self._keys = RedisKeys(namespace)
        self._bell = Bell(client, self._keys.wakes)
        self._local = threading.local()

    def wait_for(self, run_id: str, look: Callable[[], T | None], timeout: float | None) -> T | None:
        """Look when the run has news, until there is something; ``None`` when time is over."""
        found = look()
        if found is not None:
            return found
        deadline = None if timeout is None else time.monotonic() + timeout
        channel = self._keys.news(run_id)
        is_listening = self._listen(channel)
        try:
            while True:
                found = look()
                if found is not None:
                    return found
                period = PERIOD if is_listening else PERIOD_ALONE
                left = period if deadline is None else min(period, deadline - time.monotonic())
                if left <= 0:
                    return None
                is_listening = self._hear(left) or self._listen(channel)
        finally:
            self._stop_listening(channel)

    async def wait_for_async(
        self,
        run_id: str,
        look: Callable[[], T | None],
        timeout: float | None,  # noqa: ASYNC109 - as `wait_for`
    ) -> T | None:
        """As `wait_for`, in a coroutine; it holds a thread."""
        return await asyncio.to_thread(self.wait_for, run_id, look, timeout)

    def wake_coordinators(self) -> None:
        """Tell coordinators that there is something in the inbox; they look for themselves where Redis is away."""
        try:
            self._bell.ring()
        except (redis.RedisError, OSError) as error:
            logger.debug("no coordinator was woken: %s", error)

    def close(self) -> None:
        """Close the connection over which coordinators are woken."""
        try:
            self._bell.close()
        except (redis.RedisError, OSError) as error:
            logger.debug("perhaps no coordinator was woken: %s", error)

    def _listen(self, channel: str) -> bool:
        try:
            pubsub = getattr(self._local, "pubsub", None)
            if pubsub is None:
                pubsub = self._local.pubsub = self._client.pubsub(ignore_subscribe_messages=False)
            pubsub.subscribe(channel)
            # The look that follows must come after Redis has the subscription, or a message falls between the two.
            while (heard := pubsub.get_message(timeout=1.0)) is not None and heard["type"] != "subscribe":
                pass
        except (redis.RedisError, OSError) as error:
            self._lose(error)
            return False
        return True

    def _hear(self, seconds: float) -> bool:
        pubsub = getattr(self._local, "pubsub", None)
        if pubsub is None:
            # Redis does not answer: the database is asked in short intervals instead.
            threading.Event().wait(seconds)
            return False
        try:
            pubsub.get_message(timeout=seconds)
        except (redis.RedisError, OSError) as error:
            self._lose(error)
            return False
        return True

    def _stop_listening(self, channel: str) -> None:
        pubsub = getattr(self._local, "pubsub", None)
        if pubsub is None:
            return
        try:
            pubsub.unsubscribe(channel)
        except (redis.RedisError, OSError) as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        logger.debug("no news over Redis: %s", error)
        pubsub, self._local.pubsub = getattr(self._local, "pubsub", None), None
        if pubsub is not None:
            pubsub.close()
