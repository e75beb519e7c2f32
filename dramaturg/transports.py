"""What lies between a coordinator and its workers in other processes, by the kind of broker."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Protocol

from dramatiq.broker import Broker

from dramaturg.notices import Notices
from dramaturg_actors.application_broker import meeting_broker_of
from dramaturg_actors.redis_broker import RedisBroker
from dramaturg_coordinator.ports import Publisher, Reports
from dramaturg_coordinator.queue_depths import Depths
from dramaturg_coordinator.turn import Observer
from dramaturg_protocol.config import Settings
from dramaturg_protocol.records import DeadLetter, Lease

Duty = tuple[Callable[[], object], timedelta]
PutAside = Callable[[Sequence[DeadLetter]], None]


class Transport(Protocol):
    """What a coordinator process and its clients need of a broker.

    Attributes:
      broker: brings start messages.
    """

    @property
    def broker(self) -> Broker: ...

    @property
    def publisher(self) -> Publisher:
        """Steps on their way to workers."""
        ...

    @property
    def notices(self) -> Notices | None:
        """Tells those who wait for a run; ``None`` where nobody tells, and they look into the database."""
        ...

    @property
    def observers(self) -> Sequence[Observer]:
        """Are told what each turn committed, and tell those who wait."""
        ...

    def reports_of(self, lease: Lease) -> Reports:
        """The reports for the partitions of a lease."""
        ...

    def duties(self, queues: Collection[str], put_aside: PutAside) -> Sequence[Duty]:
        """Housekeeping that one coordinator of a namespace does for all.

        Parameters:
          queues: those that steps and settings name.
          put_aside: keeps what was found in a queue and is no message.
        """
        ...

    def own_duties(self, queues: Collection[str]) -> Sequence[Duty]:
        """Housekeeping that each coordinator does for what it sent itself.

        Parameters:
          queues: those that are looked after already.
        """
        ...

    def depths(self, partitions: Collection[int]) -> Depths:
        """How many messages wait."""
        ...

    def wake(self) -> None:
        """Tell coordinators that there is something in the inbox; without a word where nobody can be told."""
        ...

    def ping(self) -> None:
        """Whether the broker answers; `Unreachable` where it does not."""
        ...

    def close(self) -> None:
        """Close what was opened."""
        ...


def transport_of(settings: Settings) -> Transport:
    """The transport of the broker that the settings name; connects at the first use.

    Raises:
      ConfigurationError: processes cannot meet over that broker, or what it needs is not installed.
    """
    return transport_over(meeting_broker_of(settings))


def transport_over(broker: Broker) -> Transport:
    """The transport of a broker."""
    if isinstance(broker, RedisBroker):
        from dramaturg.redis_transport import RedisTransport

        return RedisTransport(broker)
    if hasattr(broker, "names"):
        from dramaturg.amqp_transport import AmqpTransport

        return AmqpTransport(broker)
    from dramaturg.broker_transport import BrokerTransport

    return BrokerTransport(broker)
