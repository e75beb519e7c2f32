"""Messages on their way to RabbitMQ: whatever gathered while the last ones were on their way goes as one transaction.

A transaction is confirmed once RabbitMQ has each of its messages in each queue, on disk where they are persistent: as safe
as a publisher confirm for every message, at one round trip for all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dramaturg_protocol.amqp import AmqpNames, close_quietly, connect, quiet, told_as_unreachable
from dramaturg_protocol.faults import Unreachable


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message.

    Attributes:
      queue: its name in RabbitMQ; empty for one to an exchange.
      declare: declares the queue or exchange on a channel, in case that it is not there.
      priority: of the queue, where it has any: higher first.
      is_persistent: whether it outlives a restart of RabbitMQ.
    """

    queue: str
    body: bytes
    declare: Callable[[Any], object]
    exchange: str = ""
    priority: int | None = None
    is_persistent: bool = True

    def publish(self, channel: Any) -> None:
        """Publish it as a part of the channel's transaction."""
        from pika import BasicProperties

        properties = BasicProperties(delivery_mode=2 if self.is_persistent else 1, priority=self.priority)
        # A message to a queue that is gone comes back, instead of being dropped without a word.
        channel.basic_publish(self.exchange, self.queue, self.body, properties, mandatory=not self.exchange)


def wake_up(names: AmqpNames) -> Outgoing:
    """What tells every coordinator that there is something in the inbox; nobody keeps it for those who are not there."""
    return Outgoing("", b"", names.declare_wakes, exchange=names.wakes, is_persistent=False)


def tell_workers(names: AmqpNames, body: bytes) -> Outgoing:
    """What tells every worker process that is there; nobody keeps it for the others."""
    return Outgoing("", body, names.declare_control, exchange=names.control, is_persistent=False)


class _Ticket:
    """What one caller sends, and what became of it."""

    def __init__(self, messages: Sequence[Outgoing]) -> None:
        self.messages = messages
        self.is_over = False
        self.error: Unreachable | None = None


class AmqpSender:
    """Sends from any thread, over one connection that it opens when it is needed.

    The caller that finds nobody sending sends for all that gathered meanwhile.

    Parameters:
      parameters: pika's, of the server.
    """

    def __init__(self, parameters: Any) -> None:
        self._parameters = quiet(parameters)
        self._gathering = threading.Lock()
        self._gathered: list[_Ticket] = []
        self._sending = threading.Lock()
        self._connection: Any = None
        self._channel: Any = None
        self._declared: set[tuple[str, str]] = set()
        self._returned: list[str] = []

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Return once RabbitMQ has them.

        Raises:
          Unreachable: it does not answer; some may have been sent.
        """
        if not messages:
            return
        ticket = _Ticket(messages)
        with self._gathering:
            self._gathered.append(ticket)
        with self._sending:
            if not ticket.is_over:
                self._send_gathered()
        if ticket.error is not None:
            raise ticket.error

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        with self._sending:
            self._drop()

    def _send_gathered(self) -> None:
        with self._gathering:
            tickets, self._gathered = self._gathered, []
        error = self._deliver([message for ticket in tickets for message in ticket.messages])
        for ticket in tickets:
            ticket.error = error
            ticket.is_over = True

    def _deliver(self, messages: Sequence[Outgoing]) -> Unreachable | None:
        # A connection that nobody used for long may be gone: that is found out by using it, so there is a second try.
        tries = 1 if self._channel is None else 2
        while True:
            tries -= 1
            try:
                with told_as_unreachable(self._parameters):
                    self._transact(messages)
            except Unreachable as error:
                self._drop()
                if not tries:
                    return error
            else:
                return None

    def _transact(self, messages: Sequence[Outgoing]) -> None:
        channel = self._ready_channel(messages)
        waiting = messages
        for _ in range(2):
            for message in waiting:
                message.publish(channel)
            channel.tx_commit()
            self._connection.process_data_events(0)
            returned, self._returned = set(self._returned), []
            waiting = [message for message in waiting if message.queue in returned]
            if not waiting:
                return
            # Somebody deleted the queue.
            self._declared = {each for each in self._declared if each[1] not in returned}
            self._declare(channel, waiting)
        raise Unreachable(f"RabbitMQ has no queue {waiting[0].queue!r} though it was declared just now")

    def _ready_channel(self, messages: Sequence[Outgoing]) -> Any:
        if self._channel is None:
            self._connection = connect(self._parameters)
            self._channel = self._connection.channel()
            self._channel.tx_select()
            self._channel.add_on_return_callback(self._take_back)
        self._declare(self._channel, messages)
        return self._channel

    def _declare(self, channel: Any, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            place = (message.exchange, message.queue)
            if place not in self._declared:
                message.declare(channel)
                self._declared.add(place)

    def _take_back(self, _channel: Any, method: Any, _properties: Any, _body: bytes) -> None:
        self._returned.append(method.routing_key)

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self._declared.clear()
        self._returned.clear()
        if connection is not None:
            close_quietly(connection)
