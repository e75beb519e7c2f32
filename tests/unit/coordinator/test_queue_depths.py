from __future__ import annotations

import dataclasses
from typing import Any

import dramatiq
import fakeredis
import pytest
from dramatiq.broker import MessageProxy

from dramaturg_actors.brokers import MemoryBroker
from dramaturg_coordinator.queue_depths import RedisDepths, depths_of
from dramaturg_protocol.redis_keys import RedisKeys


def message(queue: str, *, age_seconds: float = 0.0) -> dramatiq.Message[Any]:
    made: dramatiq.Message[Any] = dramatiq.Message(
        queue_name=queue, actor_name="charge", args=(), kwargs={}, options={}, message_id=f"m{age_seconds}"
    )
    return dataclasses.replace(made, message_timestamp=made.message_timestamp - int(age_seconds * 1000))


def test_redis_tells_of_every_queue_and_of_the_oldest_report() -> None:
    client, keys = fakeredis.FakeRedis(), RedisKeys("mine")
    for age in (60.0, 5.0):
        sent = message("gpu", age_seconds=age)
        client.hset(keys.bodies("gpu"), sent.message_id, sent.encode())
        client.rpush(keys.queue("gpu"), sent.message_id)
    client.xadd(keys.reports(3), {"r": "…"}, id="1000-0")

    figures = RedisDepths(client, "mine", [3, 4]).read(["gpu", "empty"])

    assert figures.queues["gpu"].depth == 2
    assert figures.queues["gpu"].oldest_seconds == pytest.approx(60, abs=5)
    assert (figures.queues["empty"].depth, figures.queues["empty"].oldest_seconds) == (0, 0)
    assert figures.report_seconds > 3600


def test_a_body_that_cannot_be_read_has_no_age() -> None:
    client, keys = fakeredis.FakeRedis(), RedisKeys("mine")
    client.hset(keys.bodies("gpu"), "x", b"\xff garbage")
    client.rpush(keys.queue("gpu"), "x")

    gpu = RedisDepths(client, "mine").read(["gpu"]).queues["gpu"]

    assert (gpu.depth, gpu.oldest_seconds) == (1, 0)


def test_in_memory_what_the_worker_took_and_did_not_begin_waits_too() -> None:
    broker = MemoryBroker()
    broker.enqueue(message("gpu"))
    taken = MessageProxy(message("gpu", age_seconds=60))

    gpu = depths_of(broker, lambda: [taken]).read(["gpu"]).queues["gpu"]

    assert gpu.depth == 2
    assert gpu.oldest_seconds == pytest.approx(60, abs=5)
