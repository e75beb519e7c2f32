"""Waking coordinators without waiting for Redis to say that it did: whoever starts one run after the other has a round trip less."""

from __future__ import annotations

import os
import threading
from typing import Any, Final

import redis

from dramaturg_protocol.redis_client import wake_command

#: Answers that may be on their way before one is waited for.
_MOST_OWED: Final = 100


class Bell:
    """Rings for coordinators, on a connection of its own; from any thread.

    What is rung is on its way when `ring` returns. Its answer is read before the next one goes out: it tells whether the
    connection is still one.

    Parameters:
      stream: what coordinators tail.
    """

    def __init__(self, client: redis.Redis, stream: str) -> None:
        self._client: Any = client
        self._words = wake_command(stream)
        self._lock = threading.Lock()
        self._own: Any = None
        self._process = 0
        self._command: list[bytes] = []
        self._owed = 0

    def ring(self) -> None:
        """Tell every coordinator that there is something in the inbox.

        Raises:
          redis.RedisError: Redis does not do it, or did not do it the last time.
          OSError: it does not answer.
        """
        with self._lock:
            connection = self._connection()
            try:
                self._hear(connection)
            except redis.ConnectionError:
                # It was lost since; one that cannot be made again tells below.
                self._forget(connection)
            except BaseException:
                self._forget(connection)
                raise
            try:
                connection.send_packed_command(self._command)
                self._owed += 1
            except BaseException:
                self._forget(connection)
                raise

    def close(self) -> None:
        """Wait until Redis has heard all that was rung, and give the connection back."""
        with self._lock:
            if self._own is None or self._process != os.getpid():
                return
            try:
                self._hear(self._own.connection, up_to=0)
            finally:
                self._owed = 0
                self._own.close()
                self._own = None

    def _connection(self) -> Any:
        if self._own is None or self._process != os.getpid():
            # After a fork the other process goes on with the one that was there.
            self._own, self._process, self._owed = self._client.client(), os.getpid(), 0
            self._command = self._own.connection.pack_command(*self._words)
        return self._own.connection

    def _hear(self, connection: Any, up_to: int = _MOST_OWED) -> None:
        while self._owed and (self._owed > up_to or connection.can_read(timeout=0)):
            self._owed -= 1
            connection.read_response()

    def _forget(self, connection: Any) -> None:
        self._owed = 0
        connection.disconnect()
