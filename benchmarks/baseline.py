"""Bare Dramatiq, as it comes: a null actor and a worker of as many threads."""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.stub import StubBroker

from benchmarks.bare_worker import null_actor
from benchmarks.measure import Figures, Stopwatch, latencies, milliseconds_of
from benchmarks.processes import Processes

NAME = "bare"
_SINGLES = 20


def in_memory(threads: int, messages: int) -> Figures:
    """Messages a second with the worker running, then the time of one message when nothing else is under way."""
    broker = StubBroker()  # with the middleware that Dramatiq gives a broker by default
    done: queue.SimpleQueue[int] = queue.SimpleQueue()

    def null(value: int) -> None:
        done.put(value + 1)

    actor = dramatiq.Actor(null, broker=broker, actor_name="null", queue_name="default", priority=0, options={})
    worker = dramatiq.Worker(broker, worker_threads=threads)
    worker.start()

    def one() -> None:
        actor.send(0)
        done.get(timeout=60)

    def many() -> None:
        for value in range(messages):
            actor.send(value)
        for _ in range(messages):
            done.get(timeout=60)

    try:
        one()
        watch = Stopwatch()
        many()
        figures = watch.figures(messages)
        return {**figures, **latencies([milliseconds_of(one) for _ in range(200)])}
    finally:
        worker.stop()


def over_redis(processes: Processes, url: str, workers: int, threads: int, messages: int) -> Figures:
    """The same with a stock worker in processes of its own, and this one as the producer, one `send` a message.

    A message is done when its body is gone from Redis, which is the last that its worker does with it.
    """
    actor = null_actor(url)
    client: Any = redis.Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]

    def is_done() -> bool:
        return not client.hlen("bare:default.msgs")

    def one() -> None:
        actor.send(0)
        _wait(is_done, 0.001)

    def many() -> None:
        for value in range(messages):
            actor.send(value)
        _wait(is_done, 0.005)

    actor.send(0)
    command = [sys.executable, "-m", "benchmarks.bare_worker", url, str(workers), str(threads)]
    with processes.running("bare", command, is_done):
        watch = Stopwatch(processes.cpu_seconds)
        many()
        figures = watch.figures(messages)
        return {**figures, **latencies([milliseconds_of(one) for _ in range(_SINGLES)])}


def _wait(is_done: Callable[[], bool], period: float, timeout: float = 120.0) -> None:
    due = time.monotonic() + timeout
    while not is_done():
        if time.monotonic() > due:
            raise TimeoutError("bare Dramatiq does not end")
        time.sleep(period)
