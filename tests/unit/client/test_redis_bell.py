"""Coordinators are woken without waiting for Redis to say so."""

from __future__ import annotations

import threading
from typing import Any

import fakeredis
import pytest
import redis

from dramaturg.redis_bell import Bell

STREAM = "wakes"


@pytest.fixture
def server() -> fakeredis.FakeServer:
    return fakeredis.FakeServer()


@pytest.fixture
def client(server: fakeredis.FakeServer) -> Any:
    return fakeredis.FakeRedis(server=server)


def test_each_ring_is_heard(client: Any) -> None:
    bell = Bell(client, STREAM)

    for _ in range(3):
        bell.ring()
    bell.close()

    assert client.xlen(STREAM) == 3


def test_threads_ring_the_same_bell(client: Any) -> None:
    bell = Bell(client, STREAM)
    threads = [threading.Thread(target=bell.ring) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bell.close()

    assert client.xlen(STREAM) == 8


def test_a_redis_that_is_back_is_rung_again(server: fakeredis.FakeServer, client: Any) -> None:
    bell = Bell(client, STREAM)
    bell.ring()
    server.connected = False
    with pytest.raises(redis.ConnectionError):
        bell.ring()
    server.connected = True

    bell.ring()
    bell.close()

    assert client.xlen(STREAM) == 2


def test_what_redis_refuses_is_told_with_the_next_ring(client: Any) -> None:
    client.set(STREAM, "no stream")
    bell = Bell(client, STREAM)
    bell.ring()

    with pytest.raises(redis.ResponseError):
        bell.ring()

    client.delete(STREAM)
    bell.ring()
    bell.close()
    assert client.xlen(STREAM) == 1


def test_a_bell_that_never_rang_is_closed_in_silence(client: Any) -> None:
    Bell(client, STREAM).close()

    assert not client.exists(STREAM)
