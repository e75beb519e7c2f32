"""How many messages wait in each queue, for how long the oldest has been there, and how old the oldest report is."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Queue
from typing import Any, Protocol

import redis
from dramatiq.broker import Broker, MessageProxy
from dramatiq.brokers.stub import StubBroker
from pydantic_core import from_json

from dramaturg_coordinator.redis_streams import text_of
from dramaturg_protocol.amqp import AmqpNames
from dramaturg_protocol.amqp_inspection import AmqpInspector
from dramaturg_protocol.redis_client import told_as_unreachable
from dramaturg_protocol.redis_keys import RedisKeys


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """What waits in one queue; what a worker has taken already does not.

    Attributes:
      oldest_seconds: since when the oldest message has been on its way; 0 where none waits.
    """

    depth: int
    oldest_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class BrokerFigures:
    """What the broker says at one moment.

    Attributes:
      report_seconds: for how long the oldest report has been waiting for its coordinator.
    """

    queues: Mapping[str, QueueDepth] = field(default_factory=dict[str, QueueDepth])
    report_seconds: float = 0.0


class Depths(Protocol):
    """Looks into a broker without taking anything."""

    def read(self, queues: Collection[str]) -> BrokerFigures:
        """The figures of this moment. Raises `Unreachable`."""
        ...


class NoDepths:
    """For a broker that can only be asked for messages."""

    def read(self, queues: Collection[str]) -> BrokerFigures:
        """Nothing is known."""
        return BrokerFigures()


class MemoryDepths:
    """The queues of a broker inside this process, whose worker takes everything out of it at once.

    Parameters:
      waiting: the messages that the worker has taken and not begun.
    """

    def __init__(self, broker: StubBroker, waiting: Callable[[], Iterable[MessageProxy]]) -> None:
        self._queues: dict[str, Queue[bytes]] = broker.queues
        self._waiting = waiting

    def read(self, queues: Collection[str]) -> BrokerFigures:
        """The figures of this moment."""
        now = _now_seconds()
        counts = dict.fromkeys(queues, 0)
        ages = dict.fromkeys(queues, 0.0)
        for message in self._waiting():
            name = message.queue_name
            if name in counts:
                counts[name] += 1
                ages[name] = max(ages[name], now - message.message_timestamp / 1000)
        for name in queues:
            depth, first = self._untaken(name)
            counts[name] += depth
            ages[name] = max(ages[name], _age_of(first, now))
        return BrokerFigures({name: QueueDepth(counts[name], ages[name]) for name in queues})

    def _untaken(self, name: str) -> tuple[int, bytes | None]:
        queue = self._queues.get(name)
        if queue is None:
            return 0, None
        with queue.mutex:
            bodies: Sequence[bytes] = queue.queue
            return len(bodies), bodies[0] if bodies else None


class RedisDepths:
    """The queues of a Redis server in Dramatiq's layout, and the report streams of some partitions."""

    def __init__(self, client: redis.Redis, namespace: str, partitions: Collection[int] = ()) -> None:
        self._client: Any = client
        self._keys = RedisKeys(namespace)
        self._partitions = list(partitions)

    def read(self, queues: Collection[str]) -> BrokerFigures:
        """The figures of this moment: two round trips."""
        names = list(queues)
        with told_as_unreachable(self._client):
            pipe = self._client.pipeline(transaction=False)
            for name in names:
                pipe.llen(self._keys.queue(name))
                pipe.lindex(self._keys.queue(name), 0)
            for partition in self._partitions:
                pipe.xrange(self._keys.reports(partition), count=1)
            pipe.time()
            *answers, (seconds, microseconds) = pipe.execute()
            depths, firsts = answers[: 2 * len(names) : 2], answers[1 : 2 * len(names) : 2]
            bodies = self._bodies(names, firsts)
        now = _now_seconds()
        oldest_reports = [_moment_of(entries[0][0]) for entries in answers[2 * len(names) :] if entries]
        redis_now = seconds + microseconds / 1e6
        return BrokerFigures(
            {
                name: QueueDepth(depth, _age_of(body, now))
                for name, depth, body in zip(names, depths, bodies, strict=True)
            },
            max((redis_now - moment for moment in oldest_reports), default=0.0),
        )

    def _bodies(self, names: Sequence[str], message_ids: Sequence[bytes | None]) -> Sequence[bytes | None]:
        pipe = self._client.pipeline(transaction=False)
        for name, message_id in zip(names, message_ids, strict=True):
            pipe.hget(self._keys.bodies(name), message_id or b"")
        bodies: Sequence[bytes | None] = pipe.execute()
        return bodies


class AmqpDepths:
    """The queues of a RabbitMQ, which says how many messages wait, and not since when."""

    def __init__(self, inspector: AmqpInspector, names: AmqpNames) -> None:
        self._inspector = inspector
        self._names = names

    def read(self, queues: Collection[str]) -> BrokerFigures:
        """The figures of this moment."""
        counts = self._inspector.counts([self._names.wire(queue) for queue in queues])
        return BrokerFigures({queue: QueueDepth(counts.get(self._names.wire(queue), 0)) for queue in queues})


def depths_of(broker: Broker, waiting: Callable[[], Iterable[MessageProxy]]) -> Depths:
    """What can be said of the queues of a broker whose worker is in this process."""
    return MemoryDepths(broker, waiting) if isinstance(broker, StubBroker) else NoDepths()


def _age_of(body: bytes | None, now: float) -> float:
    """Since when a message has been on its way, by its own time stamp; 0 for one that cannot be read."""
    if body is None:
        return 0.0
    try:
        return max(0.0, now - float(from_json(body)["message_timestamp"]) / 1000)
    except (ValueError, TypeError, KeyError):
        return 0.0


def _moment_of(entry_id: bytes | str) -> float:
    return float(text_of(entry_id).partition("-")[0]) / 1000


def _now_seconds() -> float:
    # Messages bear the wall clock of the machine that sent them, which is that of a coordinator: this one's, mostly.
    return time.time()  # noqa: TID251
