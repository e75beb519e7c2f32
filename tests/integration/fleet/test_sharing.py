"""Several coordinators share the runs of a load, while they join, leave, freeze and are killed."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from dramaturg_store.engines import make_engine
from tests.integration.fleet.fleets import PARTITIONS, PATIENCE, STEPS, Fleet, balance, wait_until
from tests.integration.fleet.test_frozen import all_that_is_written, owners_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RUNS = 200
ALL = RUNS * STEPS


def shares(engine: Engine, fleet: Fleet) -> list[int]:
    """How many partitions each coordinator has; those that nobody has are left out."""
    return sorted(Counter(owners_of(engine, fleet)).values())


def test_coordinators_come_and_go_under_load(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(DRAMATURG_LEASE_TIME="3s")
    engine = make_engine(fleet.database_url)
    fleet.worker()
    first, second, third = (fleet.coordinator() for _ in range(3))
    wait_until(lambda: shares(engine, fleet) == [1, 1, 2])
    handles = fleet.start("chain", RUNS)

    fleet.ledger.wait_for(int(0.15 * ALL))
    third.kill()
    wait_until(lambda: shares(engine, fleet) == [2, 2])
    fleet.ledger.wait_for(int(0.35 * ALL))
    fourth = fleet.coordinator()
    wait_until(lambda: shares(engine, fleet) == [1, 1, 2])
    fleet.ledger.wait_for(int(0.6 * ALL))
    assert second.terminate() == 0
    wait_until(lambda: shares(engine, fleet) == [2, 2])

    executions = balance(fleet, handles)
    assert set(executions.values()) == {1}
    for process in (first, fourth):
        assert "please report this" not in process.said()
    engine.dispose()


def test_one_of_three_freezes_past_its_lease_and_joins_again(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(DRAMATURG_LEASE_TIME="3s")
    engine = make_engine(fleet.database_url)
    fleet.worker()
    frozen = fleet.coordinator()
    wait_until(lambda: shares(engine, fleet) == [PARTITIONS])
    owner = owners_of(engine, fleet)[0]
    others = [fleet.coordinator() for _ in range(2)]
    wait_until(lambda: shares(engine, fleet) == [1, 1, 2])
    handles = fleet.start("chain", RUNS)
    fleet.ledger.wait_for(ALL // 4)

    frozen.signal_all(signal.SIGSTOP)
    wait_until(lambda: shares(engine, fleet) == [2, 2])
    assert owner not in owners_of(engine, fleet)
    executions = balance(fleet, handles)
    before = all_that_is_written(engine, fleet)
    frozen.signal_all(signal.SIGCONT)
    frozen.wait_for("this coordinator stands by")
    wait_until(lambda: shares(engine, fleet) == [1, 1, 2])

    assert all_that_is_written(engine, fleet) == before
    assert set(executions.values()) == {1}
    for process in others:
        process.kill()
    wait_until(lambda: shares(engine, fleet) == [PARTITIONS])
    assert fleet.client.results(fleet.start("chain", 8), timeout=PATIENCE) == [number + STEPS for number in range(8)]
    engine.dispose()
