"""Looks at a run under way: whether every open run has a next cause, how many are open, how fast steps end."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

import psycopg
import redis

from chaos import books
from chaos.world import NAMESPACE, World
from dramaturg_protocol.redis_keys import START_QUEUE, RedisKeys

_PERIOD = 2.0


class Watch:
    """Looks every two seconds, when the database lets it, until it is stopped.

    Attributes:
      looks: how many there were.
      without_cause: what was found, each once.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_again_and_again, name="watch")
        self.looks = 0
        self.without_cause: dict[str, None] = {}

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def _look_again_and_again(self) -> None:
        while not self._over.wait(_PERIOD):
            with (
                suppress(psycopg.OperationalError),
                psycopg.connect(self._world.postgres.dsn, connect_timeout=2) as connection,
            ):
                self.without_cause |= dict.fromkeys(books.without_cause(connection))
                self.looks += 1


def start_messages(world: World) -> list[str]:
    """The ids of start messages that no coordinator has made a row of, be they in its hands."""
    with world.client_of_redis() as client:
        ids: Any = client.hkeys(RedisKeys(NAMESPACE).bodies(START_QUEUE))
    return [each.decode() for each in ids]


def wait_until_done(world: World, seconds: float) -> int:
    """Wait until no run is open, no schedule fires any more, and inbox and entry queue are empty.

    Returns:
      How many of all these are left when time is over.
    """
    due = time.monotonic() + seconds
    left = -1
    while left and not world.over.is_set():
        with (
            suppress(psycopg.OperationalError, redis.RedisError),
            psycopg.connect(world.postgres.dsn, connect_timeout=2) as connection,
        ):
            # First the queue, from which a start goes to the inbox: otherwise one could be between two looks.
            queued = len(start_messages(world))
            row = connection.execute(
                "SELECT (SELECT count(*) FROM dramaturg_inbox)"
                " + (SELECT count(*) FROM dramaturg_runs WHERE closed_at IS NULL)"
                " + (SELECT count(*) FROM dramaturg_schedules WHERE next_due IS NOT NULL)"
            ).fetchone()
            left = queued + int(row[0]) if row else -1
        if time.monotonic() > due:
            return left
        world.over.wait(1.0 if left else 0)
    return left
