"""Workflow code that ends its process or cannot be interrupted: only its own run is blocked."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.fleet.fleets import STEPS, Fleet, Process, wait_until

pytestmark = [pytest.mark.slow]

DEADLY = """
import os, re
from dramaturg import step, workflow

@step
def look(number: int) -> int:
    return number

@workflow
async def exits(number: int) -> None:
    await look(number)
    os._exit(7)

@workflow
async def hangs(number: int) -> None:
    await look(number)
    re.match(r"(a+)+$", "a" * 64 + "!")

@step(local=True)
def exit_here(number: int) -> None:
    os._exit(7)

@workflow
async def exits_in_a_local_step(number: int) -> None:
    await look(number)
    await exit_here(number)
"""


@pytest.fixture
def deadly(make_fleet: Callable[..., Fleet]) -> Fleet:
    fleet = make_fleet(DRAMATURG_LEASE_TIME="6s")
    fleet.write("deadly", DEADLY)
    return fleet


def child_of(coordinator: Process) -> int:
    children = Path(f"/proc/{coordinator.pid}/task/{coordinator.pid}/children").read_text().split()
    return int(children[0])


def test_a_run_that_ends_its_process_twice_is_blocked_and_all_others_complete(deadly: Fleet) -> None:
    deadly.coordinator("deadly")
    deadly.worker("-m", "deadly")
    bomb = deadly.start("exits", 1)[0]
    others = deadly.start("chain", 20)

    assert deadly.client.results(others, timeout=120) == [number + STEPS for number in range(20)]
    wait_until(lambda: bomb.describe().status == "BLOCKED", 120)

    (blocked,) = [event for event in bomb.events() if event.type == "run.blocked"]
    assert blocked.data["reason"] == "deadly"
    assert "ended with exit code 7" in blocked.data["message"]
    assert deadly.processes[0].said().count("ended with exit code 7 while it advanced run") == 2


def test_a_local_step_that_ends_the_process_twice_blocks_its_run_and_all_others_complete(deadly: Fleet) -> None:
    coordinator = deadly.coordinator("deadly")
    deadly.worker("-m", "deadly")
    bomb = deadly.start("exits_in_a_local_step", 1)[0]
    coordinator.wait_for(f"exit code 7 while it ran a local step of run {bomb.run_id}", 120, times=2)
    others = deadly.start("chain", 20)

    assert deadly.client.results(others, timeout=120) == [number + STEPS for number in range(20)]
    wait_until(lambda: bomb.describe().status == "BLOCKED", 120)

    (blocked,) = [event for event in bomb.events() if event.type == "run.blocked"]
    assert blocked.data["reason"] == "deadly"
    assert "ended with exit code 7 while a local step of this run was under way" in blocked.data["message"]
    assert coordinator.said().count("ended with exit code 7 while it ran a local step") == 2


def test_a_run_that_hangs_in_a_call_into_c_is_killed_once_and_blocked(deadly: Fleet) -> None:
    deadly.coordinator("deadly")
    deadly.worker("-m", "deadly")
    bomb = deadly.start("hangs", 1)[0]
    deadly.processes[0].wait_for(f"hangs in run {bomb.run_id} and is killed", 120)
    others = deadly.start("chain", 20)

    assert deadly.client.results(others, timeout=120) == [number + STEPS for number in range(20)]
    wait_until(lambda: bomb.describe().status == "BLOCKED", 120)

    assert "hung in this run" in bomb.describe().waiting_for
    assert deadly.processes[0].said().count("and is killed") == 1


def test_a_child_that_is_killed_is_replaced_and_blocks_nothing(fleet: Fleet) -> None:
    coordinator = fleet.coordinator()
    fleet.worker()
    coordinator.wait_for("coordinator of")
    first = child_of(coordinator)
    handles = fleet.start("chain", 20)
    fleet.ledger.wait_for(20)

    os.kill(first, signal.SIGKILL)

    assert fleet.client.results(handles, timeout=120) == [number + STEPS for number in range(20)]
    assert child_of(coordinator) != first
    assert coordinator.terminate() == 0


def test_a_child_does_not_outlive_its_parent(fleet: Fleet) -> None:
    coordinator = fleet.coordinator()
    coordinator.wait_for("coordinator of")
    child = child_of(coordinator)

    coordinator.kill()

    wait_until(lambda: not Path(f"/proc/{child}").exists() or "zombie" in Path(f"/proc/{child}/status").read_text())


def test_a_module_that_cannot_be_imported_ends_the_coordinator_with_its_code(fleet: Fleet) -> None:
    coordinator = fleet.coordinator("nowhere_to_be_found")

    coordinator.wait_for("nowhere_to_be_found")

    assert coordinator.wait() == 2
