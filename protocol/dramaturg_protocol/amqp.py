"""RabbitMQ: connections with every option that decides about waiting, and the queues and exchanges of a namespace.

pika is an extra (``dramaturg[rabbitmq]``), so it is imported where a connection is made, and never before.
"""

from __future__ import annotations

import copy
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, cast

from dramaturg_protocol.errors import ConfigurationError
from dramaturg_protocol.faults import Unreachable

_URL_SCHEMES: Final = ("amqp://", "amqps://")
#: A namespace of this name adds nothing to the names of queues: they are those of Dramatiq.
_PLAIN_NAMESPACE: Final = "dramatiq"
#: Seconds that RabbitMQ may keep a publisher waiting, for want of memory or disk, before its caller hears of it.
_LONGEST_BLOCK: Final = 30.0
_CONNECT_SECONDS: Final = 10.0
#: A peer that is gone without a word is noticed by the kernel, also on a connection that nobody uses.
_TCP_OPTIONS: Final = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}


def is_amqp_url(url: str) -> bool:
    """Whether a broker's URL means RabbitMQ."""
    return url.startswith(_URL_SCHEMES)


def load_pika() -> Any:
    """The module.

    Raises:
      ConfigurationError: it is not installed.
    """
    try:
        import pika
    except ImportError as error:
        raise ConfigurationError(
            "RabbitMQ needs the package pika, which is not installed: pip install 'dramaturg[rabbitmq]'"
        ) from error
    return pika


def parameters_of(url: str) -> Any:
    """The connection parameters of a URL, as pika has them; what it leaves open is set for a service that never gives up.

    Raises:
      ConfigurationError: the URL cannot be read, or pika is not installed.
    """
    pika = load_pika()
    try:
        parameters = pika.URLParameters(url)
    except (ValueError, TypeError, IndexError) as error:
        raise ConfigurationError(
            f"DRAMATURG_BROKER_URL = {url!r} cannot be read ({error}): it is like amqp://user:password@host:5672/vhost"
        ) from None
    if "connection_attempts" not in url:
        # Whoever connects tries again by himself, and says so.
        parameters.connection_attempts = 1
    if "socket_timeout" not in url:
        parameters.socket_timeout = _CONNECT_SECONDS
    if "blocked_connection_timeout" not in url:
        parameters.blocked_connection_timeout = _LONGEST_BLOCK
    if "tcp_options" not in url:
        parameters.tcp_options = dict(_TCP_OPTIONS)
    return parameters


@contextmanager
def told_as_unreachable(parameters: Any) -> Generator[None, None, None]:
    """Give every way in which RabbitMQ does not do what it is told as `Unreachable`."""
    pika = load_pika()
    try:
        yield
    except (pika.exceptions.AMQPError, OSError, AssertionError) as error:
        # pika asserts where a connection was lost in the middle of a call.
        raise Unreachable(f"RabbitMQ at {address_of(parameters)} does not answer: {error!r}") from error


def address_of(parameters: Any) -> str:
    """Host, port and virtual host, for people; of several, the first."""
    first: Any = cast("list[Any]", parameters)[0] if isinstance(parameters, (list, tuple)) else parameters
    return f"{first.host}:{first.port}{'' if first.virtual_host == '/' else '/' + first.virtual_host}"


def connect(parameters: Any) -> Any:
    """A connection for one thread.

    Raises:
      Unreachable: RabbitMQ does not answer.
    """
    with told_as_unreachable(parameters):
        return load_pika().BlockingConnection(parameters)


def close_quietly(connection: Any) -> None:
    """Close a connection that may be lost already."""
    with suppress(Exception):
        connection.close()


def quiet(parameters: Any) -> Any:
    """The parameters of a connection that nobody reads from for long times: the kernel alone looks after it."""
    if isinstance(parameters, (list, tuple)):
        return [quiet(each) for each in cast("list[Any]", parameters)]
    silent = copy.copy(parameters)
    silent.heartbeat = 0
    return silent


def is_missing(error: BaseException) -> bool:
    """Whether RabbitMQ said that there is no such queue or exchange."""
    return getattr(error, "reply_code", None) == 404


@dataclass(frozen=True, slots=True)
class AmqpNames:
    """The queues and exchanges of one namespace in its virtual host.

    Queues of steps and plain actors are those of Dramatiq's own broker, with the namespace before their names unless it
    is the default one. Ours begin with ``dramaturg.``.

    Attributes:
      max_priority: of the queues of steps and actors; all that declare one must agree.
    """

    namespace: str
    max_priority: int | None = None

    def wire(self, queue: str) -> str:
        """The name of a queue of steps or actors in RabbitMQ."""
        return f"{self._prefix}{queue}"

    def reports(self, partition: int) -> str:
        """The queue that the owner of a partition reads: reports of workers."""
        return f"{self._prefix}dramaturg.reports.{partition}"

    def intents(self, partition: int) -> str:
        """A queue of one message: what the owner of a partition is about to publish."""
        return f"{self._prefix}dramaturg.intents.{partition}"

    @property
    def garbage(self) -> str:
        """A queue of what stood in another one and is no message: queue and text."""
        return f"{self._prefix}dramaturg.garbage"

    @property
    def wakes(self) -> str:
        """A fan-out exchange that every coordinator hears: there is something in the inbox."""
        return f"{self._prefix}dramaturg.wakes"

    @property
    def control(self) -> str:
        """A fan-out exchange that every worker process hears: the attempts that nobody waits for any more."""
        return f"{self._prefix}dramaturg.control"

    def declare_tasks(self, channel: Any, queue: str) -> None:
        """Declare a queue of steps or actors as Dramatiq's own broker does, with its delay queue and dead letters."""
        from dramatiq.brokers.rabbitmq import DEAD_MESSAGE_TTL
        from dramatiq.common import dq_name, xq_name

        name = self.wire(queue)
        arguments: dict[str, Any] = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": xq_name(name)}
        if self.max_priority:
            arguments["x-max-priority"] = self.max_priority
        for each in (name, dq_name(name)):
            channel.queue_declare(queue=each, durable=True, arguments=arguments)
        channel.queue_declare(queue=xq_name(name), durable=True, arguments={"x-message-ttl": DEAD_MESSAGE_TTL})

    def declare_own(self, channel: Any, name: str) -> None:
        """Declare a queue of ours."""
        channel.queue_declare(queue=name, durable=True, arguments=self._arguments_of(name))

    def declare_wakes(self, channel: Any) -> None:
        """Declare the exchange of wake-ups."""
        channel.exchange_declare(exchange=self.wakes, exchange_type="fanout", durable=True)

    def declare_control(self, channel: Any) -> None:
        """Declare the exchange that workers hear."""
        channel.exchange_declare(exchange=self.control, exchange_type="fanout", durable=True)

    def _arguments_of(self, name: str) -> Mapping[str, Any]:
        is_intent = name.startswith(f"{self._prefix}dramaturg.intents.")
        return {"x-max-length": 1, "x-overflow": "drop-head"} if is_intent else {}

    @property
    def _prefix(self) -> str:
        return "" if self.namespace == _PLAIN_NAMESPACE else f"{self.namespace}."
