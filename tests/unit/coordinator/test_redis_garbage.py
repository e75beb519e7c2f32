"""Garbage of queues becomes dead letters, once it is kept."""

from __future__ import annotations

from collections.abc import Sequence

import fakeredis
import pytest

from dramaturg_coordinator.redis_garbage import RedisGarbage
from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.records import DeadLetter
from dramaturg_protocol.redis_keys import RedisKeys

KEY = RedisKeys("ns").garbage


def test_garbage_is_kept_and_then_removed() -> None:
    client = fakeredis.FakeRedis()
    client.rpush(KEY, b'{"queue": "default", "id": "x", "reason": "not JSON", "text": "\\u0000"}', b"\xff")
    kept: list[DeadLetter] = []

    assert RedisGarbage(client, "ns", kept.extend).collect() == 2

    assert [letter.source for letter in kept] == ["queue", "queue"]
    assert kept[0].reason == "queue default: not JSON"
    assert client.llen(KEY) == 0


def test_what_the_database_does_not_take_stays() -> None:
    client = fakeredis.FakeRedis()
    client.rpush(KEY, b"{}")

    def refuse(_: Sequence[DeadLetter]) -> None:
        raise Unreachable("no database")

    with pytest.raises(Unreachable):
        RedisGarbage(client, "ns", refuse).collect()

    assert client.llen(KEY) == 1
