"""What goes with time, and what stays."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from dramaturg_protocol.messages import Reply
from dramaturg_protocol.records import RunWrites
from dramaturg_store.database import Database
from tests.conformance.worlds import EPOCH, HandClock, a_closed_run, a_lease, a_new_run, an_order

DAY = 86_400


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def database(tmp_path: Path, clock: HandClock) -> Iterator[Database]:
    with Database(f"sqlite:///{tmp_path}/x.db", now=clock) as made:
        yield made


def test_old_closed_runs_go_with_their_events_and_open_ones_stay(database: Database, clock: HandClock) -> None:
    lease = a_lease(database)
    database.store.commit([a_closed_run(f"old {number}") for number in range(250)], lease, EPOCH)
    database.store.commit([a_new_run("open")], lease, EPOCH)

    clock.pass_by(DAY)
    assert database.prune.closed_runs(timedelta(days=2)) == 0
    clock.pass_by(9 * DAY)
    assert database.prune.closed_runs(timedelta(days=2)) == 250

    assert [record.run_id for record in database.reads.list_runs()] == ["open"]
    assert database.reads.events("old 7") == []
    assert len(database.reads.events("open")) == 2


def test_the_id_of_a_pruned_run_is_free_again(database: Database, clock: HandClock) -> None:
    order = an_order("run", workflow_id="order-7", has_explicit_id=True, reuse="never")
    database.starts.submit([order])
    write = a_closed_run("run", workflow_id="order-7")
    write.arrivals = [1]
    database.store.commit([write], a_lease(database), EPOCH)
    clock.pass_by(DAY)
    database.prune.closed_runs(timedelta(hours=1))

    again = an_order("second", workflow_id="order-7", has_explicit_id=True, reuse="never")
    assert database.starts.submit([again])[0].is_new


def test_the_key_of_a_pruned_run_is_kept_for_thirty_days(database: Database, clock: HandClock) -> None:
    database.starts.submit([an_order("run", digest="digest")])
    write = a_closed_run("run")
    write.arrivals = [1]
    database.store.commit([write], a_lease(database), EPOCH)
    clock.pass_by(DAY)
    database.prune.closed_runs(timedelta(hours=1))
    database.prune.leftovers()
    assert not database.starts.submit([an_order("run", digest="digest", message_id="later")])[0].is_new

    clock.pass_by(30 * DAY)
    database.prune.leftovers()

    assert database.starts.submit([an_order("run", digest="digest", message_id="much later")])[0].is_new


def test_the_key_of_a_run_that_is_kept_stays(database: Database, clock: HandClock) -> None:
    database.starts.submit([an_order("run", digest="digest"), an_order("waiting", digest="digest")])
    write = a_new_run("run")
    write.arrivals = [1]
    database.store.commit([write], a_lease(database), EPOCH)
    clock.pass_by(400 * DAY)

    database.prune.leftovers()

    again = [an_order("run", digest="digest", message_id="2"), an_order("waiting", digest="digest", message_id="3")]
    assert [outcome.is_new for outcome in database.starts.submit(again)] == [False, False]


def test_answers_that_nobody_fetched_go_after_an_hour(database: Database, clock: HandClock) -> None:
    database.store.commit([RunWrites("run", replies=[Reply("message")])], a_lease(database), EPOCH)
    clock.pass_by(3000)
    database.prune.leftovers()
    assert database.reads.reply("message") is not None

    clock.pass_by(1000)
    database.prune.leftovers()

    assert database.reads.reply("message") is None


@pytest.mark.parametrize(("retention", "left"), [(None, 1), (timedelta(days=2), 0)], ids=["keeps all", "two days"])
def test_closed_runs_go_when_their_retention_is_over(
    database: Database, clock: HandClock, retention: timedelta | None, left: int
) -> None:
    database.store.commit([a_closed_run("old")], a_lease(database), EPOCH)
    clock.pass_by(9 * DAY)

    database.prune.by(retention)

    assert len(database.reads.list_runs()) == left
