"""Coordinators and workers over RabbitMQ: killed at any moment, cut off, emptied; the books balance."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator
from typing import Any

import pytest

from dramaturg_protocol.amqp import AmqpNames, connect, parameters_of
from tests.integration.fleet.fleets import STEPS, Fleet, balance
from tests.services import delete_queues, needs

pytestmark = [pytest.mark.slow]

RUNS = 100
ALL = RUNS * STEPS
QUEUES = ("default", "dramaturg.start")


@pytest.fixture
def make_rabbit_fleet(make_fleet: Callable[..., Fleet]) -> Generator[Callable[..., Fleet], None, None]:
    """Makes fleets over the shared RabbitMQ."""
    made: list[Fleet] = []

    def make(**settings: str) -> Fleet:
        made.append(make_fleet(broker_url=needs("rabbitmq"), **settings))
        return made[-1]

    yield make
    for fleet in made:
        fleet.close()
        delete_queues(fleet.namespace, QUEUES, fleet.partitions)


def test_coordinators_and_workers_are_killed_amid_a_hundred_runs(make_rabbit_fleet: Callable[..., Fleet]) -> None:
    fleet = make_rabbit_fleet(DRAMATURG_LEASE_TIME="3s")
    coordinators = [fleet.coordinator(), fleet.coordinator()]
    workers = [fleet.worker(), fleet.worker()]
    children = [fleet.child_of(worker) for worker in workers]
    handles = fleet.start("chain", RUNS)

    fleet.ledger.wait_for(int(0.2 * ALL))
    coordinators[0].kill()
    fleet.ledger.wait_for(int(0.4 * ALL))
    os.kill(children[0], signal.SIGKILL)
    fleet.coordinator()
    fleet.ledger.wait_for(int(0.6 * ALL))
    coordinators[1].kill()
    os.kill(children[1], signal.SIGKILL)

    executions = balance(fleet, handles)
    # What was under way, and what had ended and was not told yet: the work of a moment.
    assert sum(executions.values()) <= 1.05 * ALL


def test_a_coordinator_that_is_killed_makes_no_step_run_twice(make_rabbit_fleet: Callable[..., Fleet]) -> None:
    fleet = make_rabbit_fleet(DRAMATURG_LEASE_TIME="3s")
    fleet.worker()
    first, second = fleet.coordinator(), fleet.coordinator()
    handles = fleet.start("chain", RUNS)

    for share in (0.2, 0.5, 0.7):
        fleet.ledger.wait_for(int(share * ALL))
        first.kill()
        first, second = second, fleet.coordinator()

    assert set(balance(fleet, handles).values()) == {1}


def test_queues_that_are_gone_are_made_and_filled_again(make_rabbit_fleet: Callable[..., Fleet]) -> None:
    fleet = make_rabbit_fleet()
    coordinator = fleet.coordinator()
    coordinator.wait_for("holding")
    handles = fleet.start("chain", 20)
    # All of their first steps wait in a queue that nobody serves yet.
    names, depth = AmqpNames(fleet.namespace), 0
    connection: Any = connect(parameters_of(needs("rabbitmq")))
    channel = connection.channel()
    while depth < 20:
        names.declare_tasks(channel, "default")
        depth = channel.queue_declare(names.wire("default"), passive=True).method.message_count
    connection.close()

    delete_queues(fleet.namespace, QUEUES, fleet.partitions)
    fleet.worker()

    assert set(balance(fleet, handles).values()) == {1}
