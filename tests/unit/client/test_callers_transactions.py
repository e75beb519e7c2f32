"""Engines and transactions of callers: a start happens if and only if the caller's transaction commits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from dramaturg import AsyncClient, Client, ConfigurationError, Settings, workflow
from dramaturg.callers_transactions import connection_of
from dramaturg.links import POLL, DatabaseLink
from dramaturg.notices import Notices
from dramaturg_store.database import Database

LONG = 60.0


@pytest.fixture
def engine(url: str, alone: Client) -> Generator[Engine, None, None]:
    """As an application makes its own, with a table of its own, in the file that a client has made."""
    assert alone.count() == 0
    made = create_engine(url)
    with made.begin() as connection:
        connection.execute(text("CREATE TABLE orders (id TEXT)"))
    yield made
    made.dispose()


def a_flow() -> Any:
    @workflow
    async def flow(number: int) -> int:
        return number

    return flow


def orders_in(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM orders")).scalar_one())


def is_there(client: Client, run_id: str) -> bool:
    return client._link.database.reads.pending_start(run_id) is not None  # pyright: ignore[reportPrivateUsage]


# In a transaction.


def test_a_start_in_a_session_happens_with_its_commit(alone: Client, engine: Engine) -> None:
    with Session(engine) as session:
        session.execute(text("INSERT INTO orders VALUES ('17')"))
        handle = alone.start(a_flow(), 1, connection=session)
        assert not is_there(alone, handle.run_id)
        session.commit()

    assert is_there(alone, handle.run_id)
    assert orders_in(engine) == 1


def test_a_start_in_a_session_that_is_rolled_back_never_was(alone: Client, engine: Engine) -> None:
    with Session(engine) as session:
        session.execute(text("INSERT INTO orders VALUES ('17')"))
        handle = alone.start(a_flow(), 1, connection=session)
        session.rollback()

    assert not is_there(alone, handle.run_id)
    assert orders_in(engine) == 0


def test_a_scoped_session_is_a_session(alone: Client, engine: Engine) -> None:
    session = scoped_session(sessionmaker(engine))

    handle = alone.start(a_flow(), 1, connection=session)
    session.commit()
    session.remove()

    assert is_there(alone, handle.run_id)


def test_many_in_a_transaction_are_all_or_none(alone: Client, engine: Engine) -> None:
    with engine.begin() as connection:
        kept = alone.start_many(a_flow(), [(number,) for number in range(3)], connection=connection)
    with engine.connect() as connection:
        dropped = alone.start_many(a_flow(), [(number,) for number in range(3)], connection=connection)
        connection.rollback()

    assert [is_there(alone, handle.run_id) for handle in kept + dropped] == [True] * 3 + [False] * 3


@pytest.mark.parametrize("given", [7, "sqlite://"])
def test_what_is_no_connection_is_told_so(alone: Client, given: object) -> None:
    with pytest.raises(TypeError, match="Connection or Session"):
        alone.start(a_flow(), 1, connection=given)


def test_a_connection_of_a_coroutine_is_sent_to_the_other_client(alone: Client, url: str) -> None:
    session = AsyncSession(create_async_engine(url.replace("sqlite", "sqlite+aiosqlite")))

    with pytest.raises(TypeError, match="AsyncClient"):
        alone.start(a_flow(), 1, connection=session)


# The coordinator is told afterwards.


@pytest.fixture
def told(url: str) -> Generator[tuple[Client, threading.Event], None, None]:
    """A client, and what is set when it tells the coordinator."""
    is_told = threading.Event()
    with Database(url) as database, Client(_link=DatabaseLink(database, Notices(POLL), wake=is_told.set)) as client:
        yield client, is_told


def test_the_coordinator_is_told_once_the_connection_is_given_back(
    told: tuple[Client, threading.Event], engine: Engine
) -> None:
    client, is_told = told
    with engine.begin() as connection:
        handle = client.start(a_flow(), 1, connection=connection)
        assert not is_told.is_set()

    assert is_told.wait(LONG)
    assert is_there(client, handle.run_id)


def test_the_coordinator_is_told_after_the_commit_of_a_session_that_goes_on(
    told: tuple[Client, threading.Event], engine: Engine
) -> None:
    client, is_told = told
    with Session(engine) as session:
        client.start(a_flow(), 1, connection=session)
        session.commit()

        assert is_told.wait(LONG)


def test_a_connection_that_is_used_again_tells_nobody(told: tuple[Client, threading.Event], engine: Engine) -> None:
    client, is_told = told
    with engine.begin() as connection:
        client.start(a_flow(), 1, connection=connection)
    assert is_told.wait(LONG)
    is_told.clear()

    with engine.begin() as connection:
        assert "dramaturg_wake" not in connection_of(connection).info

    assert not is_told.is_set()


# Coroutines.


@pytest.fixture
def async_url(url: str, engine: Engine) -> str:
    assert orders_in(engine) == 0
    return url.replace("sqlite:", "sqlite+aiosqlite:")


async def started_in(client: AsyncClient, given: AsyncConnection | AsyncSession) -> str:
    await given.execute(text("INSERT INTO orders VALUES ('17')"))
    handle = await client.start(a_flow(), 1, connection=given)
    return handle.run_id


@pytest.mark.parametrize("is_kept", [True, False])
@pytest.mark.parametrize("is_session", [True, False])
def test_a_start_of_a_coroutine_happens_with_its_commit(
    alone: Client, engine: Engine, async_url: str, is_session: bool, is_kept: bool
) -> None:
    async def main() -> str:
        theirs = create_async_engine(async_url)
        async with AsyncSession(theirs) if is_session else theirs.connect() as given:
            run_id = await started_in(AsyncClient.of(alone), given)
            await (given.commit() if is_kept else given.rollback())
        await theirs.dispose()
        return run_id

    run_id = asyncio.run(main())

    assert is_there(alone, run_id) == is_kept
    assert orders_in(engine) == (1 if is_kept else 0)


def test_many_starts_of_a_coroutine_join_its_transaction(alone: Client, async_url: str) -> None:
    async def main() -> list[str]:
        theirs = create_async_engine(async_url)
        async with theirs.begin() as connection:
            handles = await AsyncClient.of(alone).start_many(a_flow(), [(1,), (2,)], connection=connection)
        await theirs.dispose()
        return [handle.run_id for handle in handles]

    assert all(is_there(alone, run_id) for run_id in asyncio.run(main()))


def test_a_connection_bound_to_the_workflow_is_found(alone: Client, async_url: str) -> None:
    async def main() -> str:
        theirs = create_async_engine(async_url)
        async with theirs.connect() as connection:
            bound = a_flow().options(connection=connection)
            handle = await AsyncClient.of(alone).start(bound, 1)
            await connection.rollback()
        await theirs.dispose()
        return handle.run_id

    assert not is_there(alone, asyncio.run(main()))


def test_a_plain_connection_is_sent_to_the_other_client(alone: Client, engine: Engine) -> None:
    async def main(connection: object) -> None:
        await AsyncClient.of(alone).start(a_flow(), 1, connection=connection)

    with engine.connect() as connection, pytest.raises(TypeError, match="AsyncConnection"):
        asyncio.run(main(connection))


# An engine.


def test_a_client_works_on_the_callers_engine_and_leaves_it_open(engine: Engine, alone: Client) -> None:
    with Client(engine=engine) as client:
        handle = client.start(a_flow(), 1, id="order-17")
        assert client.handle("order-17").run_id == handle.run_id
    pool = engine.pool

    assert is_there(alone, handle.run_id)
    assert orders_in(engine) == 0
    assert engine.pool is pool, "it was not disposed of"


def test_a_new_file_of_the_callers_gets_its_tables_and_its_write_ahead_log(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/new.db")

    with Client(engine=engine) as client:
        client.start(a_flow(), 1)
        with engine.connect() as connection:
            assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
    engine.dispose()


def test_an_engine_that_cannot_be_used_is_told_what_can() -> None:
    with pytest.raises(ConfigurationError, match="in memory"):
        Client(engine=create_engine("sqlite://"))
    with pytest.raises(ConfigurationError, match=r"write sqlite\+pysqlite://"):
        Client(engine=create_engine("sqlite+pysqlcipher://:x@/x.db", module=__import__("sqlite3")))
    with pytest.raises(ConfigurationError, match="create_engine"):
        Client(engine=create_async_engine("sqlite+aiosqlite://"))


def test_an_engine_and_a_broker_are_one_too_many(engine: Engine) -> None:
    with pytest.raises(ConfigurationError, match="not both"):
        Client(Settings(), broker=object(), engine=engine)


# A signal.


def signals_in(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT body FROM dramaturg_inbox WHERE kind = 'signal'")))


def test_a_signal_in_a_session_happens_with_its_commit(alone: Client, engine: Engine) -> None:
    handle = alone.start(a_flow(), 1)
    with Session(engine) as session:
        handle.signal("go", 1, connection=session)
        session.rollback()
        handle.signal("go", 2, connection=session)
        assert signals_in(engine) == []
        session.commit()

    (body,) = signals_in(engine)
    assert '"payload":"2"' in body


def test_a_signal_is_put_off_with_the_commit_of_a_session(alone: Client, engine: Engine) -> None:
    handle = alone.start(a_flow(), 1)
    with Session(engine) as session:
        handle.signal("go", 1, delay="1d", connection=session)
        session.rollback()
        handle.signal("go", 2, delay="1d", connection=session)
        session.commit()

    assert signals_in(engine) == []
    with engine.connect() as connection:
        (body,) = connection.scalars(text("SELECT body FROM dramaturg_postponed WHERE kind = 'signal'"))
    assert '"payload":"2"' in body


def test_a_signal_of_a_coroutine_happens_with_its_commit(alone: Client, engine: Engine, async_url: str) -> None:
    run_id = alone.start(a_flow(), 1).run_id

    async def main() -> None:
        theirs = create_async_engine(async_url)
        async with AsyncSession(theirs) as session:
            await AsyncClient.of(alone).handle(run_id).signal("go", 2, connection=session)
            assert signals_in(engine) == []
            await session.commit()
        await theirs.dispose()

    asyncio.run(main())

    assert len(signals_in(engine)) == 1
