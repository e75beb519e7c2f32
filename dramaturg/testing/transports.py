"""How the parts of a `WorkflowEnv` reach each other: queues in memory, Redis, or any broker of a URL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import redis
from dramatiq.broker import Broker

from dramaturg.revoking import revoking_in
from dramaturg.transports import transport_over
from dramaturg_actors.brokers import make_broker
from dramaturg_actors.patience import Patience
from dramaturg_actors.redis_broker import RedisBroker
from dramaturg_actors.report_channel import report_over
from dramaturg_actors.worker import StepWorker
from dramaturg_coordinator.memory import MemoryReports
from dramaturg_coordinator.ports import Publisher, Reports
from dramaturg_coordinator.publishing import BrokerPublisher, readable_messages
from dramaturg_coordinator.redis_publishing import RedisPublisher
from dramaturg_coordinator.redis_reports import RedisReports
from dramaturg_coordinator.redis_revoking import RedisRevoking
from dramaturg_coordinator.turn import Observer
from dramaturg_protocol.records import Lease, WorkItem


class Transport(Protocol):
    """What lies between a coordinator and its workers, for as long as both live."""

    @property
    def broker(self) -> Broker: ...
    @property
    def publisher(self) -> Publisher: ...
    @property
    def report(self) -> Callable[[str], None]:
        """Takes what a worker reports."""
        ...

    def observers(self, worker: StepWorker) -> Sequence[Observer]:
        """Are told what each turn committed."""
        ...

    def make_reports(self, lease: Lease) -> Reports:
        """The reports for the partitions of a lease."""
        ...

    def close(self) -> None:
        """Close what was opened."""
        ...


class MemoryTransport:
    """Queues and reports of this process; they go with it."""

    def __init__(self) -> None:
        self.broker = make_broker("memory://")
        self.publisher: Publisher = BrokerPublisher(self.broker)
        self._reports = MemoryReports()
        self.report: Callable[[str], None] = self._reports.put

    def observers(self, worker: StepWorker) -> Sequence[Observer]:
        """Who tells the worker of cancelled steps."""
        return [revoking_in(worker)]

    def make_reports(self, lease: Lease) -> Reports:
        """The reports, whatever the lease."""
        return self._reports

    def close(self) -> None:
        """Nothing is open."""


class RedisTransport:
    """Everything over a Redis, as in processes of their own; what is in it stays.

    Parameters:
      client: of the server; left open.
    """

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        broker = RedisBroker(client=client, middleware=[], namespace=namespace)
        # There is no other worker that might know a step that this one does not.
        broker.patience = Patience(seconds=0.0)
        self.broker: Broker = broker
        self.publisher: Publisher = _DeclaringPublisher(RedisPublisher(client, namespace), broker)
        self.report: Callable[[str], None] = broker.report

    def observers(self, worker: StepWorker) -> Sequence[Observer]:
        """Who tells all workers of cancelled steps."""
        return [RedisRevoking(self._client, self._namespace)]

    def make_reports(self, lease: Lease) -> Reports:
        """The streams of the lease's partitions."""
        return RedisReports(self._client, self._namespace, lease.epochs)

    def close(self) -> None:
        """The client is left open."""


class SharedTransport:
    """Everything over a broker that processes can meet over; what is in it stays.

    Parameters:
      url: of the broker.
    """

    def __init__(self, url: str, namespace: str) -> None:
        broker: Any = make_broker(url, namespace=namespace)
        # There is no other worker that might know a step that this one does not.
        broker.patience = Patience(seconds=0.0)
        self._transport = transport_over(broker)
        self.broker: Broker = broker
        self.publisher: Publisher = _DeclaringPublisher(self._transport.publisher, broker)
        self.report: Callable[[str], None] = report_over(broker)

    def observers(self, worker: StepWorker) -> Sequence[Observer]:
        """Those of the transport."""
        return self._transport.observers

    def make_reports(self, lease: Lease) -> Reports:
        """The reports of the lease's partitions."""
        return self._transport.reports_of(lease)

    def close(self) -> None:
        """Close its connections."""
        self._transport.close()


class _DeclaringPublisher:
    """Has the worker serve every queue that is sent to: steps are defined after it started."""

    def __init__(self, publisher: Publisher, broker: Broker) -> None:
        self._publisher = publisher
        self._broker: Any = broker
        self.can_lose = publisher.can_lose
        self.prepare = publisher.prepare
        self.missing = publisher.missing
        self.is_emptied = publisher.is_emptied

    def publish(self, work: Sequence[WorkItem], lease: Lease) -> None:
        """Send each item's message."""
        for _, message in readable_messages(work):
            self._broker.declare_queue(message.queue_name)
        self._publisher.publish(work, lease)
