"""Firing under faults: a commit whose outcome is not known, a coordinator that lost its lease, several at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dramaturg import workflow
from dramaturg.testing import WorkflowEnv
from dramaturg_coordinator.core.firing import Deciding
from dramaturg_coordinator.schedules import Firer
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.faults import Fenced, Unreachable
from dramaturg_protocol.records import Lease
from dramaturg_protocol.schedule_records import Fired, Found

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def tick() -> Any:
    @workflow(name="faulty_tick")
    async def tick_() -> None: ...

    return tick_


class Failing:
    """The port, whose next commit fails: before it is done, or after."""

    def __init__(self, port: Any) -> None:
        self._port = port
        self.fails = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def fire(self, ids: Collection[str], lease: Lease, decide: Any) -> Sequence[Fired]:
        fails, self.fails = self.fails, ""
        if fails == "before":
            raise Unreachable("no answer")
        fired: Sequence[Fired] = self._port.fire(ids, lease, decide)
        if fails == "after":
            raise Unreachable("no answer")
        return fired


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("crashes", [False, True])
def test_a_commit_whose_outcome_is_not_known_counts_once(
    make_env: Callable[..., WorkflowEnv], tick: Any, when: str, crashes: bool
) -> None:
    ports: list[Failing] = []

    def wrap(port: Any) -> Failing:
        ports.append(Failing(port))
        return ports[-1]

    with make_env(wrap={"schedules": wrap}) as env:
        env.client.schedules.create("s", tick, every="1h")
        for _ in range(4):
            ports[-1].fails = when
            with pytest.raises(Unreachable):
                env.advance("1h")
            if crashes:
                env.crash()
            env.advance_to(env.now)
            env.advance("1h")

        schedule = env.client.schedules.get("s")
        assert (schedule.skipped, schedule.missed) == (0, 0)
        assert env.client.count() == schedule.fired
        times = [firing.time for firing in schedule.firings]
        assert times == [env.now - timedelta(hours=n) for n in range(len(times))]
        assert times[-1] == BEGIN


def decide_in(env: WorkflowEnv) -> Callable[[Found], Fired]:
    namespace, partition_of = env.client.settings.namespace, env.database.partition_of
    return lambda found: Deciding(found, env.now, namespace=namespace, partition_of=partition_of).fire()


def lease_of(env: WorkflowEnv) -> Lease:
    tenure = env._coordinator._tenure  # pyright: ignore[reportPrivateUsage]
    assert tenure is not None
    return tenure.lease


def test_a_coordinator_that_lost_its_lease_fires_nothing(env: WorkflowEnv, tick: Any) -> None:
    env.client.schedules.create("s", tick, every="1h")
    lease = lease_of(env)
    env.clock.set(BEGIN + timedelta(hours=1))
    stale = Lease("frozen", {number: epoch - 1 for number, epoch in lease.epochs.items()})

    with pytest.raises(Fenced):
        env.database.schedules.fire(["s"], stale, decide_in(env))

    assert env.client.schedules.get("s").fired == 0
    assert env.client.count() == 0


def test_two_that_fire_at_the_same_moment_begin_one_run_each_time(env: WorkflowEnv, tick: Any) -> None:
    names = [f"s{number}" for number in range(8)]
    for name in names:
        env.client.schedules.create(name, tick, every="1h", overlap="allow_all")
    lease, decide = lease_of(env), decide_in(env)
    env.clock.set(BEGIN + timedelta(hours=2))
    barrier = threading.Barrier(3)

    def fire() -> None:
        barrier.wait()
        env.database.schedules.fire(names, lease, decide)

    threads = [threading.Thread(target=fire) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    env.run_until_idle()

    # Of three times each, two are late by an hour or more: the window of an hour takes the second.
    assert [env.client.schedules.get(name).fired + env.client.schedules.get(name).missed for name in names] == [3] * 8
    assert env.client.count() == sum(env.client.schedules.get(name).fired for name in names)


def test_a_clock_that_is_set_back_repeats_nothing(env: WorkflowEnv, tick: Any) -> None:
    class SetBack:
        moment = BEGIN

        def now(self) -> datetime:
            return self.moment

    clock = SetBack()
    firer = Firer(
        env.database.schedules,
        namespace=env.client.settings.namespace,
        lease=lease_of(env),
        clock=clock,
        registry=registry,
    )
    env.client.schedules.create("s", tick, every="30m", overlap="allow_all")
    for minutes in (0, 30, 60, 5, 10, 31, 60, 90):
        clock.moment = BEGIN + timedelta(minutes=minutes)
        firer.fire(looks=True)
    env.run_until_idle()

    schedule = env.client.schedules.get("s")
    assert (schedule.fired, schedule.missed) == (4, 0)
    assert env.client.count() == 4
