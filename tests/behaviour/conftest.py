"""Every test in this folder is a behaviour test: it runs over every database and broker, and once with every run
rebuilt after every turn.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis
from pydantic import SecretStr

from dramaturg import Settings
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.redis_client import connect
from dramaturg_store.engines import make_engine
from dramaturg_store.upgrade import upgrade
from tests.services import a_database, a_namespace, delete_keys, delete_queues, needs

HERE = Path(__file__).parent

#: On a server: more than one, and not so many that each test pays for them.
PARTITIONS = 3

#: Of the tests that run with ``--encrypted``.
KEY = SecretStr("ZmVybmV0LWtleS1vZi10aGUtYmVoYXZpb3VyLXRlc3Q=")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.behaviour)


@pytest.fixture(scope="session", autouse=True)
def _workers_stop_quickly() -> Generator[None, None, None]:
    """Who closes a worker waits for the read that is under way; there are thousands of them here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dramaturg_actors.redis_control._BLOCK_MILLISECONDS", 10)
        yield


@pytest.fixture(scope="session")
def server_url(database_kind: str) -> Generator[str | None, None, None]:
    """A database on the server that is asked for; it holds a namespace for each test."""
    if database_kind == "sqlite":
        yield None
    else:
        with a_database(database_kind) as url:
            yield url


@pytest.fixture(scope="session")
def redis_client(broker_kind: str) -> redis.Redis | None:
    """The Redis that is asked for, real or not."""
    if broker_kind == "redis":
        return connect(needs("redis"), connections=512)
    return fakeredis.FakeRedis(server=fakeredis.FakeServer()) if broker_kind == "fakeredis" else None


@pytest.fixture(scope="session")
def broker_url(broker_kind: str) -> str | None:
    """The RabbitMQ that is asked for."""
    return needs("rabbitmq") if broker_kind == "rabbitmq" else None


@pytest.fixture
def make_env(
    replay_every_turn: bool,
    encrypted: bool,
    server_url: str | None,
    redis_client: redis.Redis | None,
    broker_url: str | None,
) -> Generator[Callable[..., WorkflowEnv], None, None]:
    """Makes engines under a virtual clock, each in a namespace of its own; takes what `WorkflowEnv` takes."""
    with ExitStack() as stack:

        def make(*, settings: Settings | None = None, **options: Any) -> WorkflowEnv:
            namespace = a_namespace()
            if server_url is not None:
                options["database_url"] = server_url
                engine = make_engine(server_url)
                upgrade(engine, namespace, PARTITIONS)
                engine.dispose()
            if redis_client is not None:
                options["redis_client"] = redis_client
                stack.callback(delete_keys, redis_client, namespace)
            if broker_url is not None:
                options["broker_url"] = broker_url
            settings = (settings or Settings()).model_copy(update={"namespace": namespace})
            if encrypted and settings.codec is None:
                settings = settings.model_copy(update={"codec": "fernet", "encryption_keys": [KEY]})
            env = WorkflowEnv(settings=settings, replay_every_turn=replay_every_turn, **options)
            if broker_url is not None:
                partitions = env.database.partitions
                stack.callback(lambda: delete_queues(namespace, env.broker.get_declared_queues(), partitions))
            return env

        yield make


@pytest.fixture
def env(make_env: Callable[..., WorkflowEnv]) -> Generator[WorkflowEnv, None, None]:
    """An engine under a virtual clock."""
    with make_env() as env:
        yield env
