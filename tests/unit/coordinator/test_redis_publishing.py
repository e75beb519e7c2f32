"""Publishing over Redis is fenced, from the moment a new owner begins."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest

from dramaturg_coordinator.redis_publishing import RedisPublisher
from dramaturg_protocol.faults import Fenced, Unreachable
from dramaturg_protocol.messages import StepTask, encode_message
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import Lease, WorkItem, WorkKind
from dramaturg_protocol.redis_keys import RedisKeys


def an_item(partition: int = 1) -> WorkItem:
    task = StepTask("run", 0, 1, 1, partition, "charge", "default", "checkout", "w", Payload('{"args":[]}'), 8)
    return WorkItem("run", 0, 1, partition, WorkKind.STEP, None, 1, encode_message(task))


def test_whoever_had_the_lease_before_sends_nothing_though_nothing_was_sent_since() -> None:
    client = fakeredis.FakeRedis()
    old, new = RedisPublisher(client, "ns"), RedisPublisher(client, "ns")

    new.publish((), Lease("new", {1: 2, 2: 5}))

    with pytest.raises(Fenced):
        old.publish([an_item()], Lease("old", {1: 1, 2: 4}))
    assert client.exists(RedisKeys("ns").queue("default")) == 0
    new.publish([an_item()], Lease("new", {1: 2}))
    assert client.exists(RedisKeys("ns").queue("default")) == 1


def test_a_new_owner_that_was_overtaken_already_hears_it() -> None:
    client = fakeredis.FakeRedis()
    RedisPublisher(client, "ns").publish((), Lease("third", {1: 3}))

    with pytest.raises(Fenced):
        RedisPublisher(client, "ns").publish((), Lease("second", {1: 2}))


LEASE = Lease("owner", {1: 1})


def let_time_pass(client: Any) -> None:
    """Have Redis be what it is for long."""
    client.set(RedisKeys("ns").incarnation, 1)


def test_after_redis_was_emptied_nothing_is_missing_until_all_workers_know() -> None:
    client: Any = fakeredis.FakeRedis()
    publisher = RedisPublisher(client, "ns")
    let_time_pass(client)
    assert not publisher.is_emptied()
    publisher.publish([an_item()], LEASE)
    client.flushall()

    assert publisher.missing([an_item()], LEASE) == []
    assert publisher.is_emptied()
    assert not publisher.is_emptied()
    assert publisher.missing([an_item()], LEASE) == []
    let_time_pass(client)
    assert publisher.missing([an_item()], LEASE) == [an_item()]


def test_a_successor_hears_that_redis_was_emptied_a_moment_ago() -> None:
    client = fakeredis.FakeRedis()
    assert RedisPublisher(client, "ns").is_emptied()
    successor = RedisPublisher(client, "ns")

    assert successor.is_emptied()
    assert not successor.is_emptied()
    assert successor.missing([an_item()], LEASE) == []


def test_what_was_sent_without_an_answer_is_sent_again_only_when_nobody_can_have_it() -> None:
    server = fakeredis.FakeServer()
    client: Any = fakeredis.FakeRedis(server=server)
    publisher = RedisPublisher(client, "ns")
    let_time_pass(client)
    server.connected = False
    with pytest.raises(Unreachable):
        publisher.publish([an_item()], LEASE)
    server.connected = True
    client.flushall()

    publisher.publish((), LEASE)
    with pytest.raises(Unreachable, match="workers"):
        publisher.publish([an_item()], LEASE)
    assert not client.exists(RedisKeys("ns").queue("default"))

    let_time_pass(client)
    publisher.publish([an_item()], LEASE)
    assert client.exists(RedisKeys("ns").queue("default"))
