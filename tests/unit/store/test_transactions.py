"""Transactions that stand in each other's way are done again; others are not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, exc

from dramaturg_protocol.faults import Unreachable
from dramaturg_store.engines import make_engine
from dramaturg_store.transactions import TRIES, Transactions


@pytest.fixture
def transactions() -> Iterator[Transactions]:
    engine = make_engine("sqlite://")
    yield Transactions(engine)
    engine.dispose()


class Work:
    """Fails with an error of MySQL as often as it is told to."""

    def __init__(self, number: int, failures: int) -> None:
        self.error = exc.OperationalError("INSERT", {}, Exception(number, "in other words"))
        self.failures = failures
        self.calls = 0

    def __call__(self, _connection: Connection) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "done"


def test_a_deadlock_is_tried_again(transactions: Transactions) -> None:
    work = Work(1213, TRIES - 1)

    assert transactions.written(work) == "done"


def test_a_deadlock_is_not_tried_for_ever(transactions: Transactions) -> None:
    work = Work(1213, 99)

    with pytest.raises(Unreachable):
        transactions.written(work)

    assert work.calls == TRIES


def test_a_lost_connection_is_not_tried_again(transactions: Transactions) -> None:
    work = Work(2013, 99)

    with pytest.raises(Unreachable):
        transactions.written(work)

    assert work.calls == 1
