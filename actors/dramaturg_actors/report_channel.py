"""How the reports of a broker's worker reach the coordinator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dramatiq.broker import Broker
from dramatiq.brokers.redis import RedisBroker as StockRedisBroker
from dramatiq.brokers.stub import StubBroker

from dramaturg_actors.application_broker import our_rabbitmq
from dramaturg_actors.redis_broker import RedisBroker
from dramaturg_actors.redis_scripts import RedisScripts
from dramaturg_protocol.errors import ConfigurationError
from dramaturg_protocol.messages import decode_report
from dramaturg_protocol.transport import message_of_report


def report_over(broker: Broker) -> Callable[[str], None]:
    """What publishes an encoded report over the server that the broker uses; it raises where that does not take it.

    Raises:
      ConfigurationError: the broker stays inside this process.
    """
    if isinstance(broker, RedisBroker):
        return broker.report
    if isinstance(broker, StockRedisBroker):
        stock: Any = broker
        scripts = RedisScripts(stock.client, stock.namespace)
        return lambda report: scripts.report(report, decode_report(report).partition)
    rabbitmq = our_rabbitmq(broker)
    if rabbitmq is not None:
        return rabbitmq.report
    if isinstance(broker, StubBroker):
        raise ConfigurationError(
            f"{type(broker).__name__} carries no reports to a coordinator, since it stays inside this process: take "
            f"dramaturg.RedisBroker, or Dramatiq's over Redis or RabbitMQ"
        )
    return lambda report: _send(broker, report)


def _send(broker: Any, report: str) -> None:
    message = message_of_report(report, decode_report(report).partition)
    broker.declare_queue(message.queue_name)
    broker.enqueue(message)
