"""Engines: what is set up, and what a wrong URL is told."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import insert, text

from dramaturg_protocol.errors import ConfigurationError
from dramaturg_store.database import Database
from dramaturg_store.engines import database_file, make_engine
from dramaturg_store.schema import settings
from dramaturg_store.transactions import Transactions


@pytest.mark.parametrize("url", ["", "orders.db", "://", "sqlite:/x.db"])
def test_a_url_that_is_none_is_told_what_one_looks_like(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sqlite:///path/to/file\.db"):
        make_engine(url)


def test_another_database_is_told_which_ones_there_are() -> None:
    with pytest.raises(ConfigurationError, match="SQLite, PostgreSQL, MariaDB or MySQL"):
        make_engine("oracle://scott@host/db")


@pytest.mark.parametrize("driver", ["asyncpg", "nosuch"])
def test_another_driver_is_told_which_one_to_use(driver: str) -> None:
    with pytest.raises(ConfigurationError, match=r"write postgresql\+psycopg://"):
        make_engine(f"postgresql+{driver}://host/db")


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("postgresql://me:secret@host/db", "psycopg", "postgres"),
        ("postgres://me:secret@host/db", "psycopg", "postgres"),
        ("mysql://me:secret@host/db", "pymysql", "mysql"),
        ("mariadb://me:secret@host/db", "pymysql", "mysql"),
    ],
)
def test_a_missing_driver_names_the_extra(url: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)

    with pytest.raises(ConfigurationError) as raised:
        make_engine(url)

    assert f"pip install 'dramaturg[{extra}]'" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_the_folder_of_a_file_is_made(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path}/a/b/dramaturg.db")

    assert (tmp_path / "a" / "b" / "dramaturg.db").is_file()
    engine.dispose()


def test_a_relative_file_stays_where_it_was_when_the_process_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    engine = make_engine("sqlite:///dramaturg.db")

    assert database_file(engine) == tmp_path / "dramaturg.db"
    engine.dispose()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match=r"folder of .*x\.db cannot be made"):
        make_engine(f"sqlite:///{tmp_path}/file/x.db")


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="it is a folder"):
        make_engine(f"sqlite:///{tmp_path}")


def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes of the meeting, and they are long enough." * 99)
    before = path.read_bytes()

    with pytest.raises(ConfigurationError, match="not a SQLite database"):
        make_engine(f"sqlite:///{path}")

    assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(ConfigurationError, match="permissions"):
        make_engine(f"sqlite:///{tmp_path}/x.db")


def test_a_file_is_set_up_to_survive_a_power_cut(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path}/x.db")

    with engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }

    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}
    engine.dispose()


def test_a_database_in_memory_is_gone_when_closed() -> None:
    database = Database("sqlite://")
    folder = database_file(database.engine).parent
    assert folder.is_dir()

    database.close()

    assert not folder.exists()


def test_two_databases_in_memory_are_two() -> None:
    with Database("sqlite://") as one, Database("sqlite://") as two:
        assert one.secret != two.secret


def test_a_reader_does_not_wait_for_the_writer(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path}/x.db") as database:
        transactions = Transactions(database.engine)

        with transactions.writing() as writer:
            writer.execute(insert(settings), {"name": "new", "value": "1"})
            with transactions.reading() as reader:
                assert reader.execute(text("SELECT count(*) FROM dramaturg_settings WHERE name = 'new'")).scalar() == 0


def test_writers_of_one_process_queue_also_over_several_engines(tmp_path: Path) -> None:
    """None of them gets to SQLite's busy handler, which would wait in growing pauses."""
    databases = [Database(f"sqlite:///{tmp_path}/x.db") for _ in range(2)]
    is_waiting = threading.Event()
    order: list[str] = []

    def write_second() -> None:
        is_waiting.set()
        with Transactions(databases[1].engine).writing():
            order.append("second")

    with Transactions(databases[0].engine).writing():
        thread = threading.Thread(target=write_second)
        thread.start()
        is_waiting.wait()
        order.append("first")
    thread.join()

    assert order == ["first", "second"]
    for database in databases:
        database.close()


def test_broken_bytes_in_a_text_do_not_stop_the_row_beside_it(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path}/x.db") as database:
        with sqlite3.connect(tmp_path / "x.db") as raw:
            raw.execute("INSERT INTO dramaturg_settings VALUES ('a', CAST(X'FF41' AS TEXT)), ('b', 'fine')")
        raw.close()

        with Transactions(database.engine).reading() as connection:
            rows = connection.execute(text("SELECT value FROM dramaturg_settings WHERE name IN ('a', 'b')")).scalars()
            assert rows.all() == ["\udcffA", "fine"]
