"""Starts in transactions of callers, on the servers: what the caller's isolation lets him see must not decide."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from dramaturg_protocol.errors import AlreadyStarted
from dramaturg_protocol.records import StartOrder
from dramaturg_store.database import Database
from tests.conformance.worlds import World, a_server_world, an_order

pytestmark = pytest.mark.conformance


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[World]:
    made = a_server_world(request.getfixturevalue(f"{request.param}_url"))
    yield made
    made.close()


@pytest.fixture
def database(server: World) -> Database:
    made = server.open()
    assert isinstance(made, Database)
    return made


@pytest.fixture
def callers_engine(database: Database) -> Iterator[Engine]:
    """As an application makes its own: with its database's default isolation."""
    engine = create_engine(database.engine.url)
    yield engine
    engine.dispose()


def waiting(database: Database) -> list[str]:
    return [request.run_id for request in database.inbox.take(database.partitions, 99)]


def named(run_id: str) -> StartOrder:
    return an_order(run_id, workflow_id="order-17", has_explicit_id=True)


def test_a_start_happens_with_the_callers_commit_or_not_at_all(database: Database, callers_engine: Engine) -> None:
    with callers_engine.begin() as connection:
        database.starts.submit([an_order("kept")], connection)
    with callers_engine.connect() as connection:
        database.starts.submit([an_order("dropped")], connection)
        connection.rollback()

    assert waiting(database) == ["kept"]


def test_an_id_that_was_taken_after_the_callers_transaction_began_is_taken(
    database: Database, callers_engine: Engine
) -> None:
    with callers_engine.connect() as connection:
        connection.execute(text("SELECT count(*) FROM dramaturg_inbox")).all()
        database.starts.submit([named("first")])

        with pytest.raises(AlreadyStarted):
            database.starts.submit([named("second")], connection)
        connection.commit()

    assert waiting(database) == ["first"]


def test_an_id_that_the_callers_transaction_took_itself_is_taken(database: Database, callers_engine: Engine) -> None:
    with callers_engine.begin() as connection:
        database.starts.submit([named("first")], connection)
        with pytest.raises(AlreadyStarted):
            database.starts.submit([named("second")], connection)

    assert waiting(database) == ["first"]


def test_a_connection_of_a_coroutine_is_the_callers_own_too(database: Database) -> None:
    if database.engine.dialect.name != "postgresql":
        pytest.skip("the driver for coroutines is psycopg's")
    url = database.engine.url

    async def start(run_id: str, *, is_kept: bool) -> None:
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            await connection.run_sync(lambda own: database.starts.submit([an_order(run_id)], own))
            await (connection.commit() if is_kept else connection.rollback())
        await engine.dispose()

    asyncio.run(start("kept", is_kept=True))
    asyncio.run(start("dropped", is_kept=False))

    assert waiting(database) == ["kept"]


def test_an_engine_of_the_caller_serves_a_whole_database(database: Database, callers_engine: Engine) -> None:
    with Database(callers_engine, database.namespace) as theirs:
        theirs.starts.submit([named("first")])
        with pytest.raises(AlreadyStarted):
            theirs.starts.submit([named("second")])
        lease = theirs.leases.acquire("one")
        assert lease is not None
        theirs.leases.release(lease)

    assert waiting(database) == ["first"]
    with callers_engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
