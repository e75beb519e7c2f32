"""`RabbitmqBroker`: Dramatiq's own, with confirmed sends and a consumer that ends a step with its report."""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.broker import Broker
from dramatiq.brokers.rabbitmq import RabbitmqBroker as StockRabbitmqBroker
from dramatiq.common import current_millis, dq_name
from dramatiq.middleware import Middleware

from dramaturg_actors.patience import Patience
from dramaturg_actors.rabbitmq_consumer import RabbitmqConsumer
from dramaturg_actors.rabbitmq_hands import Hands
from dramaturg_actors.rabbitmq_outbox import lost
from dramaturg_protocol.amqp import AmqpNames, close_quietly, connect, parameters_of, told_as_unreachable
from dramaturg_protocol.amqp_sending import AmqpSender, Outgoing
from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.messages import decode_report


class RabbitmqBroker(StockRabbitmqBroker):
    """Dramatiq's broker over RabbitMQ, on the same queues: stock producers and workers may share them.

    Parameters:
      url: of the server; else `parameters`.
      parameters: pika's connection parameters, of one server or several.
      middleware: ``None`` for Dramatiq's default.
      namespace: before the names of queues, unless it is ``dramatiq``.
      max_priority: of the queues, as Dramatiq's own broker takes it.

    Attributes:
      names: of the queues in RabbitMQ.
      sender: what goes to RabbitMQ goes through it.
      patience: with steps that this process does not know.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        parameters: Any = None,
        middleware: list[Middleware] | None = None,
        namespace: str = "dramatiq",
        max_priority: int | None = None,
    ) -> None:
        super().__init__(confirm_delivery=True, middleware=middleware, max_priority=max_priority)
        self.parameters: Any = parameters_of(url) if url is not None else parameters
        self.namespace = namespace
        self.names = AmqpNames(namespace, max_priority)
        self.sender = AmqpSender(self.parameters)
        self.patience = Patience()
        self._hands: dict[str, Hands] = {}

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> RabbitmqConsumer:
        """Take messages from a queue, over a connection of its own.

        Parameters:
          prefetch: how many may be held at once.
          timeout: milliseconds after which a wait for a message gives ``None``.

        Raises:
          ConnectionClosed: RabbitMQ does not answer.
        """
        self.declare_queue(queue_name)
        return RabbitmqConsumer(
            queue_name,
            self.parameters,
            self.names,
            prefetch=prefetch,
            timeout=timeout / 1000,
            hands=self._hands.setdefault(queue_name, Hands()),
            patience=self.patience,
            report=self.report,
        )

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        """Make a queue known; it is made in RabbitMQ where it is used, and at once if that is asked for.

        Raises:
          ConnectionClosed: RabbitMQ does not answer.
        """
        super().declare_queue(queue_name)
        if ensure:
            try:
                with told_as_unreachable(self.parameters):
                    connection = connect(self.parameters)
                    self.names.declare_tasks(connection.channel(), queue_name.removesuffix(".DQ"))
                    close_quietly(connection)
            except Unreachable as error:
                raise lost(error) from error

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        """Send a message; RabbitMQ has it, on disk, when this returns.

        Parameters:
          delay: milliseconds that it waits in its delay queue.

        Raises:
          ConnectionClosed: RabbitMQ does not answer.
        """
        queue = message.queue_name
        self.declare_queue(queue)
        wire = self.names.wire(queue)
        if delay is not None:
            kind: Any = message
            message = kind.copy(queue_name=dq_name(queue), options={"eta": current_millis() + delay})
            wire = dq_name(wire)
        self.emit_before("enqueue", message, delay)
        priority: Any = message.options.get("broker_priority")
        self._send(
            Outgoing(
                wire, message.encode(), lambda channel: self.names.declare_tasks(channel, queue), priority=priority
            )
        )
        self.emit_after("enqueue", message, delay)
        return message

    def report(self, report: str) -> None:
        """Publish a report on a message that goes on, or that nobody holds any more.

        Raises:
          ConnectionClosed: RabbitMQ did not take it.
        """
        queue = self.names.reports(decode_report(report).partition)
        self._send(Outgoing(queue, report.encode(), lambda channel: self.names.declare_own(channel, queue)))

    def close(self) -> None:
        """Close the connections of senders; consumers are closed by who consumes."""
        self.sender.close()
        super().close()

    def _send(self, message: Outgoing) -> None:
        try:
            self.sender.send([message])
        except Unreachable as error:
            raise lost(error) from error


def ours_like(stock: Broker, namespace: str = "dramatiq") -> RabbitmqBroker:
    """A broker of our own over the server and queues of a stock one."""
    theirs: Any = stock
    return RabbitmqBroker(
        parameters=theirs.parameters, middleware=[], namespace=namespace, max_priority=theirs.max_priority
    )
