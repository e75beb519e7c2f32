"""The broker of a process by its settings: the one of ``BROKER_URL``, or the application's own by ``BROKER``."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any, Final

import dramatiq.broker
from dramatiq.broker import Broker
from dramatiq.brokers.redis import RedisBroker as StockRedisBroker
from dramatiq.brokers.stub import StubBroker

from dramaturg_actors.brokers import MEMORY_URL, make_broker
from dramaturg_actors.redis_broker import RedisBroker
from dramaturg_protocol.config import Settings
from dramaturg_protocol.errors import ConfigurationError
from dramaturg_protocol.modules import import_modules

if TYPE_CHECKING:
    from dramaturg_actors.rabbitmq_broker import RabbitmqBroker

_STOCK_RABBITMQ: Final = "dramatiq.brokers.rabbitmq.RabbitmqBroker"
_EXAMPLE = "DRAMATURG_BROKER is MODULE:NAME, like myapp.broker:broker"


def broker_of(settings: Settings) -> Broker:
    """The broker that the settings name; ``BROKER`` comes before ``BROKER_URL``.

    Raises:
      ConfigurationError: there is none of that kind or name.
    """
    if settings.broker is not None:
        return application_broker(settings.broker)
    return make_broker(settings.broker_url, namespace=settings.namespace)


def meeting_broker_of(settings: Settings) -> Broker:
    """A broker for whoever coordinates or asks: of our own kind over the same server, where there is such a kind.

    Raises:
      ConfigurationError: the settings name none that processes can meet over.
    """
    broker = broker_of(settings)
    if isinstance(broker, RedisBroker):
        return broker
    if isinstance(broker, StockRedisBroker):
        theirs: Any = broker
        return RedisBroker(client=theirs.client, namespace=theirs.namespace, middleware=[])
    if isinstance(broker, StubBroker):
        named = settings.broker or settings.broker_url
        raise ConfigurationError(
            f"the broker is {named!r}, which stays inside one process: set redis://… or amqp://… for several"
        )
    return our_rabbitmq(broker) or broker


def our_rabbitmq(broker: Broker) -> RabbitmqBroker | None:
    """A broker of ours over the RabbitMQ of another one; ``None`` for a broker over something else."""
    # By name: where it is none, pika need not be there.
    if not any(f"{kind.__module__}.{kind.__name__}" == _STOCK_RABBITMQ for kind in type(broker).__mro__):
        return None
    from dramaturg_actors.rabbitmq_broker import RabbitmqBroker, ours_like

    return broker if isinstance(broker, RabbitmqBroker) else ours_like(broker)


def is_shared(settings: Settings) -> bool:
    """Whether the settings name a broker that processes meet over; an application's own is taken for one."""
    return settings.broker is not None or settings.broker_url != MEMORY_URL


def serving_command(settings: Settings) -> str:
    """What starts a coordinator where these settings hold."""
    return "dramaturg coordinator MODULE" if is_shared(settings) else "dramaturg dev MODULE"


def application_broker(path: str) -> Broker:
    """The broker that an application has already, with its client, namespace, encoder and middleware.

    Parameters:
      path: ``module:name`` of a broker, or of a callable that gives one, or that sets Dramatiq's global one.

    Raises:
      ConfigurationError: the module cannot be imported, or there is no broker of that name.
    """
    module_name, separator, name = path.partition(":")
    if not separator or not name or not module_name:
        raise ConfigurationError(f"DRAMATURG_BROKER = {path!r}: {_EXAMPLE}")
    import_modules([module_name])
    found = _attribute(importlib.import_module(module_name), name, path)
    if not isinstance(found, Broker):
        found = _called(found, path)
    if isinstance(found, Broker):
        return found
    raise ConfigurationError(f"DRAMATURG_BROKER = {path!r} is {found!r}, and no Dramatiq broker")


def _attribute(found: Any, name: str, path: str) -> Any:
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise ConfigurationError(f"DRAMATURG_BROKER = {path!r}: {error}") from None
    return found


def _called(found: Any, path: str) -> Any:
    if not callable(found) or inspect.isclass(found):
        return found
    try:
        made = found()
    except Exception as error:
        raise ConfigurationError(f"DRAMATURG_BROKER = {path!r} raised {type(error).__name__}: {error}") from error
    # Dramatiq's own command takes a callable that only sets the global broker.
    return dramatiq.broker.global_broker if made is None else made


def use_our_consumer(broker: Broker) -> None:
    """Have a stock broker over Redis or RabbitMQ consume as ours does: it ends a step together with its report.

    A broker that brings a consumer of its own keeps it.
    """
    stock: Any = broker
    if f"{type(broker).__module__}.{type(broker).__name__}" == _STOCK_RABBITMQ:
        our: Any = our_rabbitmq(broker)
        stock.consume = our.consume
    if type(broker) is not StockRedisBroker:
        return
    ours = RedisBroker(
        client=stock.client,
        namespace=stock.namespace,
        dead_message_ttl=stock.dead_message_ttl,
        maintenance_chance=stock.maintenance_chance,
        middleware=[],
    )
    stock.consume = ours.consume
