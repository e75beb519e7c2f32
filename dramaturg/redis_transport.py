"""Coordinator and workers over Redis."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from dramatiq.errors import BrokerConnectionError

from dramaturg.redis_notices import RedisNotices
from dramaturg_actors.redis_broker import RedisBroker
from dramaturg_coordinator.queue_depths import Depths, RedisDepths
from dramaturg_coordinator.redis_garbage import RedisGarbage
from dramaturg_coordinator.redis_news import RedisNews
from dramaturg_coordinator.redis_publishing import RedisPublisher
from dramaturg_coordinator.redis_reports import RedisReports
from dramaturg_coordinator.redis_revoking import RedisRevoking
from dramaturg_coordinator.turn import Observer
from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.records import Lease
from dramaturg_protocol.redis_client import told_as_unreachable

if TYPE_CHECKING:
    from dramaturg.transports import Duty, PutAside

_MAINTENANCE_PERIOD: Final = timedelta(seconds=3)

logger = logging.getLogger("dramaturg.coordinator")


class RedisTransport:
    """The port `Transport` over Redis."""

    def __init__(self, broker: RedisBroker) -> None:
        kind: Any = broker
        self.broker = broker
        self._client: Any = kind.client
        self._prefix = broker.namespace
        self.notices = RedisNotices(self._client, self._prefix)
        self.publisher = RedisPublisher(self._client, self._prefix)
        self.observers: Sequence[Observer] = [
            RedisNews(self._client, self._prefix),
            RedisRevoking(self._client, self._prefix),
        ]

    def reports_of(self, lease: Lease) -> RedisReports:
        """The streams of the lease's partitions."""
        return RedisReports(self._client, self._prefix, lease.epochs)

    def duties(self, queues: Collection[str], put_aside: PutAside) -> Sequence[Duty]:
        """Bring back what dead workers held, and collect what is no message."""
        return [
            (lambda: self._maintain(queues), _MAINTENANCE_PERIOD),
            (RedisGarbage(self._client, self._prefix, put_aside).collect, _MAINTENANCE_PERIOD),
        ]

    def own_duties(self, queues: Collection[str]) -> Sequence[Duty]:
        """Bring back what dead workers held of other queues: of those that calls name, whoever sent to them knows alone."""
        return [(lambda: self._maintain(self.publisher.queues.names().difference(queues)), _MAINTENANCE_PERIOD)]

    def depths(self, partitions: Collection[int]) -> Depths:
        """How many messages wait."""
        return RedisDepths(self._client, self._prefix, partitions)

    def wake(self) -> None:
        """Tell coordinators that there is something in the inbox."""
        self.notices.wake_coordinators()

    def ping(self) -> None:
        """Whether Redis answers."""
        with told_as_unreachable(self._client):
            self._client.ping()

    def close(self) -> None:
        """Close the connections."""
        self.notices.close()
        self.broker.close()

    def _maintain(self, queues: Collection[str]) -> None:
        if not queues:
            return
        try:
            count = self.broker.maintain(queues)
        except BrokerConnectionError as error:
            raise Unreachable(f"Redis does not answer, dead workers' messages wait: {error}") from error
        if count:
            logger.warning("%d message(s) of dead workers returned to their queues", count)
