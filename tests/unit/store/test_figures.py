from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from dramaturg_protocol.records import DeadLetter, RunWrites
from dramaturg_store.database import Database
from dramaturg_store.figures import OpenRuns, StoreFigures
from tests.conformance.worlds import (
    EPOCH,
    HandClock,
    a_closed_run,
    a_lease,
    a_new_run,
    a_record,
    a_request,
    a_timer,
    an_event,
)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def database(tmp_path: Path, clock: HandClock) -> Iterator[Database]:
    with Database(f"sqlite:///{tmp_path}/x.db", now=clock) as made:
        yield made


def test_an_empty_database_has_nothing_open_and_is_not_behind(database: Database) -> None:
    assert database.figures.read() == StoreFigures([], {}, 0.0)


def test_open_runs_are_counted_by_workflow_and_status(database: Database, clock: HandClock) -> None:
    lease = a_lease(database)
    writes = [a_new_run("a"), a_new_run("b", updated_at=EPOCH + timedelta(seconds=50)), a_closed_run("c")]
    database.store.commit([*writes, a_new_run("d", status="BLOCKED")], lease, EPOCH)

    clock.pass_by(60)

    figures = database.figures.read()
    assert sorted(figures.open_runs, key=lambda row: row.status) == [
        OpenRuns("checkout", "BLOCKED", 1, 60.0),
        OpenRuns("checkout", "RUNNING", 2, 60.0),
    ]


def test_how_long_runs_are_idle_is_looked_at_once_a_minute_and_when_there_are_runs_of_another_kind(
    database: Database, clock: HandClock
) -> None:
    lease = a_lease(database)
    database.store.commit([a_new_run("a")], lease, EPOCH)

    def idle() -> dict[str, float]:
        return {row.status: row.idle_seconds for row in database.figures.read().open_runs}

    assert idle() == {"RUNNING": 0.0}
    clock.pass_by(50)
    moved = a_record("a", updated_at=EPOCH + timedelta(seconds=40), last_event=3)
    database.store.commit([RunWrites("a", moved, events=[an_event(3)])], lease, clock())
    assert idle() == {"RUNNING": 50.0}
    clock.pass_by(10)
    assert idle() == {"RUNNING": 20.0}
    database.store.commit([a_new_run("b", status="BLOCKED", updated_at=clock())], lease, clock())
    clock.pass_by(5)
    assert idle() == {"RUNNING": 25.0, "BLOCKED": 5.0}


def test_the_lag_is_that_of_the_oldest_request_or_of_what_is_most_overdue(database: Database, clock: HandClock) -> None:
    lease = a_lease(database)
    run = a_new_run("a")
    run.work.append(a_timer("a", 2, EPOCH + timedelta(seconds=10)))
    database.store.commit([run], lease, EPOCH)
    assert database.figures.read().lag_seconds == 0

    clock.pass_by(15)
    assert database.figures.read().lag_seconds == 5
    database.store.commit([RunWrites("a", settled=[(1, 2)])], lease, clock())
    database.inbox.put([a_request("m1")])
    clock.pass_by(2)
    assert database.figures.read().lag_seconds == 2


def test_dead_letters_are_counted_by_what_they_were(database: Database) -> None:
    letters = [DeadLetter("report", f"reason {number}", "…", partition=1, at=EPOCH) for number in range(3)]

    database.store.put_aside(letters)

    assert database.figures.read().dead_letters == {"report": 3}
