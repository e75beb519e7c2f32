"""Limits between two turns, without runs."""

from __future__ import annotations

from datetime import UTC, datetime

from dramaturg_coordinator.limits import Limits
from dramaturg_protocol.limits import Slot
from dramaturg_protocol.records import RunWrites
from dramaturg_store.memory import MemoryDatabase

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def a_slot(run_id: str, arrival: int, granted_at: datetime | None = None) -> Slot:
    return Slot(run_id, 1, 1, 1, 0, "limit:one", 1, 1, 0, arrival, 1, 0.0, granted_at, None, "work", "")


def test_a_limit_that_is_left_and_no_longer_waited_for_in_one_turn_is_never_due() -> None:
    holder, waiter = a_slot("holder", 0, NOON), a_slot("waiter", 1)
    limits = Limits(MemoryDatabase(now=lambda: NOON).store, lambda _: 1)
    limits.follow({1: 1}, NOON)
    limits.committed(RunWrites("holder", slots=[holder]))
    limits.committed(RunWrites("waiter", slots=[waiter]))

    limits.committed(RunWrites("limit:one", freed=[holder.ticket, waiter.ticket]))
    limits.turned()

    assert limits.next_due(NOON) is None
