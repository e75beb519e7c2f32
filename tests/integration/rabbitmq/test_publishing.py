"""What a coordinator that takes over sends again over RabbitMQ: exactly what may not have been sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dramaturg_coordinator.amqp_publishing import AmqpPublisher
from dramaturg_protocol.amqp import AmqpNames, connect, parameters_of
from dramaturg_protocol.amqp_inspection import AmqpInspector
from dramaturg_protocol.amqp_sending import AmqpSender
from dramaturg_protocol.messages import StepTask, encode_message
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import Lease, WorkItem, WorkKind
from tests.integration.rabbitmq.conftest import PARTITIONS

Publishers = Callable[[int], tuple[AmqpPublisher, Lease]]


def a_step(run_id: str, partition: int = 1) -> WorkItem:
    task = StepTask(run_id, 0, 1, 1, partition, "charge", "default", "checkout", "w", Payload('{"args":[]}'), 8)
    return WorkItem(run_id, 0, 1, partition, WorkKind.STEP, None, 1, encode_message(task))


@pytest.fixture
def names(namespace: str) -> AmqpNames:
    return AmqpNames(namespace)


@pytest.fixture
def take_over(url: str, names: AmqpNames) -> Iterator[Publishers]:
    """A coordinator's publisher, by its epoch, with the lease that it begins."""
    opened: list[Any] = []

    def make(epoch: int) -> tuple[AmqpPublisher, Lease]:
        parameters = parameters_of(url)
        sender, inspector = AmqpSender(parameters), AmqpInspector(parameters)
        opened.extend([sender, inspector])
        publisher, lease = AmqpPublisher(names, sender, inspector), Lease("me", dict.fromkeys(PARTITIONS, epoch))
        publisher.publish((), lease)
        return publisher, lease

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def waiting(url: str, names: AmqpNames) -> Iterator[Callable[[], int]]:
    """How many steps wait in the queue."""
    inspector = AmqpInspector(parameters_of(url))
    yield lambda: inspector.counts([names.wire("default")]).get(names.wire("default"), 0)
    inspector.close()


def test_what_was_committed_and_not_sent_is_sent_by_the_successor(take_over: Publishers) -> None:
    first, lease = take_over(1)
    first.missing([], lease)
    first.prepare([a_step("sent")], lease)
    first.publish([a_step("sent")], lease)
    first.prepare([a_step("committed"), a_step("elsewhere", 2)], lease)

    second, its_lease = take_over(2)
    everything = [a_step("sent"), a_step("committed"), a_step("elsewhere", 2)]

    assert second.missing(everything, its_lease) == everything[1:]


def test_nothing_that_may_merely_be_queued_is_sent_again(take_over: Publishers, waiting: Callable[[], int]) -> None:
    first, lease = take_over(1)
    first.missing([], lease)
    steps = [a_step(f"run-{number}") for number in range(20)]
    first.prepare(steps, lease)
    first.publish(steps, lease)

    second, its_lease = take_over(2)

    assert second.missing(steps, its_lease) == []
    assert waiting() == 20


def test_what_is_owed_stays_so_through_another_crash_and_other_work(take_over: Publishers) -> None:
    first, lease = take_over(1)
    first.missing([], lease)
    first.prepare([a_step("owed")], lease)
    second, its_lease = take_over(2)
    second.missing([a_step("owed")], its_lease)
    second.prepare([a_step("next")], its_lease)
    second.publish([a_step("next")], its_lease)

    third, last_lease = take_over(3)

    assert third.missing([a_step("owed"), a_step("next")], last_lease) == [a_step("owed")]
    third.publish([a_step("owed")], last_lease)
    assert third.missing([a_step("owed"), a_step("next")], last_lease) == []


def test_a_look_through_one_partition_forgets_nothing_of_another(take_over: Publishers) -> None:
    first, lease = take_over(1)
    first.missing([], lease)
    first.prepare([a_step("here", 1), a_step("there", 2)], lease)

    second, _ = take_over(2)

    assert second.missing([a_step("here", 1)], Lease("me", {1: 2})) == [a_step("here", 1)]
    assert second.missing([a_step("there", 2)], Lease("me", {2: 2})) == [a_step("there", 2)]


def test_a_rabbitmq_that_was_emptied_gets_all_that_is_open_but_for_what_was_sent_since(
    take_over: Publishers, url: str, names: AmqpNames
) -> None:
    publisher, lease = take_over(1)
    publisher.missing([], lease)
    assert not publisher.is_emptied()
    publisher.prepare([a_step("before")], lease)
    publisher.publish([a_step("before")], lease)

    connection: Any = connect(parameters_of(url))
    for queue in (names.wire("default"), *map(names.intents, PARTITIONS)):
        connection.channel().queue_delete(queue)
    connection.close()

    assert publisher.is_emptied()
    publisher.prepare([a_step("since")], lease)
    publisher.publish([a_step("since")], lease)
    assert publisher.missing([a_step("before"), a_step("since")], lease) == [a_step("before")]
    publisher.publish([a_step("before")], lease)
    assert not publisher.is_emptied()
    assert publisher.missing([a_step("before"), a_step("since")], lease) == []
