"""Coordinator and workers over any Dramatiq broker, by nothing but what all of them have: `enqueue` and `consume`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from dramatiq.broker import Broker

from dramaturg_coordinator.publishing import BrokerPublisher
from dramaturg_coordinator.queue_depths import Depths, NoDepths
from dramaturg_coordinator.queue_reports import QueueReports
from dramaturg_coordinator.turn import Observer
from dramaturg_protocol.records import Lease

if TYPE_CHECKING:
    from dramaturg.transports import Duty, PutAside


class BrokerTransport:
    """The port `Transport` over any Dramatiq broker.

    Nobody is told or woken: coordinators and clients look into the database, once a second or more often. Whoever takes
    a partition over publishes all of its open steps, since such a broker cannot be asked which ones it has.
    """

    notices = None
    observers: Sequence[Observer] = ()

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.publisher = BrokerPublisher(broker)

    def reports_of(self, lease: Lease) -> QueueReports:
        """A queue for each of the lease's partitions."""
        return QueueReports(self.broker, lease.epochs)

    def duties(self, queues: Collection[str], put_aside: PutAside) -> Sequence[Duty]:
        """None: the broker looks after itself."""
        return []

    def own_duties(self, queues: Collection[str]) -> Sequence[Duty]:
        """None: the broker looks after itself."""
        return []

    def depths(self, partitions: Collection[int]) -> Depths:
        """Nothing is known."""
        return NoDepths()

    def wake(self) -> None:
        """Nobody can be told: coordinators look into the inbox once a second."""

    def ping(self) -> None:
        """It cannot be asked."""

    def close(self) -> None:
        """Close the broker's connections."""
        self.broker.close()
