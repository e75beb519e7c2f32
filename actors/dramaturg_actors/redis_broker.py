"""`RedisBroker`: Dramatiq's own, with a consumer that waits instead of sleeping and ends a step with its report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import redis
from dramatiq.brokers.redis import DEFAULT_DEAD_MESSAGE_TTL, DEFAULT_MAINTENANCE_CHANCE
from dramatiq.brokers.redis import RedisBroker as StockRedisBroker
from dramatiq.middleware import Middleware
from redis.backoff import NoBackoff
from redis.retry import Retry

from dramaturg_actors.endings import Endings
from dramaturg_actors.estates import Estates
from dramaturg_actors.patience import Patience
from dramaturg_actors.redis_consumer import RedisConsumer
from dramaturg_actors.redis_scripts import RedisScripts
from dramaturg_actors.redis_waiting import QueueWaiter
from dramaturg_protocol.errors import ConfigurationError
from dramaturg_protocol.messages import decode_report
from dramaturg_protocol.redis_client import LONGEST_BLOCK, SOCKET_TIMEOUT, connect

#: Milliseconds without a sign of life after which a worker's messages return; it gives one a second.
HEARTBEAT_TIMEOUT: Final = 15_000

#: One for each queue and delay queue that waits, one for each thread.
_CONNECTIONS: Final = 512


class RedisBroker(StockRedisBroker):
    """Dramatiq's broker over Redis, on the same keys: stock producers and workers may share its queues.

    Parameters:
      url: of the server; else `client`, else what `redis.Redis` takes, in `parameters`.
      middleware: ``None`` for Dramatiq's default.
      maintenance_chance: of a million commands, how many look for dead workers of their queue. Of no importance where
        a coordinator runs: it calls `maintain`.
      namespace: before every key.
      heartbeat_timeout: milliseconds without a sign of life after which a worker's messages return.
      dead_message_ttl: milliseconds that dead letters of plain actors are kept.

    Attributes:
      patience: with steps that this process does not know.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        middleware: list[Middleware] | None = None,
        namespace: str = "dramatiq",
        maintenance_chance: int = DEFAULT_MAINTENANCE_CHANCE,
        heartbeat_timeout: int = HEARTBEAT_TIMEOUT,
        dead_message_ttl: int = DEFAULT_DEAD_MESSAGE_TTL,
        client: redis.Redis | None = None,
        **parameters: Any,
    ) -> None:
        self._redis: redis.Redis = client or _client_of(url, parameters)
        super().__init__(  # type: ignore[no-untyped-call] # pyright: ignore[reportUnknownMemberType]
            middleware=middleware,
            namespace=namespace,
            maintenance_chance=maintenance_chance,
            heartbeat_timeout=heartbeat_timeout,
            dead_message_ttl=dead_message_ttl,
            client=self._redis,
        )
        self._is_client_ours = client is None
        options: dict[str, Any] = self._redis.connection_pool.connection_kwargs
        if options.get("decode_responses"):
            raise ConfigurationError("a broker's Redis client carries bytes: leave out decode_responses=True")
        self._longest_wait = min(LONGEST_BLOCK, (options.get("socket_timeout") or SOCKET_TIMEOUT) / 2)
        self._steps = RedisScripts(self._redis, namespace)
        self._estates = Estates()
        self._endings: dict[str, Endings] = {}
        self.patience = Patience()

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> RedisConsumer:
        """Take messages from a queue.

        Parameters:
          prefetch: how many may be held at once.
          timeout: milliseconds after which a wait for a message gives ``None``.
        """
        return RedisConsumer(
            queue_name,
            self._steps,
            QueueWaiter(self._redis, f"{self.namespace}:{queue_name}"),
            prefetch=prefetch,
            timeout=min(timeout / 1000, self._longest_wait),
            patience=self.patience,
            estates=self._estates,
            endings=self._endings.setdefault(queue_name, Endings(queue_name, self._steps)),
            maintain=lambda: self._maintain_by_chance(queue_name),
        )

    def report(self, report: str) -> None:
        """Publish a report on a message that goes on.

        Raises:
          ConnectionClosed: Redis did not take it.
        """
        self._steps.report(report, decode_report(report).partition)

    def maintain(self, queues: Iterable[str]) -> int:
        """Return the messages of dead workers to these queues; call it every few seconds.

        The delay queues are looked after too. Messages that dead workers of ours held return to their queues, named
        here or not.

        Returns:
          How many messages returned.

        Raises:
          ConnectionClosed: Redis does not answer.
        """
        return self._steps.maintain(queues, silence=self.heartbeat_timeout, dead_message_ttl=self.dead_message_ttl)

    def close(self) -> None:
        """Close the connections, unless the client was given."""
        if self._is_client_ours:
            self._redis.close()

    def _maintain_by_chance(self, queue: str) -> None:
        if self._should_do_maintenance("fetch"):  # pyright: ignore[reportUnknownMemberType]
            self.maintain([queue.removesuffix(".DQ")])


def _client_of(url: str | None, parameters: dict[str, Any]) -> redis.Redis:
    if url:
        return connect(url, connections=_CONNECTIONS)
    # As `connect` has it: redis-py must not repeat a command whose answer it lost.
    safe: dict[str, Any] = {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "retry": Retry(NoBackoff(), 0),
    }
    return redis.Redis(**{**safe, **parameters})
