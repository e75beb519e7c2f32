"""What people and clients are shown."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from dramaturg_protocol.messages import Reply
from dramaturg_protocol.records import DeadLetter, Lease, RunWrites, Unreadable
from dramaturg_store.database import Database
from dramaturg_store.reads import Cursor
from dramaturg_store.run_filters import RunFilter
from tests.conformance.worlds import (
    EPOCH,
    HandClock,
    a_closed_run,
    a_lease,
    a_new_run,
    a_request,
    a_step,
    an_event,
    an_order,
)

Damage = Callable[[str], None]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def database(tmp_path: Path, clock: HandClock) -> Iterator[Database]:
    with Database(f"sqlite:///{tmp_path}/x.db", now=clock) as made:
        yield made


@pytest.fixture
def lease(database: Database) -> Lease:
    return a_lease(database)


@pytest.fixture
def damage(tmp_path: Path) -> Damage:
    """Writes to the file as no code of ours would."""

    def run(sql: str) -> None:
        connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
        connection.execute(sql)
        connection.close()

    return run


def test_pages_of_runs_go_from_new_to_old_without_a_gap(database: Database, lease: Lease) -> None:
    # Three runs a second, so that pages end between runs of one moment.
    turn = [
        a_new_run(f"run {number:02}", started_at=EPOCH + timedelta(seconds=number // 3), updated_at=EPOCH)
        for number in range(20)
    ]
    database.store.commit(turn, lease, EPOCH)

    pages: list[list[str]] = []
    after: Cursor | None = None
    while page := database.reads.list_runs(limit=4, after=after):
        pages.append([record.run_id for record in page])
        after = (page[-1].started_at, page[-1].run_id)

    assert [len(page) for page in pages] == [4] * 5
    assert [run_id for page in pages for run_id in page] == [f"run {number:02}" for number in reversed(range(20))]


def test_runs_are_filtered_and_counted(database: Database, lease: Lease) -> None:
    later = EPOCH + timedelta(hours=1)
    database.store.commit(
        [
            a_new_run("a", workflow="ship"),
            a_new_run("b", started_at=later, updated_at=later),
            a_closed_run("c", "FAILED"),
            a_closed_run("d"),
        ],
        lease,
        EPOCH,
    )
    reads = database.reads

    assert [record.run_id for record in reads.list_runs(RunFilter(workflow="ship"))] == ["a"]
    assert [record.run_id for record in reads.list_runs(RunFilter(statuses=["FAILED", "COMPLETED"]))] == ["d", "c"]
    assert [record.run_id for record in reads.list_runs(RunFilter(since=later))] == ["b"]
    assert reads.list_runs(RunFilter(workflow="nobody")) == []
    assert (reads.count_runs(), reads.count_runs(RunFilter("checkout", ["FAILED"]))) == (4, 1)


def test_an_id_resolves_while_its_start_waits_while_it_runs_and_after(database: Database) -> None:
    reads = database.reads
    assert reads.resolve("order-7") is None
    database.starts.submit([an_order("run", workflow_id="order-7", has_explicit_id=True)])
    assert (reads.resolve("order-7"), reads.resolve("run")) == ("run", "run")
    assert reads.pending_start("run") is not None

    write = a_closed_run("run", workflow_id="order-7")
    write.arrivals = [1]
    database.store.commit([write], a_lease(database), EPOCH)

    assert (reads.resolve("order-7"), reads.resolve("run")) == ("run", "run")
    assert reads.pending_start("run") is None
    database.starts.submit([an_order("second", workflow_id="order-7", has_explicit_id=True)])
    assert reads.resolve("order-7") == "second"


def test_the_newest_run_of_an_id_is_meant_where_nobody_claimed_it(database: Database, lease: Lease) -> None:
    later = EPOCH + timedelta(hours=1)
    old = a_closed_run("z", workflow_id="chain")
    new = a_new_run("a", workflow_id="chain", started_at=later, updated_at=later)
    database.store.commit([old, new], lease, EPOCH)

    assert database.reads.resolve("chain") == "a"


def test_runs_of_another_namespace_are_not_seen(database: Database, lease: Lease) -> None:
    database.store.commit([a_new_run("run", namespace="other")], lease, EPOCH)

    assert database.reads.run("run") is None
    assert database.reads.list_runs() == []
    assert database.reads.resolve("run") is None


def test_events_are_shown_from_a_number_on(database: Database, lease: Lease) -> None:
    write = a_new_run("run", last_event=3)
    write.events.append(an_event(3))
    database.store.commit([write], lease, EPOCH)

    events = database.reads.events("run", after=1)

    assert [(event.number, event.type) for event in events] == [(2, "step.scheduled"), (3, "step.completed")]
    assert events[1].data["result"] == {"cents": 12}
    assert events[1].time == EPOCH
    assert [event.number for event in database.reads.events("run", limit=1)] == [1]


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("data", "'{'", "not JSON"),
        ("data", "'[1]'", "list instead of an object"),
        ("data", "CAST(X'FF' AS TEXT)", "not JSON"),
        ("data", "X'00FF'", "not JSON"),
        ("type", "'step.teleported'", ""),
        ("time", "'yesterday'", ""),
    ],
)
def test_a_damaged_event_is_shown_and_its_run_alone_is_unreadable(
    database: Database, lease: Lease, damage: Damage, column: str, value: str, says: str
) -> None:
    database.store.commit([a_new_run("bad"), a_new_run("good")], lease, EPOCH)
    damage(f"UPDATE dramaturg_events SET {column} = {value} WHERE run_id = 'bad' AND number = 2")

    shown = database.reads.events("bad")
    loaded = database.store.load(["bad", "good"])

    assert [event.number for event in shown] == [1, 2]
    assert says in shown[1].damage
    assert isinstance(loaded["bad"], Unreadable)
    assert "run bad: event 2" in loaded["bad"].reason
    assert not isinstance(loaded["good"], Unreadable)


def test_a_damaged_row_of_a_run_does_not_stop_lists(database: Database, lease: Lease, damage: Damage) -> None:
    database.store.commit([a_new_run("bad"), a_new_run("good")], lease, EPOCH)
    damage("UPDATE dramaturg_runs SET started_at = 'soon' WHERE run_id = 'bad'")

    assert {record.run_id for record in database.reads.list_runs()} == {"bad", "good"}
    bad = database.store.load(["bad", "good"])["bad"]
    assert isinstance(bad, Unreadable)
    assert "a time in its row" in bad.reason


def test_open_work_of_a_run_is_shown(database: Database, lease: Lease) -> None:
    database.store.commit([a_new_run("run"), a_new_run("other")], lease, EPOCH)

    assert database.reads.open_work("run") == [a_step("run")]


def test_a_request_is_pending_until_it_is_answered(database: Database, lease: Lease) -> None:
    database.inbox.put([a_request("message")])
    assert database.reads.is_pending("message")
    assert database.reads.reply("message") is None

    database.store.commit([RunWrites("run", arrivals=[1], replies=[Reply("message", "NotFound")])], lease, EPOCH)

    assert not database.reads.is_pending("message")
    assert database.reads.reply("message") == Reply("message", "NotFound")


def test_dead_letters_come_in_pages(database: Database) -> None:
    database.store.put_aside([DeadLetter("report", f"reason {number}", "{") for number in range(5)])

    first = database.letters.list(limit=3)

    assert [letter.reason for letter in first] == ["reason 0", "reason 1", "reason 2"]
    assert [letter.id for letter in database.letters.list(after=first[-1].id)] == [4, 5]


def test_coordinators_are_there_until_they_leave_or_fall_silent(database: Database, clock: HandClock) -> None:
    reads, registry = database.reads, database.registry
    assert not reads.has_live_coordinator()
    registry.announce("one", fingerprint="abc", workflows={"checkout": [1, 2]})
    clock.pass_by(20)
    registry.announce("two", fingerprint="abc", workflows={"ship": [1]})

    assert [row.id for row in reads.coordinators()] == ["one", "two"]
    assert reads.workflow_names() == {"checkout", "ship"}

    clock.pass_by(20)
    assert [row.id for row in reads.coordinators()] == ["two"]
    registry.refresh("one")
    assert [row.id for row in reads.coordinators()] == ["one", "two"]
    registry.remove("one")
    registry.remove("two")
    assert not reads.has_live_coordinator()


def test_a_coordinator_that_announces_itself_again_replaces_its_row(database: Database) -> None:
    database.registry.announce("one", fingerprint="old", workflows={})
    database.registry.announce("one", fingerprint="new", workflows={"ship": [3]})

    (row,) = database.reads.coordinators()
    assert (row.fingerprint, row.workflows) == ("new", {"ship": [3]})
