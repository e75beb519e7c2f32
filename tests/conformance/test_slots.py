"""What the port `Store` says of limits, over every implementation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dramaturg_protocol.limits import RUN_SEQ, Slot
from dramaturg_protocol.records import RunWrites, WorkItem, WorkKind
from tests.conformance.worlds import EPOCH, OpenDatabase, a_lease, a_new_run

pytestmark = pytest.mark.conformance

WAITER = Slot("run", 1, 1, 1, 0, "limit:one", 1, 1, 0, 1, 1, 0.0, None, None, "charge", "")


def a_waiting_run(run_id: str, attempt: int = 1) -> RunWrites:
    """A run with a row that waits for a limit: of a step, or with no attempt its own."""
    write = a_new_run(run_id)
    write.work[:] = [WorkItem(run_id, 1, 1, 1, WorkKind.LIMITED, None, attempt)]
    return write


def test_who_waits_and_has_no_waiting_slot_is_forgotten(database: OpenDatabase) -> None:
    known, granted, unknown = (a_waiting_run(name) for name in ("known", "granted", "unknown"))
    known.slots.append(replace(WAITER, run_id="known"))
    granted.slots.append(replace(WAITER, run_id="granted", granted_at=EPOCH))
    database.store.commit([known, granted, unknown, a_new_run("begun")], a_lease(database), EPOCH)

    assert database.store.forgotten_waiters(1, 10) == ["granted", "unknown"]
    assert database.store.forgotten_waiters(1, 1) == ["granted"]
    assert database.store.forgotten_waiters(2, 10) == []


def test_the_slot_of_another_attempt_is_not_that_of_this_one(database: OpenDatabase) -> None:
    write = a_waiting_run("run", attempt=2)
    write.slots.append(WAITER)
    database.store.commit([write], a_lease(database), EPOCH)

    assert database.store.forgotten_waiters(1, 10) == ["run"]


def test_the_place_of_a_run_waits_under_a_position_of_its_own(database: OpenDatabase) -> None:
    known, unknown = a_waiting_run("known", attempt=0), a_waiting_run("unknown", attempt=0)
    known.slots.append(replace(WAITER, run_id="known", generation=0, seq=RUN_SEQ, attempt=0))
    database.store.commit([known, unknown], a_lease(database), EPOCH)

    assert database.store.forgotten_waiters(1, 10) == ["unknown"]
