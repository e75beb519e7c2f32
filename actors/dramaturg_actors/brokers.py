"""The brokers that carry steps, by URL."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from queue import Queue
from typing import Any, Final

import dramatiq
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.brokers.stub import StubBroker

from dramaturg_actors.bodies import read_message
from dramaturg_protocol.amqp import is_amqp_url, load_pika
from dramaturg_protocol.errors import ConfigurationError
from dramaturg_protocol.reading import MalformedMessage
from dramaturg_protocol.redis_client import is_redis_url
from dramaturg_protocol.transport import TASK_OPTION

#: Queues inside the process.
MEMORY_URL: Final = "memory://"

_logger = logging.getLogger("dramaturg.actors")


def make_broker(url: str, *, namespace: str = "dramatiq") -> Broker:
    """The broker of a URL; connects at the first use.

    It has no middleware: retries, time limits, delays and pipelines of Dramatiq lose or double work under a step.

    Parameters:
      namespace: before every key of Redis, and before the names of RabbitMQ's queues unless it is ``dramatiq``.

    Raises:
      ConfigurationError: there is no such broker, or what it needs is not installed.
    """
    if url == MEMORY_URL:
        return MemoryBroker()
    if is_redis_url(url):
        from dramaturg_actors.redis_broker import RedisBroker

        return RedisBroker(url=url, middleware=[], namespace=namespace)
    if is_amqp_url(url):
        load_pika()
        from dramaturg_actors.rabbitmq_broker import RabbitmqBroker

        return RabbitmqBroker(url=url, middleware=[], namespace=namespace)
    raise ConfigurationError(
        f"DRAMATURG_BROKER_URL = {url!r}: it is memory://, redis://… or amqp://…; any other Dramatiq broker is named by "
        f"DRAMATURG_BROKER = module:name"
    )


class MemoryBroker(StubBroker):
    """Queues inside the process.

    Unlike the `StubBroker` of Dramatiq's tests it runs for long: a queue exists as soon as somebody sends to it, a
    message that cannot be read is dropped alone, what is refused is not kept, what is handed back returns.
    """

    def __init__(self) -> None:
        super().__init__(middleware=[])
        self._declaring = threading.RLock()

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue, once."""
        if queue_name not in self.queues:
            with self._declaring:
                super().declare_queue(queue_name)

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        """Send a message; its queue is declared if it was not."""
        self.declare_queue(message.queue_name)
        return super().enqueue(message, delay=delay)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 100) -> Consumer:
        """Take messages from a queue; `timeout` in milliseconds."""
        self.declare_queue(queue_name)
        return MemoryConsumer(self, queue_name, prefetch, timeout)


class MemoryConsumer(Consumer):
    """Takes messages from one queue of a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        self._queue: Queue[bytes] = broker.queues[queue_name]
        self._bodies: deque[bytes] = self._queue.queue
        self._dead_letters = broker.dead_letters_by_queue[queue_name]
        self._queue_name = queue_name
        self._prefetch = prefetch
        self._taken = 0
        self._timeout_seconds = timeout / 1000
        self._is_woken = False
        self._takes_new = True

    def __next__(self) -> MessageProxy | None:
        data = self._next_body()
        if data is None:
            return None
        message = _decoded(data, self._queue_name)
        if message is None:
            self._give_up_one()
            return None
        return MessageProxy(message)

    def ack(self, message: MessageProxy) -> None:
        """Forget a message that was processed."""
        self._give_up_one()

    def nack(self, message: MessageProxy) -> None:
        """Forget a message that was refused; of plain actors keep it, where `StubBroker.join` looks for it."""
        if TASK_OPTION not in message.options:
            self._dead_letters.append(message)
        self._give_up_one()

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Hand messages back."""
        for message in messages:
            self._queue.put(message.encode())
            self._give_up_one()

    def wake(self) -> None:
        """End the wait for a message, from another thread."""
        with self._queue.mutex:
            self._is_woken = True
            self._queue.not_empty.notify_all()

    def take_nothing(self) -> None:
        """Give no more messages, from another thread."""
        self._takes_new = False

    def _next_body(self) -> bytes | None:
        due = time.monotonic() + self._timeout_seconds
        with self._queue.mutex:
            while not (self._has_next() or self._is_woken):
                left = due - time.monotonic()
                if left <= 0 or not self._queue.not_empty.wait(left):
                    return None
            self._is_woken = False
            if not self._has_next():
                return None
            self._taken += 1
            return self._bodies.popleft()

    def _has_next(self) -> bool:
        return self._takes_new and len(self._bodies) > 0 and self._taken < self._prefetch

    def _give_up_one(self) -> None:
        with self._queue.mutex:
            was_full = self._taken >= self._prefetch
            self._taken -= 1
            if was_full:
                self._queue.not_empty.notify_all()
        self._queue.task_done()


def _decoded(data: bytes, queue_name: str) -> dramatiq.Message[Any] | None:
    """The message in a body; ``None`` for what is none."""
    try:
        return read_message(data, queue_name)
    except MalformedMessage as problem:
        _logger.error("a message on queue %r is dropped: %s: %r", queue_name, problem, data[:200])
        return None
