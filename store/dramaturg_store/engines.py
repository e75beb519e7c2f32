"""Engines that are set up the way the room relies on, and clear words where that is not possible."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Generator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from dramaturg_protocol.config import DEFAULT_LEASE_TIME
from dramaturg_protocol.errors import ConfigurationError
from dramaturg_store.liveness import check_pooled

#: How long a writer waits for another process that writes to the same SQLite file.
BUSY_SECONDS = 10.0

# What a bare name of a database means; and the only drivers whose errors `dialects` can tell apart.
_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
_EXTRAS = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}

# PostgreSQL keeps the plan of a statement that was prepared while its tables were all but empty, where reading them whole
# is cheapest; nobody tells it for minutes that they grew. All our statements look up by key or read a range of an index.
_LOOK_UP = "enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"

# One text for whatever bytes there are: a row with broken UTF-8 must not stop those beside it, and a lone surrogate
# in an event's JSON shows when it is decoded.
_as_text = partial(str, encoding="utf-8", errors="surrogateescape")


def make_engine(url: str, *, lease_time: timedelta = DEFAULT_LEASE_TIME) -> Engine:
    """The engine of a database.

    Parameters:
      url: of SQLAlchemy's form; ``sqlite://`` alone is a private file that is gone when the engine is disposed of.
      lease_time: of coordinators; a transaction that stands still is ended by the server after half of it.

    Raises:
      ConfigurationError: the URL is wrong, its driver is not installed, or its SQLite file cannot be used.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed)
    backend = parsed.get_backend_name()
    try:
        engine = create_engine(
            parsed,
            isolation_level="READ COMMITTED",
            pool_pre_ping=backend != "postgresql",
            # One thread alone stays on one connection, where the server has its statements prepared and its caches warm.
            pool_use_lifo=True,
            connect_args=_session_of(backend, lease_time),
        )
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{shown(parsed)} needs the package {error.name!r}: pip install 'dramaturg[{_EXTRAS[backend]}]'"
        ) from error
    if backend == "postgresql":
        check_pooled(engine)
    return engine


def adopt_engine(engine: Engine) -> Engine:
    """A caller's own engine, set up the way the room relies on where that can be done for our transactions alone.

    Raises:
      ConfigurationError: it uses another database or driver, or its SQLite file cannot be used.
    """
    _check_driver(engine.url, engine.url.set(drivername=f"{engine.dialect.name}+{engine.dialect.driver}"))
    if engine.dialect.name != "sqlite":
        return engine.execution_options(isolation_level="READ COMMITTED")
    if engine.url.database in (None, "", ":memory:"):
        raise ConfigurationError("an engine of a SQLite database in memory cannot be shared: give it a file")
    _prepare(Path(str(engine.url.database)).absolute())
    return engine


def _session_of(backend: str, lease_time: timedelta) -> dict[str, str]:
    # A holder that froze in the middle of its transaction must not keep its rows: the server ends it after half a lease,
    # and nobody waits for a lock longer than ten seconds.
    half = lease_time.total_seconds() / 2
    if backend == "postgresql":
        still = f"{int(half * 1000)}ms"
        limits = f"lock_timeout=10s -c idle_in_transaction_session_timeout={still} -c tcp_user_timeout={still}"
        return {"options": f"-c {limits} -c {_LOOK_UP}"}
    still = str(max(1, int(half)))
    return {"init_command": f"SET SESSION innodb_lock_wait_timeout = 10 /*M!, idle_transaction_timeout = {still} */"}


def shown(url: URL) -> str:
    """The URL for people: without its password."""
    return url.render_as_string(hide_password=True)


def database_file(engine: Engine) -> Path:
    """The file of a SQLite engine."""
    name = engine.url.database
    if engine.dialect.name != "sqlite" or not name:
        raise ValueError(f"{shown(engine.url)} is not a file")
    return Path(name)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(
            f"{url!r} is not the URL of a database; it looks like sqlite:///path/to/file.db, "
            "postgresql://user@host/name or mysql://user@host/name"
        ) from error
    _check_driver(parsed, parsed)
    return parsed


def _check_driver(url: URL, used: URL) -> None:
    """Refuse what `used`, as its driver's name says, is not one of ours."""
    wanted = _DRIVERS.get(used.get_backend_name())
    if wanted is None:
        raise ConfigurationError(f"{shown(url)}: Dramaturg stores in SQLite, PostgreSQL, MariaDB or MySQL")
    if used.drivername != wanted:
        raise ConfigurationError(f"{shown(url)}: Dramaturg uses another driver, write {wanted}://…")


def _sqlite_engine(url: URL) -> Engine:
    if url.database in (None, "", ":memory:"):
        return _throw_away_engine(url)
    path = Path(str(url.database)).absolute()
    _prepare(path)
    return _engine_of(url.set(database=str(path)), synchronous="FULL")


def _throw_away_engine(url: URL) -> Engine:
    # A file and not SQLite's own memory: there, readers and the writer would lock each other out.
    folder = Path(tempfile.mkdtemp(prefix="dramaturg-"))
    path = folder / "dramaturg.db"
    _prepare(path)
    engine = _engine_of(url.set(database=str(path)), synchronous="OFF")
    remove = weakref.finalize(engine, shutil.rmtree, folder, ignore_errors=True)

    def remove_folder(_disposed: Engine) -> None:
        remove()

    event.listen(engine, "engine_disposed", remove_folder)
    return engine


def _engine_of(url: URL, *, synchronous: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})
    event.listen(engine, "connect", partial(_set_up, synchronous))
    return engine


def _set_up(synchronous: str, raw: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection: Any = raw
    # Transactions are begun by `Transactions`, not at the driver's discretion.
    connection.isolation_level = None
    connection.text_factory = _as_text
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute("PRAGMA foreign_keys=ON")


def _prepare(path: Path) -> None:
    """Make the folder and the file, and switch it to WAL, which many processes may try at the same moment."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.parent), contextlib.closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    except OSError as error:
        raise ConfigurationError(f"the folder of {path} cannot be made or used: {error.strerror}") from error
    except sqlite3.Error as error:
        raise ConfigurationError(f"{path} cannot be used: {_advice(path, error)}") from error
    if mode != ("wal",):
        raise ConfigurationError(f"{path}: this file system cannot hold a SQLite write-ahead log; use a local disk")


@contextlib.contextmanager
def _locked(folder: Path) -> Generator[None, None, None]:
    # The switch to WAL does not wait for another one that is under way: SQLite calls no busy handler there.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _advice(path: Path, error: sqlite3.Error) -> str:
    code: int = getattr(error, "sqlite_errorcode", -1) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return "it is a file, but not a SQLite database"
    if path.is_dir():
        return "it is a folder; name a file in it"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return f"it cannot be written to ({error}): check the permissions of the file and of its folder"
    return str(error)
