"""One clock, the database's: what the machine of a client or a coordinator believes does not matter."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from dramaturg_protocol.records import DeadLetter
from dramaturg_store.database import Database
from dramaturg_store.database_time import time_of
from dramaturg_store.schema import inbox, start_keys
from tests.conformance.worlds import (
    EPOCH,
    HandClock,
    World,
    a_closed_run,
    a_lease,
    a_server_world,
    an_order,
)

pytestmark = pytest.mark.conformance

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)
FAR_AHEAD = datetime(2099, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[World]:
    made = a_server_world(request.getfixturevalue(f"{request.param}_url"))
    yield made
    made.close()


def opened(world: World, at: datetime) -> Database:
    """A process whose machine's clock is wrong."""
    world.clock = HandClock(at)
    database = world.open()
    assert isinstance(database, Database)
    return database


def time_at(database: Database) -> datetime:
    with database.engine.connect() as connection:
        return time_of(connection, lambda: LONG_AGO)


@pytest.mark.parametrize("wrong", [LONG_AGO, FAR_AHEAD])
def test_what_clients_send_bears_the_servers_time(server: World, wrong: datetime) -> None:
    database = opened(server, wrong)
    before = time_at(database)

    database.starts.submit([an_order("plain"), an_order("keyed", digest="digest")])
    database.starts.submit([an_order("alone")])

    with database.engine.connect() as connection:
        sent = list(connection.scalars(select(inbox.c.sent_at)))
        sent += list(connection.scalars(select(start_keys.c.created_at)))
    assert len(sent) == 4
    assert all(before <= at <= time_at(database) for at in sent)


def test_a_client_whose_clock_is_wrong_sees_the_coordinator_that_is_there(server: World) -> None:
    first = opened(server, LONG_AGO)
    first.registry.announce("one", fingerprint="x", workflows={})

    for wrong in (LONG_AGO, FAR_AHEAD):
        assert [row.id for row in opened(server, wrong).reads.coordinators()] == ["one"]


def test_what_is_put_aside_bears_the_servers_time(server: World) -> None:
    database = opened(server, LONG_AGO)
    before = time_at(database)

    database.store.put_aside([DeadLetter("report", "why", "what")])

    at = database.letters.list()[0].at
    assert at is not None
    assert before <= at <= time_at(database)


def test_a_machine_that_is_ahead_prunes_nothing_too_early(server: World) -> None:
    database = opened(server, FAR_AHEAD)
    now = time_at(database)
    database.store.commit([a_closed_run("run", started_at=now, updated_at=now, closed_at=now)], a_lease(database), now)

    assert database.prune.closed_runs(timedelta(hours=1)) == 0


def test_a_machine_that_is_ahead_takes_nothing_for_long_past(server: World) -> None:
    opened(server, LONG_AGO).registry.announce("one", fingerprint="x", workflows={})
    database = opened(server, FAR_AHEAD)

    database.prune.leftovers()

    assert len(database.reads.coordinators()) == 1


def test_a_file_keeps_the_highest_time_that_it_has_seen(tmp_path: Path) -> None:
    clock = HandClock()
    with Database(f"sqlite:///{tmp_path}/x.db", now=clock) as database:
        database.store.commit([a_closed_run("run")], a_lease(database), EPOCH + timedelta(days=9))

        with database.engine.connect() as connection:
            assert time_of(connection, clock) == EPOCH + timedelta(days=9)
        clock.pass_by(10 * 86_400)
        with database.engine.connect() as connection:
            assert time_of(connection, clock) == EPOCH + timedelta(days=10)
