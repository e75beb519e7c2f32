"""What coordinators tell all workers of a namespace: a stream in Redis that each of them reads to its end.

It holds the attempts of the last minutes that nobody waits for any more. A worker that starts reads all of it, one that
was cut off goes on where it was.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from typing import Any, Final

import redis
from pydantic_core import from_json

from dramaturg_protocol.redis_keys import CONTROL_FIELD, RedisKeys

#: A read waits this long at most, and so does whoever closes.
_BLOCK_MILLISECONDS: Final = 200
_JOIN_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 1.0
_BATCH: Final = 500

_logger = logging.getLogger("dramaturg.actors")


class RedisControl:
    """A thread that reads the stream.

    Parameters:
      revoke: told the ids of attempts that nobody waits for any more.
    """

    def __init__(self, client: redis.Redis, namespace: str, revoke: Callable[[Collection[str]], None]) -> None:
        self._client: Any = client
        self._key = RedisKeys(namespace).control
        self._revoke = revoke
        self._last: Any = "0"
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dramaturg-control", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Hear nothing more, and end the thread; one that Redis holds up ends by itself."""
        self._is_closed.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        is_cut_off = False
        while not self._is_closed.is_set():
            try:
                self._read()
                is_cut_off = False
            # ValueError: the client was closed under our hands.
            except (redis.RedisError, OSError, ValueError) as error:
                if not is_cut_off and not self._is_closed.is_set():
                    _logger.warning("cancelled steps go on until Redis answers again: %s", error)
                is_cut_off = True
                self._is_closed.wait(_PAUSE_SECONDS)

    def _read(self) -> None:
        answer: Any = self._client.xread({self._key: self._last}, count=_BATCH, block=_BLOCK_MILLISECONDS)
        for _, entries in answer or ():
            for entry_id, fields in entries:
                self._last = entry_id
                if not self._is_closed.is_set():
                    self._tell(fields)

    def _tell(self, fields: dict[bytes, bytes]) -> None:
        try:
            ids: Any = from_json(fields[CONTROL_FIELD.encode()])
            self._revoke({str(each) for each in ids})
        except (KeyError, ValueError, TypeError) as error:
            _logger.error("an entry of the stream %s cannot be read: %r: %s", self._key, fields, error)
