"""`exactly_once`: what a step writes and what came of it are one transaction of a database of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from dramaturg import (
    ConfigurationError,
    RetryPolicy,
    Settings,
    StepFailed,
    create_outcomes_table,
    current_step,
    prune_outcomes,
    step,
    step_ref,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from dramaturg_actors import exactly_once
from dramaturg_store.outcomes import create_on
from tests import isolated_database_steps

FAST = RetryPolicy(max_attempts=3, initial="1s")


@pytest.fixture
def books_url(server_url: str | None, tmp_path: Path) -> str:
    return server_url or f"sqlite:///{tmp_path}/books.db"


@pytest.fixture
def books(books_url: str) -> Generator[Engine, None, None]:
    """The application's own database."""
    engine = create_engine(books_url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS once_books"))
        connection.execute(text("CREATE TABLE once_books (amount INTEGER)"))
    yield engine
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE once_books"))
    engine.dispose()


def write(connection: Connection, amount: int) -> None:
    connection.execute(text("INSERT INTO once_books (amount) VALUES (:amount)"), {"amount": amount})


def written(books: Engine) -> list[int]:
    with books.connect() as connection:
        return list(connection.scalars(text("SELECT amount FROM once_books ORDER BY amount")))


def recorded(books: Engine) -> list[tuple[str, str]]:
    with books.connect() as connection:
        return [tuple(row) for row in connection.execute(text("SELECT step, kind FROM dramaturg_outcomes"))]


@pytest.fixture(autouse=True)
def _no_outcomes(books: Engine) -> Generator[None, None, None]:
    yield
    with books.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS dramaturg_outcomes"))


def lose_reports(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """After so many commits the worker fails before it can tell."""
    original = exactly_once.OneTransaction.run
    left = [number]

    def run(self: Any, engine: Engine) -> Any:
        value = original(self, engine)
        if left[0]:
            left[0] -= 1
            raise OSError("the connection broke after the commit")
        return value

    monkeypatch.setattr(exactly_once.OneTransaction, "run", run)


@pytest.mark.selection
@pytest.mark.parametrize("local", [False, True])
def test_an_attempt_whose_report_is_lost_is_not_done_again(
    env: WorkflowEnv, books: Engine, monkeypatch: pytest.MonkeyPatch, local: bool
) -> None:
    calls: list[int] = []

    @step(exactly_once=books, retries=FAST, local=local)
    def book(amount: int, *, connection: Connection | None = None) -> tuple[int, str]:
        about = current_step()
        assert about is not None
        assert connection is not None
        assert connection is about.connection
        calls.append(about.attempt)
        write(connection, amount)
        return amount, "booked"

    @workflow
    async def flow() -> list[tuple[int, str]]:
        return [await book(1), await book(2)]

    lose_reports(monkeypatch, 2)

    assert env.run(flow) == [(1, "booked"), (2, "booked")]
    assert calls == [1, 1]
    assert written(books) == [1, 2]
    assert recorded(books) == [("book", "completed")] * 2


def test_a_process_that_is_killed_after_the_commit_does_it_once(
    env: WorkflowEnv, books: Engine, books_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(isolated_database_steps.URL, books_url)
    monkeypatch.setenv(isolated_database_steps.MARK, str(tmp_path / "mark"))

    @workflow
    async def flow() -> int:
        return await isolated_database_steps.book_and_die.options(retries=FAST)(21)

    handle = env.start(flow)
    assert handle.result() == 42
    assert (tmp_path / "mark").exists()
    assert [event.data["error"]["type"] for event in handle.events() if event.type == "step.retrying"] == ["WorkerLost"]
    assert written(books) == [21]


def test_an_error_undoes_what_the_step_wrote_and_the_next_attempt_does_it(env: WorkflowEnv, books: Engine) -> None:
    @step(exactly_once=books, retries=FAST)
    def book(amount: int) -> int:
        about = current_step()
        assert about is not None
        write(about.connection, amount)
        if about.attempt == 1:
            raise ValueError("not yet")
        return about.attempt

    @workflow
    async def flow() -> int:
        return await book(7)

    assert env.run(flow) == 2
    assert written(books) == [7]


def test_two_copies_of_a_message_at_once_do_it_once(env: WorkflowEnv, books: Engine) -> None:
    """The second waits at the key, and is given what the first one recorded."""
    with books.begin() as connection:
        create_on(connection)
    begun = threading.Barrier(2, timeout=30)
    calls: list[int] = []

    @step(exactly_once=books)
    def book(amount: int, connection: Connection) -> int:
        calls.append(amount)
        write(connection, amount)
        return amount

    work = exactly_once.OneTransaction(book.definition, _Context(), lambda **given: book.fn(5, **given), 1000)  # type: ignore[arg-type]
    found: list[int] = []

    def do() -> None:
        begun.wait()
        found.append(work.run(books))

    threads = [threading.Thread(target=do) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert found == [5, 5]
    assert calls == [5]
    assert written(books) == [5]


class _Context:
    idempotency_key = "run:1:1"
    is_left_open = False

    def lend(self, connection: Any) -> None:
        """There is no step that would ask."""


def test_the_step_runs_again_in_another_generation(env: WorkflowEnv, books: Engine) -> None:
    @step(exactly_once=books, retries=0)
    def book(amount: int) -> int:
        about = current_step()
        assert about is not None
        write(about.connection, amount)
        return amount

    @step(retries=0)
    def check() -> None:
        raise ValueError("no")

    @workflow
    async def flow() -> int:
        await check()
        return await book(1)

    handle = env.start(flow)
    with pytest.raises(Exception, match="no"):
        handle.result()
    assert written(books) == []


@pytest.mark.selection
def test_an_async_step_has_an_async_connection(
    env: WorkflowEnv, books: Engine, books_url: str, database_kind: str
) -> None:
    if database_kind == "mariadb":
        pytest.skip("no asynchronous driver for it here")
    url = books_url.replace("sqlite:///", "sqlite+aiosqlite:///")
    calls: list[int] = []

    def engine() -> Any:
        return made

    made = create_async_engine(url, poolclass=NullPool)

    @step(exactly_once=engine, retries=FAST)
    async def book(amount: int, connection: AsyncConnection | None = None) -> int:
        assert connection is not None
        calls.append(amount)
        await connection.execute(text("INSERT INTO once_books (amount) VALUES (:amount)"), {"amount": amount})
        if len(calls) == 1:
            raise ValueError("not yet")
        return amount

    @workflow
    async def flow() -> int:
        return await book(4)

    assert env.run(flow) == 4
    assert written(books) == [4]
    assert recorded(books) == [("book", "completed")]


def test_what_is_left_open_stays_left_open(env: WorkflowEnv, books: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens: list[str] = []

    @step(exactly_once=books, retries=FAST)
    def ask(amount: int) -> str:
        about = current_step()
        assert about is not None
        write(about.connection, amount)
        tokens.append(about.complete_later())
        return ""

    @workflow
    async def flow() -> str:
        return await ask(3)

    lose_reports(monkeypatch, 1)
    handle = env.start(flow)
    env.advance("10s")
    env.client.complete_step(tokens[0], "yes")

    assert handle.result() == "yes"
    assert len(tokens) == 1
    assert written(books) == [3]


def test_a_step_that_commits_by_itself_is_told(env: WorkflowEnv, books: Engine) -> None:
    @step(exactly_once=books, retries=FAST)
    def book(connection: Connection) -> None:
        write(connection, 1)
        connection.commit()
        raise ValueError("after that")

    @workflow
    async def flow() -> str:
        with pytest.raises(StepFailed, match=r"leave commit\(\) out"):
            await book()  # type: ignore[call-arg]
        return "told"

    assert env.run(flow) == "told"


def test_the_outcome_is_sealed_where_there_is_a_codec(make_env: Callable[..., WorkflowEnv], books: Engine) -> None:
    from cryptography.fernet import Fernet

    @step(exactly_once=books)
    def book() -> str:
        return "canary"

    @workflow
    async def flow() -> str:
        return await book()

    settings = Settings(codec="fernet", encryption_keys=[Fernet.generate_key().decode()])  # type: ignore[list-item]
    with make_env(settings=settings) as env:
        assert env.run(flow) == "canary"
    with books.connect() as connection:
        assert "canary" not in str(connection.execute(text("SELECT * FROM dramaturg_outcomes")).all())


def test_old_outcomes_are_pruned_and_the_table_is_made_once(books: Engine) -> None:
    create_outcomes_table(books)
    create_outcomes_table(books)
    assert prune_outcomes(books, "30d") == 0


def test_wrong_engines_are_refused_where_they_are_given(env: WorkflowEnv, books: Engine) -> None:
    with pytest.raises(TypeError, match="exactly_once must be a SQLAlchemy Engine"):
        step(exactly_once="sqlite://")
    with pytest.raises(TypeError, match="exactly_once has an AsyncEngine: a `def` takes an Engine"):
        step(name="wrong", exactly_once=create_async_engine("sqlite+aiosqlite://"))(lambda: None)
    with pytest.raises(TypeError, match="exactly_once is set at the @step itself"):
        step_ref("elsewhere", exactly_once=books)
    with pytest.raises(ValueError, match="exactly_once is set at @step"):
        Settings(step={"exactly_once": books})

    with pytest.raises(TypeError, match="an `async def` takes an AsyncEngine"):

        @step(exactly_once=books)
        async def late() -> None: ...


def test_an_engine_is_one_of_the_call_only_at_the_decorator(books: Engine) -> None:
    @step
    def plain() -> None: ...

    with pytest.raises(TypeError, match="exactly_once is set at @step"):
        plain.options(exactly_once=books)


def test_an_engine_without_transactions_is_refused(books_url: str) -> None:
    engine = create_engine(books_url, isolation_level="AUTOCOMMIT")
    with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
        create_outcomes_table(engine)
    engine.dispose()


def test_outside_of_such_a_step_there_is_no_connection(env: WorkflowEnv) -> None:
    @step(retries=0)
    def plain() -> None:
        about = current_step()
        assert about is not None
        about.connection  # noqa: B018

    @workflow
    async def flow() -> None:
        with pytest.raises(StepFailed, match="give it exactly_once"):
            await plain()

    env.run(flow)
