"""The database servers, the Redis and the RabbitMQ that tests may use: where they are, and databases of our own on them.

Each has a variable for its URL; by default it is looked for on this machine. One that is not there is a skip at a desk,
and an error where ``CI`` is set.
"""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from dramaturg_protocol import amqp
from dramaturg_protocol.amqp import AmqpNames
from dramaturg_protocol.errors import DramaturgError
from dramaturg_protocol.redis_client import connect

DATABASES = ("sqlite", "postgresql", "mariadb")
BROKERS = ("memory", "fakeredis", "redis", "rabbitmq")

_PLACES = {
    "postgresql": ("TEST_POSTGRES_URL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"),
    "mariadb": ("TEST_MARIADB_URL", "mysql+pymysql://root@127.0.0.1:3306"),
    "redis": ("TEST_REDIS_URL", "redis://127.0.0.1:6379/0"),
    "rabbitmq": ("TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672/"),
}
_SECONDS = 3


def url_of(service: str) -> str:
    """Where a service is."""
    variable, default = _PLACES[service]
    return os.environ.get(variable) or default


def needs(service: str) -> str:
    """The URL of a service; whoever asks is skipped where it does not answer, or fails where it has to be there."""
    problem = problem_of(service)
    if problem:
        advice = f"{service} at {url_of(service)} does not answer ({problem}); {_PLACES[service][0]} says where it is"
        if os.environ.get("CI"):
            pytest.fail(advice, pytrace=False)
        pytest.skip(advice)
    return url_of(service)


@contextmanager
def a_database(kind: str) -> Generator[str, None, None]:
    """The URL of an empty database of our own on a server, dropped in the end."""
    name = f"dramaturg_test_{secrets.token_hex(6)}"
    server = create_engine(needs(kind), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        if kind == "postgresql":
            # Nobody looks at it after the machine has lost its power.
            connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    try:
        yield server.url.set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            force = " WITH (FORCE)" if kind == "postgresql" else ""
            connection.execute(text(f"DROP DATABASE {name}{force}"))
        server.dispose()


def a_namespace() -> str:
    """A namespace that nobody had before."""
    return f"dramaturg_test_{secrets.token_hex(6)}"


def delete_keys(client: redis.Redis, namespace: str) -> None:
    """Delete all that a namespace has in Redis."""
    server: Any = client
    keys = list(server.scan_iter(match=f"{namespace}:*", count=1000))
    if keys:
        server.delete(*keys)


def delete_queues(namespace: str, queues: Iterable[str], partitions: Iterable[int]) -> None:
    """Delete all that a namespace has in RabbitMQ."""
    names = AmqpNames(namespace)
    connection = amqp.connect(amqp.parameters_of(url_of("rabbitmq")))
    channel = connection.channel()
    for queue in queues:
        for suffix in ("", ".DQ", ".XQ"):
            channel.queue_delete(names.wire(queue) + suffix)
    for number in partitions:
        channel.queue_delete(names.reports(number))
        channel.queue_delete(names.intents(number))
    channel.queue_delete(names.garbage)
    channel.exchange_delete(names.wakes)
    channel.exchange_delete(names.control)
    connection.close()


@functools.cache
def problem_of(service: str) -> str:
    """Why a service cannot be used; empty where it can."""
    try:
        if service == "redis":
            connect(url_of(service)).ping()  # pyright: ignore[reportUnknownMemberType]
            return ""
        if service == "rabbitmq":
            amqp.connect(amqp.parameters_of(url_of(service))).close()
            return ""
        url = make_url(url_of(service))
        engine = create_engine(url, connect_args={"connect_timeout": _SECONDS})
        with engine.connect():
            pass
        engine.dispose()
    except (SQLAlchemyError, redis.RedisError, OSError, ImportError, DramaturgError) as error:
        return str(error).splitlines()[0]
    return ""
