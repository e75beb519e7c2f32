"""`RedisBroker`, over fakeredis."""

from __future__ import annotations

from typing import Any

import dramatiq
import dramatiq.brokers.redis
import fakeredis
import pytest

from dramaturg_actors.brokers import make_broker
from dramaturg_actors.redis_broker import RedisBroker
from dramaturg_protocol.errors import ConfigurationError
from dramaturg_protocol.messages import ReportKind, StepReport, encode_message

NAMESPACE = "tests"
StockRedisBroker: Any = dramatiq.brokers.redis.RedisBroker  # it has no types


@pytest.fixture
def client() -> Any:
    return fakeredis.FakeRedis(server=fakeredis.FakeServer())


def put(broker: Any, queue: str = "q") -> None:
    message: dramatiq.Message[Any] = dramatiq.Message(queue, "an_actor", (), {}, {})
    broker.enqueue(message)


@pytest.mark.parametrize("url", ["redis://localhost:1/3", "rediss://localhost:1", "unix:///nowhere"])
def test_a_url_gives_a_broker_without_middleware_that_has_not_connected(url: str) -> None:
    broker = make_broker(url, namespace="elsewhere")

    assert isinstance(broker, RedisBroker)
    assert broker.middleware == []
    assert broker.namespace == "elsewhere"
    broker.close()


def test_without_middleware_it_has_that_of_dramatiq() -> None:
    ours = RedisBroker(url="redis://localhost:1")

    assert [type(each) for each in ours.middleware] == [type(each) for each in StockRedisBroker().middleware]


def test_redis_py_repeats_nothing_by_itself() -> None:
    for broker in (RedisBroker(url="redis://localhost:1"), RedisBroker(host="localhost", port=1)):
        client: Any = getattr(broker, "client")  # noqa: B009 - it has no type
        connection = client.connection_pool.make_connection()
        assert connection.retry.get_retries() == 0


def test_a_client_that_decodes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="decode_responses"):
        RedisBroker(client=fakeredis.FakeRedis(decode_responses=True))


def test_a_report_goes_to_the_stream_of_its_partition(client: Any) -> None:
    broker = RedisBroker(client=client, namespace=NAMESPACE)
    report = encode_message(StepReport("r", 0, 1, 1, partition=3, kind=ReportKind.STARTED))

    broker.report(report)

    assert [fields for _, fields in client.xrange(f"{NAMESPACE}:dramaturg:reports:3")] == [{b"r": report.encode()}]


def test_only_the_messages_of_the_dead_return(client: Any) -> None:
    broker = RedisBroker(client=client, namespace=NAMESPACE, maintenance_chance=0)
    dead, living = broker.consume("q", timeout=10), broker.consume("q", timeout=10)
    for consumer in (dead, living):
        put(broker)
        assert next(consumer) is not None
    client.zadd(f"{NAMESPACE}:__heartbeats__", {dead.name: 1})

    assert broker.maintain(["q"]) == 1

    assert client.llen(f"{NAMESPACE}:q") == 1
    assert client.smembers(f"{NAMESPACE}:__acks__.{living.name}.q")
    assert client.zscore(f"{NAMESPACE}:__heartbeats__", dead.name) is None


def test_messages_of_our_dead_return_to_queues_that_nobody_named(client: Any) -> None:
    broker = RedisBroker(client=client, namespace=NAMESPACE, maintenance_chance=0, heartbeat_timeout=-1)
    put(broker)
    assert next(broker.consume("q")) is not None

    assert broker.maintain([]) == 1


@pytest.mark.parametrize("queue", ["q", "q.DQ"])
def test_messages_of_a_dead_worker_of_dramatiq_return(client: Any, queue: str) -> None:
    stock = StockRedisBroker(client=client, namespace=NAMESPACE)
    put(stock, queue)
    assert next(stock.consume(queue)) is not None
    client.zadd(f"{NAMESPACE}:__heartbeats__", {stock.broker_id: 1})

    assert RedisBroker(client=client, namespace=NAMESPACE).maintain(["q"]) == 1

    assert client.llen(f"{NAMESPACE}:{queue}") == 1


def test_dramatiq_returns_the_messages_of_our_dead(client: Any) -> None:
    ours = RedisBroker(client=client, namespace=NAMESPACE, maintenance_chance=0)
    put(ours)
    consumer = ours.consume("q")
    assert next(consumer) is not None
    client.zadd(f"{NAMESPACE}:__heartbeats__", {consumer.name: 1})

    stock = StockRedisBroker(client=client, namespace=NAMESPACE, maintenance_chance=1_000_000)

    assert next(stock.consume("q")) is not None


def test_without_a_coordinator_chance_finds_the_dead_as_in_dramatiq(client: Any) -> None:
    ours = RedisBroker(client=client, namespace=NAMESPACE, maintenance_chance=1_000_000)
    stock = StockRedisBroker(client=client, namespace=NAMESPACE, maintenance_chance=0)
    put(stock)
    assert next(stock.consume("q")) is not None
    client.zadd(f"{NAMESPACE}:__heartbeats__", {stock.broker_id: 1})
    consumer = ours.consume("q", timeout=10)

    assert next(consumer) or next(consumer)


def test_counts_that_a_worker_of_dramatiq_left_behind_are_forgotten(client: Any) -> None:
    broker = RedisBroker(client=client, namespace=NAMESPACE)
    client.hset(f"{NAMESPACE}:dramaturg:deliveries:q", "gone", 1)

    broker.maintain(["q"])

    assert not client.exists(f"{NAMESPACE}:dramaturg:deliveries:q")
