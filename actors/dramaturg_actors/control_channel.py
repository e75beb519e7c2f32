"""How a worker hears, over its broker's server, what coordinators tell all workers."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

from dramatiq.broker import Broker
from dramatiq.brokers.redis import RedisBroker as StockRedisBroker

from dramaturg_actors.amqp_control import AmqpControl
from dramaturg_actors.application_broker import our_rabbitmq
from dramaturg_actors.redis_control import RedisControl


class Control(Protocol):
    """Tells of attempts that nobody waits for any more, from `start` to `close`."""

    def start(self) -> None: ...

    def close(self) -> None: ...


class NoControl:
    """A broker that tells all workers nothing: of a process's own, or of a kind that cannot."""

    def start(self) -> None:
        """Nothing to hear."""

    def close(self) -> None:
        """Nothing was opened."""


def control_over(broker: Broker, revoke: Callable[[Collection[str]], None]) -> Control:
    """What hears over a broker of any kind."""
    if isinstance(broker, StockRedisBroker):
        theirs: Any = broker
        return RedisControl(theirs.client, theirs.namespace, revoke)
    rabbit = our_rabbitmq(broker)
    if rabbit is not None:
        return AmqpControl(rabbit.parameters, rabbit.names, revoke)
    return NoControl()
