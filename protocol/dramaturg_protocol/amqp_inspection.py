"""What RabbitMQ says of its queues, without anything being taken from them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Any

from dramaturg_protocol.amqp import close_quietly, connect, is_missing, quiet, told_as_unreachable
from dramaturg_protocol.faults import Unreachable


class AmqpInspector:
    """Looks at queues, over one connection that it keeps; any thread may ask.

    Parameters:
      parameters: pika's, of the server.
    """

    def __init__(self, parameters: Any) -> None:
        self._parameters = quiet(parameters)
        self._lock = threading.Lock()
        self._connection: Any = None

    def counts(self, queues: Collection[str]) -> dict[str, int]:
        """How many messages wait in each queue; one that does not exist is left out.

        Raises:
          Unreachable: RabbitMQ does not answer.
        """
        found: dict[str, int] = {}

        def count(connection: Any) -> None:
            channel = connection.channel()
            for queue in queues:
                try:
                    found[queue] = channel.queue_declare(queue, passive=True).method.message_count
                except Exception as error:
                    if not is_missing(error):
                        raise
                    # It closes the channel too.
                    channel = connection.channel()
            channel.close()

        self._ask(count)
        return found

    def first(self, queue: str) -> bytes | None:
        """The first message of a queue, which stays there; ``None`` for none, or no such queue.

        Raises:
          Unreachable: RabbitMQ does not answer.
        """
        bodies: list[bytes] = []

        def get(connection: Any) -> None:
            channel = connection.channel()
            try:
                method, _, body = channel.basic_get(queue)
            except Exception as error:
                if not is_missing(error):
                    raise
                return
            if method is not None:
                bodies.append(body)
            # What was not acknowledged goes back to its place.
            channel.close()

        self._ask(get)
        return bodies[0] if bodies else None

    def ping(self) -> None:
        """Whether RabbitMQ answers; `Unreachable` where it does not."""

        def say_something(connection: Any) -> None:
            connection.channel().close()

        self._ask(say_something)

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        with self._lock:
            self._drop()

    def _ask(self, question: Callable[[Any], None]) -> None:
        with self._lock:
            # A connection that nobody used for long may be gone: that is found out by using it.
            for is_last in (self._connection is None, True):
                try:
                    with told_as_unreachable(self._parameters):
                        if self._connection is None:
                            self._connection = connect(self._parameters)
                        question(self._connection)
                except Unreachable:
                    self._drop()
                    if is_last:
                        raise
                else:
                    return

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            close_quietly(connection)
