from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from dramaturg_protocol.ids import new_message_id
from dramaturg_protocol.redis_client import connect
from tests.integration.redis.server import RedisServer
from tests.unit.actors.redis_workshop import RedisWorkshop

URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/0")


@pytest.fixture
def redis_url() -> str:
    """The URL of a Redis that others use too: keys only under `namespace`, nothing killed, nothing flushed."""
    client = connect(URL)
    try:
        client.ping()  # pyright: ignore[reportUnknownMemberType]
    except redis.RedisError as error:
        if os.environ.get("CI", "").lower() == "true":
            raise
        pytest.skip(f"no Redis at {URL} (TEST_REDIS_URL): {error}")
    finally:
        client.close()
    return URL


@pytest.fixture
def namespace(redis_url: str) -> Iterator[str]:
    name = f"dramaturg_test_{new_message_id()}"
    yield name
    client: Any = connect(redis_url)
    keys = list(client.scan_iter(match=f"{name}:*", count=1000))
    if keys:
        client.delete(*keys)
    client.close()


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    client = connect(redis_url)
    yield client
    client.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test's own: it may be killed, emptied and starved."""
    try:
        server = RedisServer(tmp_path)
    except FileNotFoundError:
        if os.environ.get("CI", "").lower() == "true":
            raise
        pytest.skip("redis-server is not installed")
    yield server
    server.kill()


@pytest.fixture
def workshops() -> Iterator[Callable[..., RedisWorkshop]]:
    made: list[RedisWorkshop] = []

    def make(client: Any, namespace: str, **options: Any) -> RedisWorkshop:
        made.append(RedisWorkshop(client, namespace, **options))
        return made[-1]

    yield make
    for each in made:
        each.stop(1.0)


@pytest.fixture
def workshop(client: Any, namespace: str, workshops: Callable[..., RedisWorkshop]) -> RedisWorkshop:
    # In this order: the worker stops before its Redis is taken away.
    return workshops(client, namespace)
