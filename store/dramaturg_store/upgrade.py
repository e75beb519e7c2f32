"""The schema of a database, made and kept up to date.

Revisions are numbers that grow: ``0001``, ``0002``. A newer version of the code leaves in the settings which revision
code must know at least to work on its schema (`OLDEST_CODE`), so that older code can tell whether it still may.

Many processes may upgrade at the same moment: one does it under a lock of the database, the others find it done.
"""

from __future__ import annotations

import functools
import secrets
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, String, bindparam, column, create_engine, func, inspect, select, table, text

from dramaturg_protocol.errors import ConfigurationError
from dramaturg_store.dialects import insert_ignore, upsert
from dramaturg_store.engines import shown
from dramaturg_store.schema import VERSION_TABLE, partitions, settings
from dramaturg_store.transactions import Transactions

#: The newest revision that this code brings.
HEAD = "0001"
#: Code that knows this revision can work on the newest schema. Migrations of a minor series only add.
OLDEST_CODE = "0001"

DEFAULT_PARTITIONS = 64

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_MIGRATIONS = Path(__file__).with_name("migrations")
_COUNT = select(func.count()).select_from(partitions).where(partitions.c.namespace == bindparam("namespace"))
_SETTING = select(settings.c.value).where(settings.c.name == bindparam("name"))

_REVISION = select(column("version_num", String)).select_from(table(VERSION_TABLE))

# Alembic keeps the migration that runs in a global of its module.
_one_at_a_time = threading.Lock()


def upgrade(engine: Engine, namespace: str, partitions: int | None = None) -> None:
    """Bring the schema up to date and make the partitions of a namespace, unless they are there.

    Parameters:
      partitions: how many a new namespace gets; by default 64, and 1 on SQLite, which has one coordinator.

    Raises:
      ConfigurationError: the schema is newer than this code can work on.
      Unreachable: the database does not answer.
    """
    if is_ready(engine, namespace):
        return
    count = partitions or (1 if engine.dialect.name == "sqlite" else DEFAULT_PARTITIONS)
    with _one_at_a_time, Transactions(engine).writing() as connection, _alone(connection):
        revision = _revision_of(connection)
        _refuse_newer(engine, connection, revision)
        if revision is None and connection.dialect.name == "sqlite":
            for statement in _new_file():
                connection.exec_driver_sql(statement)
        elif revision is None or revision < HEAD:
            _migrate(connection)
        if revision is None or revision < HEAD:
            oldest = {"name": "oldest_code", "value": OLDEST_CODE}
            connection.execute(upsert(connection.dialect.name, settings), oldest)
        _add_namespace(connection, namespace, count)


def current(engine: Engine) -> str | None:
    """The schema's revision; ``None`` for a database that has none of our tables."""
    with Transactions(engine).reading() as connection:
        return _revision_of(connection)


def check(engine: Engine) -> None:
    """Make sure that this code can work on the schema that is there.

    Raises:
      ConfigurationError: it is older or newer; the message says what to do.
      Unreachable: the database does not answer.
    """
    with Transactions(engine).reading() as connection:
        revision = _revision_of(connection)
        _refuse_newer(engine, connection, revision)
    if revision is None or revision < HEAD:
        what = "has no tables yet" if revision is None else f"has the schema {revision}, and this code needs {HEAD}"
        raise ConfigurationError(f"the database {shown(engine.url)} {what}: run 'dramaturg db upgrade'")


def is_ready(engine: Engine, namespace: str) -> bool:
    """Whether an upgrade would find nothing to do."""
    with Transactions(engine).reading() as connection:
        if _revision_of(connection) != HEAD:
            return False
        return bool(connection.scalars(_COUNT, {"namespace": namespace}).one())


def secret_name(namespace: str) -> str:
    """The setting that holds a namespace's secret."""
    return f"secret/{namespace}"


def _revision_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.scalars(_REVISION).one_or_none()


def _refuse_newer(engine: Engine, connection: Connection, revision: str | None) -> None:
    if revision is None or revision <= HEAD:
        return
    oldest = connection.scalars(_SETTING, {"name": "oldest_code"}).one_or_none()
    if oldest is None or oldest > HEAD:
        raise ConfigurationError(
            f"the database {shown(engine.url)} has the schema {revision}, and this code knows only up to {HEAD}: "
            "install a newer version of dramaturg"
        )


@functools.cache
def _new_file() -> Sequence[str]:
    """The statements that make what the migrations make of an empty file: a test makes hundreds of them."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        _migrate(connection)
        driver: Any = connection.connection.driver_connection
        dumped: list[str] = list(driver.iterdump())
    engine.dispose()
    return dumped[1:-1]  # without BEGIN and COMMIT


def _migrate(connection: Connection) -> None:
    # Imported by who migrates: it is a tenth of what a process takes to start.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.attributes["connection"] = connection
    config.set_main_option("script_location", str(_MIGRATIONS))
    command.upgrade(config, HEAD)


def _add_namespace(connection: Connection, namespace: str, count: int) -> None:
    if connection.scalars(_COUNT, {"namespace": namespace}).one():
        return
    rows = [{"namespace": namespace, "number": number, "epoch": 0, "clock": _BEGINNING} for number in range(count)]
    connection.execute(insert_ignore(connection.dialect.name, partitions), rows)
    secret = {"name": secret_name(namespace), "value": secrets.token_hex(32)}
    connection.execute(insert_ignore(connection.dialect.name, settings), secret)


@contextmanager
def _alone(connection: Connection) -> Generator[None, None, None]:
    """One upgrade of a database at a time; on SQLite the transaction is enough."""
    name = "dramaturg_upgrade"
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": name})
        yield
    elif connection.dialect.name == "sqlite":
        yield
    else:
        connection.execute(text("SELECT GET_LOCK(:name, 60)"), {"name": name})
        try:
            yield
        finally:
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})
