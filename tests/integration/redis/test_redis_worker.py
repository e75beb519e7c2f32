"""The worker over a real Redis: waiting, lost connections, a server that dies or is full, processes that die."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dramatiq
import dramatiq.brokers.redis
import pytest
from dramatiq import Worker
from dramatiq import worker as dramatiq_worker
from dramatiq.errors import ConnectionClosed

from dramaturg_actors.redis_broker import RedisBroker
from dramaturg_coordinator.redis_publishing import RedisPublisher
from dramaturg_protocol.messages import ReportKind, StepTask, encode_message
from dramaturg_protocol.records import Lease, WorkItem, WorkKind
from tests.integration.redis.server import RedisServer
from tests.unit.actors.redis_workshop import RedisWorkshop

WAIT_SECONDS = 10.0
StockRedisBroker: Any = dramatiq.brokers.redis.RedisBroker  # it has no types


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dramatiq's threads try again soon."""
    monkeypatch.setattr(dramatiq_worker, "CONSUMER_RESTART_DELAY_SECS", 0.05)
    monkeypatch.setattr(dramatiq_worker, "POST_PROCESS_MESSAGE_RETRY_DELAY_SECS", 0.05)


def put(broker: Any) -> None:
    message: dramatiq.Message[Any] = dramatiq.Message("q", "an_actor", (), {}, {})
    broker.enqueue(message)


def taken(consumer: Any) -> Any:
    return next(delivery for delivery in iter(lambda: next(consumer), object()) if delivery is not None)


class Waiting:
    """A thread that waits for the next of a consumer, seen by Redis to block."""

    def __init__(self, consumer: Any) -> None:
        self.answer: Any = None
        self._consumer = consumer
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self) -> Any:
        self._thread.join(WAIT_SECONDS)
        assert not self._thread.is_alive()
        return self.answer

    def _run(self) -> None:
        try:
            self.answer = next(self._consumer)
        except ConnectionClosed as error:
            self.answer = error


def blocked_clients(client: Any) -> list[Any]:
    while not (found := [each for each in client.client_list() if each["cmd"] == "blmove"]):
        pass
    return found


# -- waiting


def test_an_idle_consumer_blocks_until_there_is_something_and_takes_nothing_by_waiting(
    own_server: RedisServer,
) -> None:
    broker = RedisBroker(url=own_server.url, middleware=[])
    first, second = broker.consume("q", timeout=60_000), broker.consume("q", timeout=60_000)
    waiting = [Waiting(first), Waiting(second)]
    other: Any = own_server.client()
    while len(blocked_clients(other)) < 2:
        pass

    put(broker)

    # Both are woken; their next look finds the one message once.
    assert [each.join() for each in waiting] == [None, None]
    assert next(first) is not None
    assert other.llen("dramatiq:q") == 0
    broker.close()
    other.close()


def test_a_blocked_consumer_is_woken_for_the_end_of_its_worker(own_server: RedisServer) -> None:
    broker = RedisBroker(url=own_server.url, middleware=[])
    consumer = broker.consume("q", timeout=5_000)
    waiting = Waiting(consumer)
    other: Any = own_server.client()
    (blocked,) = blocked_clients(other)

    consumer.wake()

    assert waiting.join() is None
    assert int(blocked["age"]) < 5
    broker.close()
    other.close()


# -- a worker and its server


def test_a_step_whose_connections_were_cut_reports_once_and_the_worker_goes_on(
    own_server: RedisServer, workshops: Callable[..., RedisWorkshop]
) -> None:
    workshop = workshops(own_server.client(), "tests", own=own_server.patient_client())
    began, go_on = threading.Event(), threading.Event()

    @workshop.step
    def waits() -> None:
        began.set()
        assert go_on.wait(WAIT_SECONDS)

    @workshop.step
    def echo(value: int) -> int:
        return value

    workshop.start_worker()
    workshop.publish("waits")
    assert began.wait(WAIT_SECONDS)
    other: Any = own_server.client()

    other.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    workshop.publish("echo", 7)

    assert workshop.report().result == "7"
    go_on.set()
    assert workshop.report().kind is ReportKind.COMPLETED
    workshop.stop()
    assert workshop.left() == set()
    assert other.xlen("tests:dramaturg:reports:3") == 2
    other.close()


def test_a_redis_that_was_killed_and_started_again_gets_the_outcome_and_gives_the_rest(
    own_server: RedisServer, workshops: Callable[..., RedisWorkshop]
) -> None:
    workshop = workshops(own_server.client(), "tests", own=own_server.patient_client())
    began, go_on = threading.Event(), threading.Event()

    @workshop.step
    def waits() -> str:
        began.set()
        assert go_on.wait(WAIT_SECONDS)
        return "kept"

    @workshop.step
    def echo(value: int) -> int:
        return value

    workshop.start_worker(threads=1)
    workshop.publish("waits")
    for value in range(5):
        workshop.publish("echo", value)
    assert began.wait(WAIT_SECONDS)

    own_server.kill()
    go_on.set()
    own_server.start()

    results = [workshop.report().result for _ in range(6)]
    assert sorted(map(str, results)) == ['"kept"', "0", "1", "2", "3", "4"]
    workshop.stop()
    assert workshop.left() == set()


def test_a_full_redis_is_worked_off(own_server: RedisServer, workshops: Callable[..., RedisWorkshop]) -> None:
    workshop = workshops(own_server.client(), "tests", own=own_server.patient_client())

    @workshop.step
    def echo(value: int) -> int:
        return value

    for value in range(20):
        workshop.publish("echo", value, timeout=60.0)
    workshop.client.config_set("maxmemory", "1")

    workshop.start_worker()

    reports = [workshop.report() for _ in range(40)]
    assert sum(report.kind is ReportKind.COMPLETED for report in reports) == 20
    workshop.stop()
    assert workshop.left() == set()


def test_a_full_redis_takes_what_is_refused_put_aside_and_handed_back(own_server: RedisServer) -> None:
    client: Any = own_server.client()
    broker = RedisBroker(client=client, middleware=[])
    client.hset("dramatiq:q.msgs", "bad", "garbage")
    client.rpush("dramatiq:q", "bad")
    for _ in range(3):
        put(broker)
    client.config_set("maxmemory", "1")
    consumer = broker.consume("q", prefetch=4, timeout=10)
    refused, handed_back, put_off = (taken(consumer) for _ in range(3))

    consumer.nack(refused)
    consumer.requeue([handed_back])
    assert put_off.put_off()
    consumer.close()
    broker.heartbeat_timeout = -1
    broker.maintain(["q"])

    assert client.zcard("dramatiq:q.XQ") == 1
    assert client.llen("dramatiq:dramaturg:garbage") == 1
    assert client.llen("dramatiq:q") == 2
    client.close()


# -- beside Dramatiq's own


def test_a_message_of_a_stock_producer_runs_on_our_worker(workshop: RedisWorkshop, client: Any) -> None:
    ran = threading.Event()

    @dramatiq.actor(broker=workshop.redis_broker)
    def plain(value: int) -> None:
        if value == 7:
            ran.set()

    workshop.start_worker()
    stock = StockRedisBroker(client=client, namespace=workshop.namespace, middleware=[])

    stock.enqueue(plain.message(7))

    assert ran.wait(WAIT_SECONDS)
    workshop.redis_broker.join("default", interval=5, timeout=10_000)


def test_a_stock_worker_takes_what_our_publisher_sends_and_acknowledges_it_without_a_report(
    workshop: RedisWorkshop, client: Any, namespace: str
) -> None:
    ran = threading.Event()
    stock = StockRedisBroker(client=client, namespace=namespace, middleware=[])

    @dramatiq.actor(broker=stock)
    def a_step() -> None:
        ran.set()

    worker: Any = Worker(stock, worker_threads=1, worker_timeout=10)
    worker.start()
    task = workshop.task("a_step")
    a_publisher(client, namespace)(task)

    assert ran.wait(WAIT_SECONDS)
    stock.join("default", interval=5, timeout=10_000)
    worker.stop()
    assert workshop.left() <= {"dramaturg:epochs"}
    assert client.xlen(f"{namespace}:dramaturg:reports:{task.partition}") == 0


def test_what_our_publisher_sends_twice_runs_once(workshop: RedisWorkshop, client: Any, namespace: str) -> None:
    @workshop.step
    def echo(value: int) -> int:
        return value

    publish = a_publisher(client, namespace)
    task = workshop.task("echo", 1)
    publish(task)
    publish(task)
    publish(workshop.task("echo", 2))

    workshop.start_worker(threads=1)

    assert [workshop.report().result for _ in range(2)] == ["1", "2"]
    workshop.stop()
    assert client.xlen(workshop.key("dramaturg:reports:3")) == 2


def a_publisher(client: Any, namespace: str) -> Callable[[StepTask], None]:
    publisher = RedisPublisher(client, namespace)

    def publish(task: StepTask) -> None:
        kind, text = WorkKind.STEP, encode_message(task)
        item = WorkItem(task.run_id, 1, task.seq, task.partition, kind, None, task.attempt, text, task=task)
        publisher.publish([item], Lease("owner", {task.partition: 1}))

    return publish


# -- processes


@pytest.fixture
def worker_processes(redis_url: str, namespace: str) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        script = Path(__file__).with_name("worker_process.py")
        started.append(subprocess.Popen([sys.executable, str(script), redis_url, namespace]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(10)


@pytest.mark.slow
def test_a_step_whose_worker_was_killed_runs_again_within_twenty_seconds_at_default_settings(
    workshop: RedisWorkshop,
    worker_processes: Callable[[], subprocess.Popen[bytes]],
    client: Any,
    namespace: str,
) -> None:
    killed = worker_processes()
    task = workshop.publish("say_and_stay", "mid-step")
    assert client.blpop(workshop.key("signal:mid-step"), timeout=10)
    # Another worker that has nothing to do, and a coordinator that only looks after the queue.
    worker_processes()
    workshop.publish("say", "there")
    assert client.blpop(workshop.key("signal:there"), timeout=10)
    coordinator = RedisBroker(client=client, namespace=namespace, middleware=[])

    killed.kill()
    again = None
    for _ in range(10):
        again = client.blpop(workshop.key("signal:mid-step"), timeout=2)
        if again:
            break
        coordinator.maintain(["default"])

    assert again
    # The other step may have been with the worker that was killed too: only this one's deliveries count here.
    assert int(client.hget(workshop.key("dramaturg:deliveries:default"), task.message_id)) == 2
