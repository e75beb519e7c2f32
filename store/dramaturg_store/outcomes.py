"""The table of outcomes in a database of the application's own: what `exactly_once` steps record with their work.

It is no part of the schema of runs and of its migrations: it lives where the steps write, and is made at their first use.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Delete,
    Engine,
    Index,
    Insert,
    MetaData,
    Table,
    Update,
    delete,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError

from dramaturg_protocol.clock import system_now
from dramaturg_protocol.durations import Duration, parse_duration
from dramaturg_protocol.errors import ConfigurationError
from dramaturg_store.dialects import Moment, long_text, short_text

COMPLETED = "completed"
LEFT_OPEN = "left_open"
_BEGUN = ""

outcomes = Table(
    "dramaturg_outcomes",
    MetaData(),
    Column("idempotency_key", short_text(255), primary_key=True),
    Column("step", short_text(255), nullable=False),
    Column("kind", short_text(16), nullable=False),
    Column("result", long_text(), nullable=True),
    Column("recorded_at", Moment(), nullable=False),
    Index("ix_dramaturg_outcomes_recorded", "recorded_at"),
    mysql_engine="InnoDB",
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)


@dataclass(frozen=True, slots=True)
class RecordedOutcome:
    """What a step recorded.

    Attributes:
      kind: `COMPLETED`, or `LEFT_OPEN` where somebody else says what came of it; anything else is no outcome.
      result: encoded.
    """

    kind: str
    result: str | None


def claim(key: str, step: str) -> Insert:
    """What is done first: whoever has the same key waits here, and gets an ``IntegrityError`` if this one commits."""
    return insert(outcomes).values(idempotency_key=key, step=step, kind=_BEGUN, recorded_at=system_now())


def record(key: str, outcome: RecordedOutcome) -> Update:
    """What is done last, in the same transaction."""
    values = {"kind": outcome.kind, "result": outcome.result, "recorded_at": system_now()}
    return update(outcomes).where(outcomes.c.idempotency_key == key).values(**values)


def recorded(key: str) -> Any:
    """Asks for the outcome of a key: its kind and result."""
    return select(outcomes.c.kind, outcomes.c.result).where(outcomes.c.idempotency_key == key)


def create_outcomes_table(engine: Engine) -> None:
    """Make the table ``dramaturg_outcomes``, where steps with `exactly_once` record, unless it is there.

    The first such step of a process does it too; call this where steps may not make tables.
    """
    with engine.begin() as connection:
        create_on(connection)


def create_on(connection: Connection) -> None:
    """As `create_outcomes_table`, in the transaction that is open.

    Raises:
      ConfigurationError: the engine commits every statement by itself.
    """
    levels = (
        connection.get_execution_options().get("isolation_level"),
        getattr(connection.dialect, "_on_connect_isolation_level", None),
    )
    if "AUTOCOMMIT" in levels:
        raise ConfigurationError(
            "exactly_once needs transactions, and this engine has isolation_level='AUTOCOMMIT': give it another engine"
        )
    if inspect(connection).has_table(outcomes.name):
        return
    try:
        with connection.begin_nested():
            outcomes.create(connection, checkfirst=True)
    except DBAPIError:
        # Another worker was quicker.
        if not inspect(connection).has_table(outcomes.name):
            raise


def prune_outcomes(engine: Engine, older_than: Duration) -> int:
    """Delete recorded outcomes that nobody asks for any more; how many there were.

    Parameters:
      older_than: longer than a step of yours may take from its first attempt to its last report; days are on the safe
        side.
    """
    age: timedelta = parse_duration(older_than)
    with engine.begin() as connection:
        return connection.execute(_older(age)).rowcount


def _older(age: timedelta) -> Delete:
    return delete(outcomes).where(outcomes.c.recorded_at < system_now() - age)
