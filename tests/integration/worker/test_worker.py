"""``dramaturg worker`` as an operator has it: real processes, a real Redis, signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.redis import RedisBroker as StockRedisBroker

from dramaturg_protocol.messages import ReportKind
from tests.integration.worker.conftest import Command
from tests.unit.actors.redis_workshop import RedisWorkshop

pytestmark = pytest.mark.slow

JOBS = """
import asyncio, os, threading
import dramatiq
from dramaturg import current_step, lifespan, step

@lifespan
def numbers():
    yield {"number": 40}
    os.write(1, b"left the lifespan\\n")

@step
def add(n: int) -> int:
    return current_step().state["number"] + n

@step
async def add_later(n: int) -> int:
    await asyncio.sleep(0)
    return current_step().state["number"] + n

@step(queue="slow")
def last() -> None:
    os.write(1, b"a step has begun\\n")
    while True:
        threading.Event().wait(0.01)

@step
def pid() -> int:
    return os.getpid()

@dramatiq.actor(max_retries=3)
def plain(word):
    os.write(1, f"plain actor got {word}\\n".encode())
"""


def test_it_serves_steps_and_plain_actors_and_hands_back_at_sigterm(
    run: Callable[..., Command], shop: RedisWorkshop
) -> None:
    worker = run(JOBS, "dramaturg", "worker", "jobs", "-t", "2", "--shutdown-timeout", "0.5s")
    worker.pid_ready()

    shop.publish("add", 2)
    assert shop.outcome().result == "42"
    shop.publish("add_later", 3)
    assert shop.outcome().result == "43"
    _send_from_a_stock_producer(shop, "plain", "hello")
    worker.line_with("plain actor got hello")

    task = shop.publish("last", queue="slow")
    worker.line_with("a step has begun")
    assert worker.terminate() == 0

    report = shop.outcome()
    assert (report.kind, report.seq, report.attempt) == (ReportKind.RELEASED, task.seq, 1)
    assert "left the lifespan\n" in worker.said
    assert shop.left() == set()


def _send_from_a_stock_producer(shop: RedisWorkshop, actor: str, *args: Any) -> None:
    stock: Any = StockRedisBroker
    producer = stock(client=shop.client, namespace=shop.namespace)
    producer.enqueue(dramatiq.Message("default", actor, args, {}, {}))


def test_a_process_that_is_killed_is_replaced_and_all_end_with_their_parent(
    run: Callable[..., Command], shop: RedisWorkshop
) -> None:
    worker = run(JOBS, "dramaturg", "worker", "-m", "jobs", "-p", "1")
    first = worker.pid_ready()
    shop.publish("pid")
    assert shop.outcome().result == str(first)

    os.kill(first, signal.SIGKILL)

    worker.line_with(f"process 1 (pid {first}) was killed by SIGKILL; another starts in 0.1 s")
    second = worker.pid_ready()
    shop.publish("pid")
    assert shop.outcome().result == str(second) != str(first)

    worker.process.kill()
    worker.line_with("the parent process is gone: this one stops")
    worker.line_with("left the lifespan")


def test_it_serves_the_queues_it_is_told_to(run: Callable[..., Command], shop: RedisWorkshop) -> None:
    worker = run(JOBS, "dramaturg", "worker", "jobs", "-Q", "a,b", "-Q", "c", "-X", "b")
    worker.pid_ready()

    for number, queue in enumerate(("default", "b", "a", "c")):
        shop.publish("add", number, queue=queue)

    assert {shop.outcome().result, shop.outcome().result} == {"42", "43"}
    assert worker.terminate() == 0
    assert {"default", "default.msgs", "b", "b.msgs"} <= shop.left()
    assert not {"a", "c"} & shop.left()


def test_a_lifespan_that_raises_ends_the_worker_with_its_error(
    run: Callable[..., Command], shop: RedisWorkshop
) -> None:
    code = JOBS + "\n@lifespan\ndef broken():\n    raise OSError('no license server')\n    yield {}\n"
    shop.publish("add", 1)

    worker = run(code, "dramaturg", "worker", "jobs", "-p", "2")

    assert worker.code() == 1
    assert "OSError: no license server\n" in worker.said
    assert "default" in shop.left()


def test_a_module_that_is_wrong_ends_the_worker_with_one_line(run: Callable[..., Command]) -> None:
    worker = run("import nothing_of_that_name", "dramaturg", "worker", "jobs")

    assert worker.code() == 2
    assert "module 'jobs' cannot be imported: No module named 'nothing_of_that_name'" in "".join(worker.said)
    assert not any("Traceback" in line for line in worker.said)


def test_without_redis_it_waits_and_says_so(run: Callable[..., Command], unused_port: int) -> None:
    worker = run(JOBS, "dramaturg", "worker", "jobs", BROKER_URL=f"redis://127.0.0.1:{unused_port}/0")

    worker.line_with(f"Redis at 127.0.0.1:{unused_port}")
    assert "next try in 0.2 s" in worker.line_with("next try in 0.2 s")
    assert worker.terminate() == 0


APPLICATION = """
import asyncio, os
import dramatiq, redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Middleware
import dramaturg

class Seen(Middleware):
    def before_process_message(self, broker, message):
        os.write(1, f"seen {message.actor_name} {message.args}\\n".encode())

def make():
    broker.add_middleware(Seen())
    return broker

broker = RedisBroker(client=redis.Redis.from_url(os.environ["TEST_REDIS_URL"]), namespace=os.environ["TEST_NAMESPACE"])
dramatiq.set_broker(broker)
dramaturg.install(broker)
dramaturg.install(broker)

@dramatiq.actor(max_retries=3)
def double(n):
    os.write(1, f"doubling {n}\\n".encode())
    return 2 * n if n < 100 else None

double_step = dramaturg.step(double)

@dramaturg.step
async def add_later(n: int) -> int:
    await asyncio.sleep(0)
    return 40 + n

@dramaturg.step
def fail() -> None:
    raise ValueError("wrong")
"""


@pytest.mark.parametrize(
    "arguments",
    [("dramaturg", "worker", "-t", "2"), ("dramatiq", "jobs:make", "-p", "1", "-t", "2")],
    ids=["our worker by BROKER", "dramatiq's own after install"],
)
def test_a_broker_of_the_applications_own_serves_steps_and_its_actors(
    run: Callable[..., Command], shop: RedisWorkshop, arguments: tuple[str, ...]
) -> None:
    # Given a namespace that only the broker knows, and steps that wait already
    shop.publish("double", 4)

    worker = run(APPLICATION, *arguments, BROKER="jobs:make", NAMESPACE="another", BROKER_URL="memory://")

    assert shop.outcome().result == "8"
    worker.line_with("seen double (4,)")
    shop.publish("add_later", 2)
    assert shop.outcome().result == "42"
    shop.publish("fail")
    assert shop.outcome().error_type == "ValueError"
    _send_from_a_stock_producer(shop, "double", 100)
    worker.line_with("doubling 100")
    assert worker.terminate() == 0
    assert shop.left() == set()
