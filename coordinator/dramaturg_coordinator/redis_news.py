"""Tell clients in other processes, the moment it is committed, that a run is closed or a request is answered.

A hint and nothing more: whoever waits looks into the database when it hears one, and now and then without.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import redis

from dramaturg_protocol.records import RunWrites
from dramaturg_protocol.redis_keys import RedisKeys

#: Runs in one call: the script blocks Redis meanwhile, for some 1 µs each.
CHUNK = 200

# A call for all of them: each command by itself costs the coordinator as much as ten arguments of one.
_SCRIPT = "for _, channel in ipairs(ARGV) do redis.call('PUBLISH', channel, '') end"

logger = logging.getLogger("dramaturg.coordinator")


class RedisNews:
    """An observer of turns: one message on a channel of the run."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client: Any = client
        self._keys = RedisKeys(namespace)
        self._script: Any = client.register_script(_SCRIPT)

    def __call__(self, writes: Sequence[RunWrites]) -> None:
        """Tell of what was committed."""
        run_ids = [each.run_id for each in writes if each.is_closed or each.replies]
        if not run_ids:
            return
        try:
            for start in range(0, len(run_ids), CHUNK):
                self._script(args=[self._keys.news(run_id) for run_id in run_ids[start : start + CHUNK]])
        except (redis.RedisError, OSError) as error:
            logger.debug("nobody was told of %d run(s): %s", len(run_ids), error)
