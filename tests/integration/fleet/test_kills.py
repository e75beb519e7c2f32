"""``kill -9`` in the middle of two hundred runs of ten steps: the books balance."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.integration.fleet.fleets import STEPS, Fleet, balance

pytestmark = [pytest.mark.slow]

RUNS = 200
ALL = RUNS * STEPS


def test_coordinators_are_killed_and_nothing_runs_twice(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(DRAMATURG_LEASE_TIME="3s")
    fleet.worker()
    first, second = fleet.coordinator(), fleet.coordinator()
    handles = fleet.start("chain", RUNS)

    for share in (0.2, 0.5, 0.7):
        fleet.ledger.wait_for(int(share * ALL))
        first.kill()
        first, second = second, fleet.coordinator()

    executions = balance(fleet, handles)
    assert set(executions.values()) == {1}


def test_workers_are_killed_and_what_was_recorded_never_runs_again(fleet: Fleet) -> None:
    fleet.coordinator()
    workers = [fleet.worker(), fleet.worker()]
    children = [fleet.child_of(worker) for worker in workers]
    handles = fleet.start("chain", RUNS)

    for child, share in zip(children, (0.3, 0.6), strict=True):
        fleet.ledger.wait_for(int(share * ALL))
        os.kill(child, signal.SIGKILL)

    executions = balance(fleet, handles)
    # What was under way, and what had ended and was not told yet: the work of a moment.
    assert sum(executions.values()) <= 1.05 * ALL


def test_a_step_whose_worker_was_killed_runs_again_within_twenty_seconds(fleet: Fleet) -> None:
    fleet.coordinator()
    first = fleet.worker()
    child = fleet.child_of(first)
    handle = fleet.client.start("holds", 1)
    fleet.ledger.wait_for(1)

    second = fleet.worker()
    fleet.child_of(second)
    # Parent and child: a machine that is gone.
    first.kill()
    os.kill(child, signal.SIGKILL)
    killed_at = time.monotonic()
    fleet.ledger.wait_for(2, 25)

    assert time.monotonic() - killed_at < 20
    assert fleet.ledger.executions() == {(handle.run_id, 1): 2}
