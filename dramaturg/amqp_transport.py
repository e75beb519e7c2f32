"""Coordinator and workers over RabbitMQ."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from dramaturg_coordinator.amqp_publishing import AmqpPublisher
from dramaturg_coordinator.amqp_reports import AmqpReports
from dramaturg_coordinator.amqp_revoking import amqp_revoking
from dramaturg_coordinator.queue_depths import AmqpDepths, Depths
from dramaturg_coordinator.turn import Observer
from dramaturg_protocol.amqp import AmqpNames
from dramaturg_protocol.amqp_inspection import AmqpInspector
from dramaturg_protocol.amqp_sending import AmqpSender, wake_up
from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.records import Lease

if TYPE_CHECKING:
    from dramaturg.transports import Duty, PutAside

logger = logging.getLogger("dramaturg.client")


class AmqpTransport:
    """The port `Transport` over RabbitMQ. Nobody tells of results: whoever waits for one asks the database.

    Parameters:
      broker: a `RabbitmqBroker` of ours.
    """

    notices = None

    def __init__(self, broker: Any) -> None:
        self.broker = broker
        self._names: AmqpNames = broker.names
        self._sender: AmqpSender = broker.sender
        self._inspector = AmqpInspector(broker.parameters)
        self.publisher = AmqpPublisher(self._names, self._sender, self._inspector)
        self.observers: Sequence[Observer] = [amqp_revoking(self._names, self._sender)]

    def reports_of(self, lease: Lease) -> AmqpReports:
        """The queues of the lease's partitions."""
        return AmqpReports(self.broker.parameters, self._names, lease.epochs)

    def duties(self, queues: Collection[str], put_aside: PutAside) -> Sequence[Duty]:
        """None: RabbitMQ itself brings back what dead workers held, and what is no message comes with the reports."""
        return []

    def own_duties(self, queues: Collection[str]) -> Sequence[Duty]:
        """None: the broker looks after itself."""
        return []

    def depths(self, partitions: Collection[int]) -> Depths:
        """How many messages wait."""
        return AmqpDepths(self._inspector, self._names)

    def wake(self) -> None:
        """Tell coordinators that there is something in the inbox; they look for themselves where RabbitMQ is away."""
        try:
            self._sender.send([wake_up(self._names)])
        except Unreachable as error:
            logger.debug("no coordinator was woken: %s", error)

    def ping(self) -> None:
        """Whether RabbitMQ answers."""
        self._inspector.ping()

    def close(self) -> None:
        """Close the connections."""
        self._inspector.close()
        self.broker.close()
