"""What stood in a queue and is no message: workers put it into a list, a coordinator keeps it as dead letters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import redis
from pydantic_core import from_json

from dramaturg_protocol.records import DeadLetter
from dramaturg_protocol.redis_client import told_as_unreachable
from dramaturg_protocol.redis_keys import RedisKeys

_SLICE = 100


class RedisGarbage:
    """Moves garbage from Redis into the store.

    Parameters:
      put_aside: keeps dead letters; what it has taken is removed from Redis, so that a crash in between keeps it twice.
    """

    def __init__(self, client: redis.Redis, namespace: str, put_aside: Callable[[Sequence[DeadLetter]], None]) -> None:
        self._client: Any = client
        self._key = RedisKeys(namespace).garbage
        self._put_aside = put_aside

    def collect(self) -> int:
        """Move what is there; how many.

        Raises:
          Unreachable: Redis or the database does not answer.
        """
        with told_as_unreachable(self._client):
            found: list[bytes] = self._client.lrange(self._key, -_SLICE, -1)
        if not found:
            return 0
        self._put_aside([_letter_of(entry) for entry in found])
        with told_as_unreachable(self._client):
            pipe = self._client.pipeline(transaction=True)
            for entry in found:
                pipe.lrem(self._key, -1, entry)
            pipe.execute()
        return len(found)


def _letter_of(entry: bytes) -> DeadLetter:
    text = entry.decode("utf-8", "backslashreplace")
    try:
        said: Any = from_json(text)
        return DeadLetter("queue", f"queue {said['queue']}: {said['reason']}", str(said["text"]))
    except (ValueError, TypeError, KeyError):
        return DeadLetter("queue", "an entry of the list of garbage that cannot be read itself", text)
