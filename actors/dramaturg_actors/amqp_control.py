"""What coordinators tell all workers of a namespace, over RabbitMQ: an exchange to which each binds a queue of its own.

The queue goes with the connection, so a worker that starts or was cut off hears nothing of what was said meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Final

from pydantic_core import from_json

from dramaturg_protocol.amqp import AmqpNames, close_quietly, connect, told_as_unreachable
from dramaturg_protocol.faults import Unreachable

#: Whoever starts waits this long at most until the worker can be told anything.
_READY_SECONDS: Final = 2.0
_JOIN_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 1.0
_WAIT_SECONDS: Final = 5.0

_logger = logging.getLogger("dramaturg.actors")


class AmqpControl:
    """A thread that listens.

    Parameters:
      parameters: pika's, of the server.
      revoke: told the ids of attempts that nobody waits for any more.
    """

    def __init__(self, parameters: Any, names: AmqpNames, revoke: Callable[[Collection[str]], None]) -> None:
        self._parameters = parameters
        self._names = names
        self._revoke = revoke
        self._connection: Any = None
        self._is_ready = threading.Event()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dramaturg-control", daemon=True)

    def start(self) -> None:
        """Begin to listen; a RabbitMQ that does not answer is waited for by the thread."""
        self._thread.start()
        self._is_ready.wait(_READY_SECONDS)

    def close(self) -> None:
        """Hear nothing more, and end the thread; one that RabbitMQ holds up ends by itself."""
        self._is_closed.set()
        connection = self._connection
        if connection is not None:
            with suppress(Exception):
                connection.add_callback_threadsafe(_nothing)
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        is_cut_off = False
        while not self._is_closed.is_set():
            try:
                with told_as_unreachable(self._parameters):
                    channel = self._open()
                    is_cut_off = False
                    self._is_ready.set()
                    self._listen(channel)
            except Unreachable as error:
                if not is_cut_off and not self._is_closed.is_set():
                    _logger.warning("cancelled steps go on until RabbitMQ answers again: %s", error)
                is_cut_off = True
                self._is_closed.wait(_PAUSE_SECONDS)
            finally:
                connection, self._connection = self._connection, None
                if connection is not None:
                    close_quietly(connection)

    def _open(self) -> Any:
        self._connection = connect(self._parameters)
        channel = self._connection.channel()
        self._names.declare_control(channel)
        queue = channel.queue_declare("", exclusive=True, auto_delete=True).method.queue
        channel.queue_bind(queue, self._names.control)
        channel.basic_consume(queue, self._hear, auto_ack=True)
        return channel

    def _listen(self, channel: Any) -> None:
        while not self._is_closed.is_set():
            self._connection.process_data_events(_WAIT_SECONDS)
            # An operator may have deleted the queue, which pika does not tell by an exception.
            if not channel.is_open or not channel.consumer_tags:
                raise Unreachable("RabbitMQ took the worker's queue of cancels away")

    def _hear(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        try:
            ids: Any = from_json(body)
            if not self._is_closed.is_set():
                self._revoke({str(each) for each in ids})
        except (ValueError, TypeError) as error:
            _logger.error("a message of the exchange %s cannot be read: %r: %s", self._names.control, body, error)


def _nothing() -> None:
    """What a connection is woken with."""
