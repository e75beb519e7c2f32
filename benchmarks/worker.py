"""What a worker costs: microseconds for each null message, and how soon one message is reported.

Beside it, in the same run, bare Dramatiq on its StubBroker with as many threads: what the engine adds.
"""

from __future__ import annotations

import logging
import queue
import statistics
import time
from collections.abc import Callable
from typing import TypeAlias, cast

import dramatiq
from dramatiq.brokers.stub import StubBroker

from dramaturg_actors.brokers import make_broker
from dramaturg_actors.worker import StepWorker
from dramaturg_protocol.definitions import Registry, StepDefinition
from dramaturg_protocol.messages import StepTask, encode_message
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.signatures import CallSchema
from dramaturg_protocol.transport import message_of

Enqueue: TypeAlias = Callable[[dramatiq.Message[object]], object]

THREADS = 8
MESSAGES = 5_000
SINGLES = 500
REPEATS = 3


def null() -> None:
    """Do nothing, in a thread."""


async def async_null() -> None:
    """Do nothing, on the event loop."""


def main() -> None:
    """Measure and print."""
    print(f"{THREADS} threads, best of {REPEATS}")
    for measure in (bare, steps, async_steps, timed_steps):
        runs = [measure() for _ in range(REPEATS)]
        cost = min(run[0] for run in runs)
        p50, p95 = min((run[1] for run in runs), key=lambda pair: pair[0])
        print(f"{measure.__name__:12} {cost:6.0f} µs a message   one at a time: p50 {p50:5.0f} µs, p95 {p95:5.0f} µs")


def bare() -> tuple[float, tuple[float, float]]:
    """Dramatiq alone, without middleware."""
    broker = StubBroker(middleware=[])
    done: queue.SimpleQueue[str] = queue.SimpleQueue()
    actor = dramatiq.Actor(
        lambda: done.put(""), broker=broker, actor_name="null", queue_name="default", priority=0, options={}
    )
    worker = dramatiq.Worker(broker, worker_threads=THREADS, worker_timeout=100)
    worker.start()
    try:
        return _measure(lambda _: actor.message(), cast("Enqueue", broker.enqueue), done)  # pyright: ignore[reportUnknownMemberType]
    finally:
        worker.stop()


def steps() -> tuple[float, tuple[float, float]]:
    """Steps in threads."""
    return _measure_steps("null", None, reports=1)


def async_steps() -> tuple[float, tuple[float, float]]:
    """Steps on the event loop."""
    return _measure_steps("async_null", None, reports=1)


def timed_steps() -> tuple[float, tuple[float, float]]:
    """Steps in threads, with a time limit: two reports each."""
    return _measure_steps("null", 60.0, reports=2)


def _measure_steps(name: str, timeout: float | None, reports: int) -> tuple[float, tuple[float, float]]:
    registry = Registry()
    for fn in (null, async_null):
        registry.add_step(StepDefinition(fn.__name__, fn, CallSchema.of(fn, f"step {fn.__name__!r}")))
    broker = make_broker("memory://")
    done: queue.SimpleQueue[str] = queue.SimpleQueue()
    worker = StepWorker(broker, done.put, registry=registry, threads=THREADS)
    worker.start()
    try:
        return _measure(lambda number: _message(name, timeout, number), cast("Enqueue", broker.enqueue), done, reports)  # pyright: ignore[reportUnknownMemberType]
    finally:
        worker.stop(5)


def _message(name: str, timeout: float | None, number: int) -> dramatiq.Message[object]:
    task = StepTask(
        run_id="00000000-0000-7000-8000-000000000000",
        generation=0,
        seq=number,
        attempt=1,
        partition=0,
        name=name,
        queue="default",
        workflow="bench",
        workflow_id="bench",
        input=Payload('{"args":[]}'),
        max_attempts=8,
        timeout=timeout,
    )
    return message_of(encode_message(task))


def _measure(
    message: Callable[[int], dramatiq.Message[object]],
    enqueue: Enqueue,
    done: queue.SimpleQueue[str],
    reports: int = 1,
) -> tuple[float, tuple[float, float]]:
    messages = [message(number) for number in range(MESSAGES)]
    start = time.perf_counter()
    for each in messages:
        enqueue(each)
    for _ in range(MESSAGES * reports):
        done.get(timeout=60)
    cost = (time.perf_counter() - start) / MESSAGES * 1e6
    singles = [_single(each, enqueue, done, reports) for each in messages[:SINGLES]]
    return cost, (statistics.median(singles), statistics.quantiles(singles, n=20)[18])


def _single(
    message: dramatiq.Message[object],
    enqueue: Enqueue,
    done: queue.SimpleQueue[str],
    reports: int,
) -> float:
    start = time.perf_counter()
    enqueue(message)
    for _ in range(reports):
        done.get(timeout=60)
    return (time.perf_counter() - start) * 1e6


if __name__ == "__main__":
    logging.disable(logging.INFO)
    main()
