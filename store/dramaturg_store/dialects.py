"""Where databases differ: column types, statements that may collide, and what their errors mean.

Every other module of the room is written once for all of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar, cast

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    DateTime,
    Dialect,
    Double,
    Insert,
    Integer,
    String,
    Table,
    Text,
    bindparam,
    exc,
    func,
    type_coerce,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.selectable import HasHints
from sqlalchemy.types import TypeDecorator, TypeEngine

from dramaturg_protocol.events import moment_text
from dramaturg_protocol.faults import Fault, Refused, Unreachable

MYSQL_NAMES = ("mysql", "mariadb")

# Of whatever columns: SQLAlchemy 2.0 and 2.1 have different types for a selection.
AnySelect = TypeVar("AnySelect", bound=HasHints)

#: What a stored time reads as when it cannot be read: one damaged row must not stop those beside it.
UNREADABLE_MOMENT = datetime.min.replace(tzinfo=UTC)


class Moment(TypeDecorator[datetime]):
    """An aware moment in UTC, to the microsecond; on SQLite an ISO text that sorts."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(27))
        if dialect.name in MYSQL_NAMES:
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if dialect.name == "sqlite":
            return moment_text(value)
        return value.astimezone(UTC).replace(tzinfo=None) if dialect.name in MYSQL_NAMES else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if not isinstance(value, datetime):
            return _parsed(value)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _parsed(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return UNREADABLE_MOMENT
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def short_text(length: int) -> TypeEngine[str]:
    """An identifier or a name: compared byte by byte."""
    binary = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return String(length).with_variant(binary, *MYSQL_NAMES)


def long_text() -> TypeEngine[str]:
    """A text of any length."""
    return Text().with_variant(mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), *MYSQL_NAMES)


def real_number() -> TypeEngine[float]:
    """A number with a fraction, as precise as Python's."""
    return Double()


def big_number() -> TypeEngine[int]:
    """A whole number of 64 bits; on SQLite ``INTEGER``, which alone can count by itself."""
    return BigInteger().with_variant(Integer(), "sqlite")


def storable(text: str) -> str:
    """The text without what some database cannot hold: NUL and lone surrogates, which are written out as escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\u0000")


@cache
def insert_ignore(dialect: str, table: Table) -> Insert:
    """Insert rows but for those that collide with one that is there."""
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    # Not INSERT IGNORE, which would also cut what is too long.
    key = next(iter(table.primary_key.columns))
    return mysql.insert(table).on_duplicate_key_update({key.name: key})


@cache
def upsert(dialect: str, table: Table) -> Insert:
    """Insert rows; one whose primary key is there is replaced."""
    keys = [column.name for column in table.primary_key.columns]
    others = [column.name for column in table.columns if column.name not in keys]
    if dialect in MYSQL_NAMES:
        replaced = mysql.insert(table)
        return replaced.on_duplicate_key_update({name: replaced.inserted[name] for name in others})
    if dialect == "postgresql":
        wanted = postgresql.insert(table)
        return wanted.on_conflict_do_update(index_elements=keys, set_={name: wanted.excluded[name] for name in others})
    insert = sqlite.insert(table)
    return insert.on_conflict_do_update(index_elements=keys, set_={name: insert.excluded[name] for name in others})


def server_now(dialect: str) -> ColumnElement[datetime]:
    """The time of a database server at this statement, not at the begin of its transaction."""
    if dialect == "postgresql":
        return type_coerce(func.clock_timestamp(), Moment())
    return type_coerce(func.utc_timestamp(6), Moment())


def is_one_of(column: ColumnElement[Any], name: str, dialect: str) -> ColumnElement[bool]:
    """Where a column has one of the values of a parameter; the same text for any number of them where that can be."""
    if dialect == "postgresql":
        return column == func.any(bindparam(name, type_=postgresql.ARRAY(column.type)))
    return column.in_(bindparam(name, expanding=True))


def has_row_locks(connection: Connection) -> bool:
    """Whether ``SELECT … FOR UPDATE`` locks rows; SQLite locks the whole file instead."""
    return connection.dialect.name != "sqlite"


def by_primary_key(statement: AnySelect, table: Table) -> AnySelect:
    """Have rows that are selected by their primary key found by it, and no others looked at.

    MySQL and MariaDB scan a small table instead, and a scan that locks waits for rows that it does not want.
    """
    for dialect in MYSQL_NAMES:
        statement = statement.with_hint(table, "FORCE INDEX (PRIMARY)", dialect)
    return statement


def begin(connection: Connection, *, for_write: bool = False) -> None:
    """Begin where the driver has put it off, also on somebody else's connection.

    Python's sqlite3 opens a transaction at the first INSERT only. What was read before that may have changed; and a
    savepoint before it would be a transaction of its own, committed with its release, whatever the caller does later.
    """
    if connection.dialect.name != "sqlite":
        return
    raw: Any = connection.connection.driver_connection
    if raw.in_transaction:
        return
    statement = "BEGIN IMMEDIATE" if for_write else "BEGIN"
    if connection.dialect.is_async:
        connection.exec_driver_sql(statement)
    else:
        # Past SQLAlchemy, to which a statement is a hundred calls: there is one for each turn.
        with driver_errors(connection):
            raw.execute(statement)


@contextmanager
def driver_errors(connection: Connection) -> Generator[None, None, None]:
    """Errors of the driver itself, used without SQLAlchemy inside, come out as SQLAlchemy's own."""
    dialect = connection.dialect
    driver: Any = dialect.loaded_dbapi
    try:
        yield
    except driver.Error as error:
        if dialect.is_disconnect(error, connection.connection, None):
            connection.invalidate(error)
        told = cast("Exception", exc.DBAPIError.instance(None, None, error, driver.Error, dialect=dialect))
        raise told from error


# SQLite: primary result codes, https://www.sqlite.org/rescode.html
_SQLITE_REFUSES = frozenset({sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH})
_SQLITE_ADVICE = {
    sqlite3.SQLITE_BUSY: "another process is writing to the database and does not finish",
    sqlite3.SQLITE_FULL: "the disk of the database is full: make room, nothing else needs to be done",
    sqlite3.SQLITE_READONLY: "the database cannot be written to: check the permissions of its file and folder",
    sqlite3.SQLITE_CANTOPEN: "the database file cannot be opened: check that its folder exists and may be written to",
    sqlite3.SQLITE_CORRUPT: "the database file is damaged: restore it from a backup",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database",
    sqlite3.SQLITE_IOERR: "reading or writing the database file failed: check its disk",
}
# PostgreSQL: classes of SQLSTATE for data, integrity and limits of the program.
_SQLSTATE_REFUSES = ("22", "23", "54")
# MySQL and MariaDB: numbers of errors about the data that their drivers do not call IntegrityError or DataError.
_MYSQL_REFUSES = frozenset({1048, 1062, 1153, 1264, 1292, 1364, 1366, 1406, 1452, 3819, 4025})


# Two transactions stood in each other's way and the database ended this one: PostgreSQL's SQLSTATE, MySQL's number.
_SQLSTATE_CONFLICTS = ("40001", "40P01")
_MYSQL_DEADLOCK = 1213


def is_conflict(fault: Fault) -> bool:
    """Whether the same transaction, done again, has every chance."""
    original = getattr(fault.__cause__, "orig", None)
    if not isinstance(original, Exception):
        return False
    return getattr(original, "sqlstate", None) in _SQLSTATE_CONFLICTS or original.args[:1] == (_MYSQL_DEADLOCK,)


def fault_of(error: Exception) -> Fault:
    """What an error of the database or its driver means to its caller."""
    original = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    if isinstance(original, sqlite3.Error):
        return _fault_of_sqlite(original)
    if _is_refusal(error, original):
        return Refused(f"the database refuses the data: {original}")
    return Unreachable(f"the database does not answer: {original}")


def _fault_of_sqlite(error: sqlite3.Error) -> Fault:
    code: int = getattr(error, "sqlite_errorcode", -1) & 0xFF
    if code in _SQLITE_REFUSES or isinstance(
        error, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.InterfaceError
    ):
        return Refused(f"the database refuses the data: {error}")
    advice = _SQLITE_ADVICE.get(code)
    return Unreachable(f"{advice} ({error})" if advice else f"the database does not answer: {error}")


def _is_refusal(error: Exception, original: BaseException) -> bool:
    # A value that the driver cannot send at all: a lone surrogate, a number beyond 64 bits.
    if isinstance(original, UnicodeError | OverflowError) or type(error) is exc.StatementError:
        return True
    state: Any = getattr(original, "sqlstate", None)
    if isinstance(state, str):
        return state.startswith(_SQLSTATE_REFUSES)
    arguments: Sequence[Any] = original.args
    if arguments and isinstance(arguments[0], int):
        return arguments[0] in _MYSQL_REFUSES
    return isinstance(error, exc.IntegrityError | exc.DataError)
