"""Old and new code side by side: runs wait for the coordinator that has theirs, and nothing is blocked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.fleet.fleets import Fleet, wait_until

pytestmark = [pytest.mark.slow]

STEPS = """
from dramaturg import step

@step
def look(number: int) -> int:
    return number + 1
"""
OLD = """
from dramaturg import sleep, workflow
from stock import look

@workflow
async def order(number: int) -> int:
    await sleep("1s")
    number = await look(number)
    return await look(number)
"""
NEW = """
from dramaturg import workflow
from stock import look

@workflow
async def order(number: int) -> int:
    number = await look(number)
    return await look(number) + 100

@workflow
async def parcel(number: int) -> int:
    return await look(number)
"""
RUNS = 24


@pytest.fixture
def fleet_of_two(make_fleet: Callable[..., Fleet]) -> Fleet:
    fleet = make_fleet(DRAMATURG_LEASE_TIME="6s")
    fleet.write("stock", STEPS)
    fleet.write("shop", OLD)
    return fleet


def test_runs_of_old_code_go_on_with_old_code(fleet_of_two: Fleet) -> None:
    fleet = fleet_of_two
    old = fleet.coordinator("shop")
    old.wait_for(r"holding [1-9]\d* partition")
    orders = fleet.start("order", RUNS)
    wait_until(lambda: all(each.describe().status in ("WAITING", "RUNNING") for each in orders), 120)
    # Alive, and without a partition or with a part of them: whatever it has, it is the one with the code.
    fleet.coordinator("shop").wait_for("coordinator of")
    fleet.write("shop", NEW)
    new = fleet.coordinator("shop")
    new.wait_for("coordinator of")
    old.kill()

    fleet.worker("-m", "stock")
    wait_until(
        lambda: all(
            each.describe().status == "COMPLETED" or each.describe().waiting_for.startswith("parked: ")
            for each in orders
        ),
        120,
    )
    assert new.terminate() == 0

    assert fleet.client.results(orders, timeout=120) == [number + 2 for number in range(RUNS)]
    assert [event.type for each in orders for event in each.events() if event.type == "run.blocked"] == []


def test_starts_of_a_new_workflow_wait_for_the_coordinators_that_have_it(fleet_of_two: Fleet) -> None:
    fleet = fleet_of_two
    old = fleet.coordinator("shop")
    old.wait_for(r"holding [1-9]\d* partition")
    fleet.worker("-m", "stock")
    fleet.write("shop", NEW)
    fleet.coordinator("shop").wait_for("coordinator of")

    parcels = fleet.start("parcel", RUNS)
    wait_until(lambda: any(each.describe().waiting_for.startswith("parked: ") for each in parcels), 120)
    assert old.terminate() == 0

    assert fleet.client.results(parcels, timeout=120) == [number + 1 for number in range(RUNS)]
    assert [event.type for each in parcels for event in each.events() if event.type == "run.blocked"] == []
