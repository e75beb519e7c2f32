"""Take back, over Redis, what workers have for nothing.

After the commit that says so one script deletes their messages, which no worker finds any more, and tells the workers,
by a stream that all of them read, so that none begins what it has fetched and each stops what it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import redis
from pydantic_core import to_json

from dramaturg_coordinator.revoking import Revoking
from dramaturg_protocol.records import Revoked
from dramaturg_protocol.redis_client import told_as_unreachable
from dramaturg_protocol.redis_keys import CONTROL_FIELD, RedisKeys

#: For how long a worker that starts, or was cut off, still hears of it.
KEPT_MILLISECONDS: Final = 600_000


class RedisRevoking(Revoking):
    """What tells the workers of a namespace, after each commit, which attempts nobody waits for any more."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        super().__init__(self._tell)
        self._client = client
        self._keys = RedisKeys(namespace)
        self._script: Any = client.register_script((Path(__file__).parent / "revoke.lua").read_text())

    def _tell(self, revoked: Sequence[Revoked]) -> None:
        keys = [self._keys.control]
        places: dict[str, int] = {}
        pairs: list[Any] = []
        for each in revoked:
            if not each.queue:
                continue
            if each.queue not in places:
                keys.append(self._keys.bodies(each.queue))
                places[each.queue] = len(keys)
            pairs += (places[each.queue], each.message_id)
        ids = to_json([each.message_id for each in revoked])
        with told_as_unreachable(self._client):
            self._script(keys=keys, args=[KEPT_MILLISECONDS, CONTROL_FIELD, ids, *pairs])
