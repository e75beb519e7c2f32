"""Starts in a caller's own transaction, and over processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from dramaturg_protocol.errors import AlreadyStarted
from dramaturg_protocol.records import StartOutcome
from dramaturg_store.database import Database
from tests.conformance.worlds import a_request, an_order

RACER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from dramaturg_protocol.records import StartOrder
from dramaturg_store.database import Database

def submit(number):
    order = StartOrder("run", "run", "checkout", f"message {sys.argv[2]} {number}", "{}", digest="digest")
    return database.starts.submit([order])[0].is_new

with Database(sys.argv[1]) as database, ThreadPoolExecutor(5) as threads:
    sys.stdin.read()
    print(*threads.map(submit, range(5)))
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(f"sqlite:///{tmp_path}/x.db") as made:
        yield made


@pytest.fixture
def callers_engine(tmp_path: Path) -> Iterator[Engine]:
    """As an application makes its own: nothing set up."""
    engine = create_engine(f"sqlite:///{tmp_path}/x.db")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (id INTEGER)"))
    yield engine
    engine.dispose()


def waiting(database: Database) -> list[str]:
    return [request.run_id for request in database.inbox.take(database.partitions, 99)]


def test_a_start_happens_with_the_callers_commit(database: Database, callers_engine: Engine) -> None:
    with callers_engine.begin() as connection:
        database.starts.submit([an_order("run")], connection)
        connection.execute(text("INSERT INTO orders VALUES (1)"))
        assert waiting(database) == []

    assert waiting(database) == ["run"]


def test_a_start_is_undone_with_the_callers_rollback(database: Database, callers_engine: Engine) -> None:
    with callers_engine.connect() as connection:
        database.starts.submit([an_order("run")], connection)
        database.inbox.put([a_request("cancel")], connection)
        connection.rollback()

    assert waiting(database) == []


def test_a_refused_start_leaves_what_the_caller_wrote(database: Database, callers_engine: Engine) -> None:
    taken = {"workflow_id": "order-7", "has_explicit_id": True}
    database.starts.submit([an_order("run", **taken)])

    with callers_engine.begin() as connection:
        connection.execute(text("INSERT INTO orders VALUES (1)"))
        with pytest.raises(AlreadyStarted):
            database.starts.submit([an_order("fresh"), an_order("second", **taken)], connection)

    with callers_engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM orders")).scalar() == 1
    assert waiting(database) == ["run"]


def test_a_repeat_in_a_callers_transaction_counts_once(database: Database, callers_engine: Engine) -> None:
    with callers_engine.begin() as connection:
        database.starts.submit([an_order("run")], connection)
        again = database.starts.submit([an_order("run")], connection)

    assert again == [StartOutcome("run", "run", is_new=False)]
    assert waiting(database) == ["run"]


def test_twenty_racers_in_four_processes_with_one_key_begin_one_run(database: Database) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(database.engine.url), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for racer in racers:
        assert racer.stdin
        racer.stdin.close()
        racer.stdin = None

    answers = [answer for racer in racers for answer in racer.communicate()[0].split()]

    assert sorted(answers) == ["False"] * 19 + ["True"]
    assert waiting(database) == ["run"]
