"""The commit of a turn: the fence, then one statement for each table that the turn touches.

What a crash leaves is decided by the database alone: either all of it or nothing. The fence comes first, so that a
coordinator which lost its lease meanwhile writes nothing; and the primary key of `events` refuses a turn that was
written already by somebody who saw only a lost connection.

This is the one place where each microsecond is paid once a step, so each database has a module of its own here, with
statements that SQLAlchemy compiles once and that the driver then gets as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from dramaturg_protocol.records import Lease, RunWrites
from dramaturg_store.claims import pass_id_on
from dramaturg_store.large_values import write_values
from dramaturg_store.letters import close_letters
from dramaturg_store.turn_rows import TurnRows, rows_of
from dramaturg_store.writes_mariadb import write_on_mariadb
from dramaturg_store.writes_postgresql import write_on_postgresql
from dramaturg_store.writes_sqlite import write_on_sqlite

_WRITERS: Mapping[str, Callable[[Connection, TurnRows, datetime], None]] = {
    "sqlite": write_on_sqlite,
    "postgresql": write_on_postgresql,
    "mysql": write_on_mariadb,
    "mariadb": write_on_mariadb,
}


def write_turn(
    connection: Connection, writes: Sequence[RunWrites], lease: Lease, namespace: str, now: datetime
) -> None:
    """Write a turn in the transaction that is open.

    Raises:
      Fenced: a partition that the turn writes to has another owner.
      Refused: events without the row of their run, or of a run that is not there.
    """
    rows = rows_of(writes, lease, namespace, now)
    # Before the new ones: what fails again in the same turn stays open.
    for write in writes:
        if write.letters_closed:
            close_letters(connection, write.run_id, write.letters_closed, now)
    _WRITERS[connection.dialect.name](connection, rows, now)
    if rows.values.texts:
        write_values(connection, rows.values, now)
    for write in writes:
        if write.next_of_id is not None:
            pass_id_on(connection, namespace, *write.next_of_id, write.run_id)
