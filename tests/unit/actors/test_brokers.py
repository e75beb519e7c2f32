"""The in-memory broker."""

from __future__ import annotations

import queue
import threading

import dramatiq
import pytest

from dramaturg_actors.brokers import MemoryBroker, make_broker
from dramaturg_protocol.errors import ConfigurationError


def a_message(queue_name: str = "default") -> dramatiq.Message[object]:
    return dramatiq.Message(queue_name=queue_name, actor_name="a", args=(), kwargs={}, options={})


def test_memory_has_no_middleware_that_retries_or_times_out() -> None:
    broker = make_broker("memory://")

    assert isinstance(broker, MemoryBroker)
    assert broker.middleware == []


@pytest.mark.parametrize("url", ["sqs://localhost", "", "nonsense"])
def test_other_brokers_are_refused_by_name(url: str) -> None:
    with pytest.raises(
        ConfigurationError,
        match="memory://, redis://… or amqp://…; any other Dramatiq broker is named by DRAMATURG_BROKER",
    ):
        make_broker(url)


def test_a_queue_exists_as_soon_as_somebody_sends_to_it() -> None:
    broker = MemoryBroker()

    message = a_message("fresh")
    broker.enqueue(message)

    assert broker.consume("fresh").__next__() == message


def test_a_consumer_takes_no_more_than_its_prefetch_and_goes_on_when_one_is_done() -> None:
    broker = MemoryBroker()
    for _ in range(3):
        broker.enqueue(a_message())
    consumer = broker.consume("default", prefetch=2, timeout=1)

    first, second, third = (next(consumer) for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is None
    consumer.ack(first)
    assert next(consumer) is not None


def test_what_is_handed_back_returns() -> None:
    broker = MemoryBroker()
    message = a_message()
    broker.enqueue(message)
    consumer = broker.consume("default", prefetch=1, timeout=1)

    taken = next(consumer)
    assert taken is not None
    consumer.requeue([taken])

    assert next(consumer) == message
    consumer.ack(taken)
    assert broker.queues["default"].unfinished_tasks == 0


def test_a_waiting_consumer_can_be_woken() -> None:
    broker = MemoryBroker()
    broker.declare_queue("default")
    consumer = broker.consume("default", timeout=60_000)
    answers: queue.Queue[object] = queue.Queue()
    thread = threading.Thread(target=lambda: answers.put(next(consumer)), daemon=True)
    thread.start()

    consumer.wake()  # type: ignore[attr-defined]

    assert answers.get(timeout=10) is None
    thread.join(10)


def test_refused_messages_of_plain_actors_are_kept_for_join() -> None:
    broker = MemoryBroker()
    broker.enqueue(a_message())
    consumer = broker.consume("default")

    taken = next(consumer)
    assert taken is not None
    consumer.nack(taken)

    assert broker.dead_letters == [taken]
