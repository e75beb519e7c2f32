"""What an error of a driver means: told by its type and number, never by its words."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import exc, text

from dramaturg_protocol.faults import Fault, Refused, Unreachable
from dramaturg_store.database import Database
from dramaturg_store.dialects import fault_of
from dramaturg_store.transactions import Transactions


def sqlite_error(kind: type[sqlite3.Error], code: int) -> Exception:
    error: Any = kind("in other words")
    error.sqlite_errorcode = code
    return exc.DBAPIError("SELECT", {}, error)


@pytest.mark.parametrize(
    ("kind", "code", "fault", "advice"),
    [
        (sqlite3.OperationalError, sqlite3.SQLITE_BUSY, Unreachable, "another process"),
        (sqlite3.OperationalError, sqlite3.SQLITE_BUSY_SNAPSHOT, Unreachable, "another process"),
        (sqlite3.OperationalError, sqlite3.SQLITE_FULL, Unreachable, "make room"),
        (sqlite3.OperationalError, sqlite3.SQLITE_READONLY_DBMOVED, Unreachable, "permissions"),
        (sqlite3.OperationalError, sqlite3.SQLITE_CANTOPEN, Unreachable, "folder"),
        (sqlite3.OperationalError, sqlite3.SQLITE_IOERR_FSYNC, Unreachable, "disk"),
        (sqlite3.DatabaseError, sqlite3.SQLITE_CORRUPT, Unreachable, "backup"),
        (sqlite3.OperationalError, sqlite3.SQLITE_ERROR, Unreachable, "in other words"),
        (sqlite3.IntegrityError, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, Refused, "in other words"),
        (sqlite3.DataError, sqlite3.SQLITE_TOOBIG, Refused, "in other words"),
    ],
)
def test_errors_of_sqlite(kind: type[sqlite3.Error], code: int, fault: type[Fault], advice: str) -> None:
    told = fault_of(sqlite_error(kind, code))

    assert type(told) is fault
    assert advice in str(told)


class PostgresError(Exception):
    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("en d'autres termes")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("sqlstate", "fault"),
    [
        ("23505", Refused),
        ("22P05", Refused),
        ("54000", Refused),
        ("40001", Unreachable),
        ("40P01", Unreachable),
        ("57P01", Unreachable),
        ("53300", Unreachable),
        ("25006", Unreachable),
        ("42P01", Unreachable),
        (None, Unreachable),
    ],
)
def test_errors_of_postgresql(sqlstate: str | None, fault: type[Fault]) -> None:
    assert type(fault_of(exc.OperationalError("SELECT", {}, PostgresError(sqlstate)))) is fault


@pytest.mark.parametrize(
    ("number", "fault"),
    [(1062, Refused), (4025, Refused), (1406, Refused), (1213, Unreachable), (1205, Unreachable), (2013, Unreachable)],
)
def test_errors_of_mariadb(number: int, fault: type[Fault]) -> None:
    assert type(fault_of(exc.OperationalError("SELECT", {}, Exception(number, "in other words")))) is fault


@pytest.mark.parametrize("error", [exc.TimeoutError("pool"), exc.InvalidRequestError("closed")])
def test_an_exhausted_pool_does_not_answer(error: Exception) -> None:
    assert type(fault_of(error)) is Unreachable


def test_a_number_beyond_64_bits_is_refused() -> None:
    with Database("sqlite://") as database, pytest.raises(Refused), Transactions(database.engine).writing() as writer:
        writer.execute(text("UPDATE dramaturg_partitions SET epoch = :epoch"), {"epoch": 2**70})


def test_a_file_locked_by_another_process_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dramaturg_store.engines.BUSY_SECONDS", 0.01)
    with Database(f"sqlite:///{tmp_path}/x.db") as database:
        other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(Unreachable, match="another process"), Transactions(database.engine).writing():
            pass

        other.close()
        with Transactions(database.engine).writing():
            pass


def test_a_full_disk_says_so_and_the_next_turn_goes_on(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path}/x.db") as database:
        transactions = Transactions(database.engine)
        with transactions.reading() as connection:
            pages = connection.execute(text("PRAGMA page_count")).scalar_one()
            connection.execute(text(f"PRAGMA max_page_count = {pages}"))
        fill = text("INSERT INTO dramaturg_settings VALUES ('big', zeroblob(100000))")

        with pytest.raises(Unreachable, match="make room"), transactions.writing() as writer:
            writer.execute(fill)

        with transactions.writing() as writer:
            writer.execute(text("PRAGMA max_page_count = 100000"))
            writer.execute(fill)
