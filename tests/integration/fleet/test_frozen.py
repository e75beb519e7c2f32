"""A coordinator that froze past its lease and wakes up while its successor works: it writes and publishes nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from dramaturg_protocol.ids import partition_of
from dramaturg_store.engines import make_engine
from dramaturg_store.schema import events, inbox, open_work, partitions, runs
from tests.integration.fleet.fleets import PARTITIONS, PATIENCE, STEPS, Fleet, balance, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RUNS = 60


def owners_of(engine: Engine, fleet: Fleet) -> list[str]:
    """The owner of each partition that has one."""
    with engine.connect() as connection:
        wanted = select(partitions.c.owner).where(partitions.c.namespace == fleet.namespace)
        return list(connection.scalars(wanted.where(partitions.c.owner.is_not(None)).order_by(partitions.c.number)))


def is_alone(engine: Engine, fleet: Fleet) -> bool:
    """Whether one coordinator has all partitions."""
    owners = owners_of(engine, fleet)
    return len(owners) == PARTITIONS and len(set(owners)) == 1


def id_owned_by(engine: Engine, fleet: Fleet, owner: str) -> str:
    """A workflow id whose partition a coordinator has."""
    owners = owners_of(engine, fleet)
    names = (f"{fleet.namespace} {number}" for number in range(1000))
    return next(name for name in names if owners[partition_of(name, PARTITIONS)] == owner)


def all_that_is_written(engine: Engine, fleet: Fleet) -> dict[str, Any]:
    """What a coordinator writes, in the database and in Redis, but for signs of life and who has what."""
    with engine.connect() as connection:
        written: dict[str, Any] = {
            table.name: connection.execute(select(table).order_by(*table.primary_key.columns)).all()
            for table in (events, runs, open_work, inbox)
        }
    server: Any = fleet.redis
    written["queue"] = server.lrange(fleet.keys.queue("default"), 0, -1)
    written["bodies"] = server.hgetall(fleet.keys.bodies("default"))
    return written


def test_it_is_stopped_in_the_middle_of_a_load(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(DRAMATURG_LEASE_TIME="3s")
    engine = make_engine(fleet.database_url)
    frozen = fleet.coordinator()
    wait_until(lambda: is_alone(engine, fleet))
    owner = owners_of(engine, fleet)[0]
    fleet.child_of(fleet.worker())
    successor = fleet.coordinator()
    successor.wait_for("holding 2 ")
    handles = fleet.start("chain", RUNS)
    fleet.ledger.wait_for(RUNS * STEPS // 3)

    frozen.signal_all(signal.SIGSTOP)
    successor.wait_for("holding 4 ")
    executions = balance(fleet, handles)
    before = all_that_is_written(engine, fleet)
    frozen.signal_all(signal.SIGCONT)
    frozen.wait_for("this coordinator stands by")

    assert all_that_is_written(engine, fleet) == before
    assert set(executions.values()) == {1}
    successor.kill()
    wait_until(lambda: owners_of(engine, fleet) == [owner] * PARTITIONS)
    assert fleet.client.start("chain", 1).result(timeout=PATIENCE) == 1 + STEPS
    engine.dispose()


def test_it_is_stopped_inside_its_transaction(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(DRAMATURG_LEASE_TIME="3s")
    engine = make_engine(fleet.database_url)
    frozen = fleet.coordinator()
    wait_until(lambda: is_alone(engine, fleet))
    owner = owners_of(engine, fleet)[0]
    fleet.child_of(fleet.worker())
    successor = fleet.coordinator()
    successor.wait_for("holding 2 ")
    handle = fleet.client.start("holds", 1, id=id_owned_by(engine, fleet, owner))
    fleet.ledger.wait_for(1)

    # Its commit has the lease's rows locked and waits for the run's, which we have.
    with engine.begin() as ours:
        ours.execute(select(runs).where(runs.c.run_id == handle.run_id).with_for_update())
        fleet.free()
        wait_until(lambda: _somebody_waits_for_a_row(engine))
        frozen.signal_all(signal.SIGSTOP)
    successor.wait_for("holding 4 ")
    assert handle.result(timeout=PATIENCE) == 1
    assert owner not in owners_of(engine, fleet)
    before = all_that_is_written(engine, fleet)
    frozen.signal_all(signal.SIGCONT)
    frozen.wait_for("this coordinator stands by")

    assert all_that_is_written(engine, fleet) == before
    assert [event.type for event in handle.events()].count("step.completed") == 1
    successor.kill()
    wait_until(lambda: owners_of(engine, fleet) == [owner] * PARTITIONS)
    assert fleet.client.start("chain", 1).result(timeout=PATIENCE) == 1 + STEPS
    engine.dispose()


def test_it_is_told_to_end_while_it_is_stopped(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet()
    frozen = fleet.coordinator()
    frozen.wait_for("Ctrl-C stops")
    (child,) = frozen.children()

    os.kill(child, signal.SIGSTOP)
    os.kill(child, signal.SIGTERM)
    os.kill(child, signal.SIGCONT)

    frozen.wait_for("stopped; what is open goes on")


def _somebody_waits_for_a_row(engine: Engine) -> bool:
    with engine.connect() as connection:
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(connection.execute(waiting).scalar_one())
