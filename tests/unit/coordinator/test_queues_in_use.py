"""What a dead worker held comes back to queues that no step names, only a call."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest
from dramatiq.brokers.redis import RedisBroker as StockRedisBroker

from dramaturg.queue_names import named_queues
from dramaturg.redis_transport import RedisTransport
from dramaturg_actors.redis_broker import RedisBroker
from dramaturg_coordinator.queues_in_use import QueuesInUse
from dramaturg_protocol.config import Settings
from dramaturg_protocol.definitions import Registry
from dramaturg_protocol.messages import StepTask, encode_message
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import Lease, WorkItem, WorkKind
from dramaturg_protocol.redis_keys import RedisKeys

LEASE = Lease("owner", {1: 1})
KEYS = RedisKeys("ns")
TASK = StepTask("run", 0, 1, 1, 1, "charge", "gpu", "checkout", "w", Payload('{"args":[]}'), 8)
ITEM = WorkItem("run", 0, 1, 1, WorkKind.STEP, None, 1, encode_message(TASK))


@pytest.fixture
def client() -> Any:
    client = fakeredis.FakeRedis()
    # It has been what it is for long: nobody waits for workers to hear that it was emptied.
    client.set(KEYS.incarnation, 1)
    return client


def a_transport(client: Any) -> RedisTransport:
    broker: Any = RedisBroker(client=client, namespace="ns")
    return RedisTransport(broker)


def do_own_duties(transport: RedisTransport) -> None:
    for duty, _ in transport.own_duties({"default"}):
        duty()


def lose_with_a_worker_of_dramatiq(client: Any) -> None:
    stock: Any = StockRedisBroker(client=client, namespace="ns")  # type: ignore[no-untyped-call]
    assert next(stock.consume("gpu")) is not None
    client.zadd("ns:__heartbeats__", {stock.broker_id: 1})
    assert client.llen(KEYS.queue("gpu")) == 0


def test_the_coordinator_that_sent_it_brings_it_back(client: Any) -> None:
    transport = a_transport(client)
    transport.publisher.publish([ITEM], LEASE)
    lose_with_a_worker_of_dramatiq(client)

    do_own_duties(transport)

    assert client.llen(KEYS.queue("gpu")) == 1


def test_a_coordinator_that_finds_it_as_open_work_brings_it_back(client: Any) -> None:
    a_transport(client).publisher.publish([ITEM], LEASE)
    lose_with_a_worker_of_dramatiq(client)
    successor = a_transport(client)

    assert successor.publisher.missing([ITEM], LEASE) == []
    do_own_duties(successor)

    assert client.llen(KEYS.queue("gpu")) == 1


def test_a_queue_of_which_nothing_was_seen_for_long_is_forgotten() -> None:
    now = 0.0
    queues = QueuesInUse(lambda: now)
    queues.see(["old", "gpu"])
    now = 200.0
    queues.see(["gpu"])

    assert queues.names() == {"old", "gpu"}
    now = 400.0
    assert queues.names() == {"gpu"}


def test_the_default_of_the_settings_is_a_named_queue() -> None:
    settings = Settings(step={"queue": "bulk"}, queue={"email": {}})

    assert named_queues(settings, Registry()) == {"default", "bulk", "email"}
