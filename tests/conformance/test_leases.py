"""The port `Leases`, over every implementation."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dramaturg_protocol.faults import Fenced
from tests.conformance.worlds import EPOCH, HandClock, OpenDatabase, World, a_lease, a_new_run

pytestmark = pytest.mark.conformance


def test_a_lease_holds_every_partition(database: OpenDatabase) -> None:
    lease = a_lease(database)

    assert lease.owner == "one"
    assert set(lease.epochs) == set(database.partitions)


def test_a_second_coordinator_gets_nothing(database: OpenDatabase, world: World) -> None:
    a_lease(database)

    assert world.open().leases.acquire("two") is None
    assert database.leases.acquire("three") is None


def test_after_a_release_the_next_one_has_a_higher_epoch(database: OpenDatabase, world: World) -> None:
    first = a_lease(database)
    database.leases.release(first)

    second = a_lease(world.open(), "two")

    assert all(second.epochs[partition] == epoch + 1 for partition, epoch in first.epochs.items())


def test_a_process_that_ends_frees_its_lease_at_once(database: OpenDatabase, world: World) -> None:
    successor = world.open()
    first = a_lease(database)
    database.close()

    second = a_lease(successor, "two")

    assert all(second.epochs[partition] > epoch for partition, epoch in first.epochs.items())
    with pytest.raises(Fenced):
        successor.leases.renew(first)


def test_a_renewal_gives_the_time(database: OpenDatabase, clock: HandClock) -> None:
    lease = a_lease(database)

    assert database.leases.renew(lease) == EPOCH
    assert database.leases.renew(lease) == EPOCH
    clock.pass_by(1.5)
    assert database.leases.renew(lease) == EPOCH + timedelta(seconds=1.5)


def test_time_does_not_go_back_with_the_clock_of_the_machine(
    database: OpenDatabase, world: World, clock: HandClock
) -> None:
    lease = a_lease(database)
    clock.pass_by(3600)
    database.leases.renew(lease)
    clock.pass_by(-7200)

    assert database.leases.renew(lease) == EPOCH + timedelta(hours=1)

    database.leases.release(lease)
    successor = world.open()
    assert successor.leases.renew(a_lease(successor, "two")) == EPOCH + timedelta(hours=1)


@pytest.mark.usefixtures("clock")
def test_a_commit_moves_the_time_forward(database: OpenDatabase) -> None:
    lease = a_lease(database)

    database.store.commit([a_new_run("run")], lease, EPOCH + timedelta(minutes=1))

    assert database.leases.renew(lease) == EPOCH + timedelta(minutes=1)
