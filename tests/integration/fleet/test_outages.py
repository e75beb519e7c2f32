"""Redis is emptied, Redis and PostgreSQL are away for a while, in the middle of the same load: nothing is missing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator

import pytest

from chaos.servers import PostgresServer, RedisServer
from tests.integration.fleet.fleets import STEPS, Fleet, balance
from tests.integration.fleet.servers import running

# An outage alone takes thirty seconds; the rest is for a machine that is busy.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RUNS = 200
ALL = RUNS * STEPS
OUTAGE = 30.0


@pytest.fixture
def redis_server() -> Generator[RedisServer, None, None]:
    with running(RedisServer) as server:
        yield server


@pytest.fixture
def postgres_server() -> Generator[PostgresServer, None, None]:
    with running(lambda: PostgresServer("fsync=off")) as server:
        yield server


def test_redis_is_emptied_again_and_again(make_fleet: Callable[..., Fleet], redis_server: RedisServer) -> None:
    fleet = make_fleet(broker_url=redis_server.url)
    fleet.coordinator()
    for worker in (fleet.worker(), fleet.worker()):
        fleet.child_of(worker)
    handles = fleet.start("chain", RUNS)
    # Right after the burst, before most of them have begun.
    fleet.redis.flushall()  # pyright: ignore[reportUnknownMemberType]

    for share in (0.2, 0.5, 0.8):
        fleet.ledger.wait_for(int(share * ALL))
        fleet.redis.flushall()  # pyright: ignore[reportUnknownMemberType]

    balance(fleet, handles)


def test_redis_is_away_and_comes_back_empty(make_fleet: Callable[..., Fleet], redis_server: RedisServer) -> None:
    fleet = make_fleet(broker_url=redis_server.url)
    coordinator, worker = fleet.coordinator(), fleet.worker()
    fleet.child_of(worker)
    handles = fleet.start("chain", RUNS)
    fleet.ledger.wait_for(ALL // 3)

    redis_server.stop()
    coordinator.wait_for("Redis at .* does not")
    more = fleet.start("chain", RUNS)
    threading.Event().wait(OUTAGE)
    redis_server.start()

    balance(fleet, handles)
    balance(fleet, more)
    assert "please report this" not in coordinator.said()


def test_the_database_is_away(make_fleet: Callable[..., Fleet], postgres_server: PostgresServer) -> None:
    fleet = make_fleet(database_url=postgres_server.url)
    coordinator = fleet.coordinator()
    fleet.child_of(fleet.worker())
    handles = fleet.start("chain", RUNS)
    fleet.ledger.wait_for(ALL // 3)

    postgres_server.stop()
    coordinator.wait_for("trying again in")
    threading.Event().wait(OUTAGE)
    postgres_server.start()

    executions = balance(fleet, handles)
    assert set(executions.values()) == {1}
    assert "please report this" not in coordinator.said()
