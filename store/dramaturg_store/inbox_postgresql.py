"""The inbox on PostgreSQL: what a client sends is one statement and one round trip, its transaction included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, exists
from sqlalchemy.dialects import postgresql

from dramaturg_store.arrays_postgresql import Given, Statement, arrays_of, execute_with
from dramaturg_store.dialects import driver_errors, server_now
from dramaturg_store.rows import Values
from dramaturg_store.schema import inbox, runs

# The database counts the arrival, and has the clock.
_GIVEN = tuple(column.name for column in inbox.columns if column.name not in ("arrival", "sent_at"))


def _put(*, is_start: bool) -> Statement:
    given = Given(inbox, _GIVEN)
    rows = given.select(_GIVEN).add_columns(server_now("postgresql"))
    if is_start:
        rows = rows.where(~exists().where(runs.c.run_id == given.columns["run_id"]))
    put = postgresql.insert(inbox).from_select([*_GIVEN, "sent_at"], rows).on_conflict_do_nothing()
    return given.statement(put.returning(inbox.c.message_id))


_PUT, _PUT_STARTS = _put(is_start=False), _put(is_start=True)


def put_and_commit(connection: Connection, rows: Sequence[Values]) -> None:
    """Put rows into the inbox, unless they are there, and commit."""
    _execute_and_commit(connection, _PUT, rows)


def put_starts_and_commit(connection: Connection, rows: Sequence[Values]) -> set[str]:
    """Put starts into the inbox, unless they or their runs are there, and commit; message ids of those that were put."""
    return {row[0] for row in _execute_and_commit(connection, _PUT_STARTS, rows)}


def _execute_and_commit(connection: Connection, statement: Statement, rows: Sequence[Values]) -> Sequence[Any]:
    with driver_errors(connection):
        raw: Any = connection.connection.driver_connection
        cursor = raw.cursor()
        with raw.pipeline():
            execute_with(cursor, statement, arrays_of([tuple(row[name] for name in _GIVEN) for row in rows]))
            raw.execute("COMMIT")
        found: Sequence[Any] = cursor.fetchall()
        return found
