"""`install`: what Dramatiq's own worker is given, in this process, over a Redis that is not real."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import fakeredis
import pytest
from dramatiq.worker import Worker

import dramaturg
from dramaturg_actors.brokers import MemoryBroker
from dramaturg_actors.declare import actor_of
from dramaturg_actors.installation import Installation, install
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.errors import ConfigurationError
from dramaturg_protocol.messages import ReportKind
from tests.unit.actors.redis_workshop import RedisWorkshop
from tests.unit.actors.workshop import WAIT_SECONDS


@pytest.fixture(autouse=True)
def isolated() -> Iterator[None]:
    with registry.isolated():
        yield


@pytest.fixture
def shop() -> RedisWorkshop:
    return RedisWorkshop(fakeredis.FakeRedis(), "installed")


@pytest.fixture
def start(shop: RedisWorkshop) -> Iterator[Callable[[], Worker]]:
    made: list[Worker] = []

    def make() -> Worker:
        install(shop.redis_broker)
        made.append(Worker(shop.redis_broker, worker_threads=2, worker_timeout=50))
        made[-1].start()
        return made[-1]

    yield make
    for worker in made:
        worker.stop(timeout=int(WAIT_SECONDS * 1000))


def test_it_is_installed_once(shop: RedisWorkshop) -> None:
    install(shop.redis_broker)
    install(shop.redis_broker)

    assert [type(each) for each in shop.redis_broker.middleware].count(Installation) == 1


def test_a_broker_that_carries_no_reports_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="MemoryBroker carries no reports"):
        install(MemoryBroker())


def test_dramatiqs_worker_serves_steps_of_both_kinds(shop: RedisWorkshop, start: Callable[[], Worker]) -> None:
    @dramaturg.lifespan
    def number() -> Iterator[dict[str, int]]:
        yield {"number": 40}

    @dramaturg.step
    def add(n: int) -> int:
        return number_here() + n

    @dramaturg.step
    async def add_later(n: int) -> int:
        await asyncio.sleep(0)
        return number_here() + n

    assert number is not None
    assert add.name != add_later.name
    start()

    shop.publish("add", 1)
    assert shop.outcome().result == "41"
    shop.publish("add_later", 2)
    assert shop.outcome().result == "42"


def number_here() -> int:
    context = dramaturg.current_step()
    assert context is not None
    return int(context.state["number"])


def test_an_async_step_has_its_time_limit(shop: RedisWorkshop, start: Callable[[], Worker]) -> None:
    @dramaturg.step
    async def endless() -> None:
        await asyncio.Event().wait()

    start()
    shop.publish(endless.name, timeout=0.05)

    assert shop.outcome().kind is ReportKind.TIMED_OUT


def test_a_step_that_still_runs_is_handed_back(shop: RedisWorkshop, start: Callable[[], Worker]) -> None:
    begun = threading.Event()

    @dramaturg.step
    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    worker = start()
    shop.publish(endless.name)
    assert begun.wait(WAIT_SECONDS)

    worker.stop(timeout=50)

    assert shop.outcome().kind is ReportKind.RELEASED


def test_a_lifespan_that_raises_ends_the_process(shop: RedisWorkshop, start: Callable[[], Worker]) -> None:
    @dramaturg.lifespan
    def broken() -> Iterator[dict[str, Any]]:
        raise OSError("no license server")
        yield {}

    assert broken is not None
    with pytest.raises(SystemExit):
        start()


def test_the_brokers_own_actors_are_back_after_the_worker(shop: RedisWorkshop, start: Callable[[], Worker]) -> None:
    @dramatiq.actor(broker=shop.redis_broker)
    def double(n: int) -> int:
        return 2 * n

    step = dramaturg.step(double)
    worker = start()
    shop.publish(step.name, 4)
    assert shop.outcome().result == "8"

    worker.stop()

    assert actor_of(shop.redis_broker, "double") is double
