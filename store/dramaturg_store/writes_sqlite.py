"""The commit of a turn on SQLite: the driver's own `executemany`, one row at a time, on a file that is already ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Insert, Table, bindparam, case, delete, insert, select, update
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.sql.elements import ClauseElement

from dramaturg_protocol.events import moment_text
from dramaturg_store.dialects import driver_errors, insert_ignore, upsert
from dramaturg_store.fences import check_changed, check_epochs
from dramaturg_store.schema import (
    dead_letters,
    events,
    inbox,
    kept_results,
    open_work,
    partitions,
    replies,
    runs,
    slots,
)
from dramaturg_store.turn_rows import CHANGING, LETTER, REPLY, REQUEST, TICKET, Row, TurnRows, moments_in

_DIALECT = pysqlite.dialect()


def _text(statement: ClauseElement) -> str:
    return str(statement.compile(dialect=_DIALECT))


class _Rows:
    """A statement that takes the rows of one table.

    Parameters:
      names: of the columns, in the order of the statement's parameters.
    """

    def __init__(self, table: Table, names: Sequence[str], statement: ClauseElement) -> None:
        self._text = _text(statement)
        self._moments = moments_in(table, names)

    def execute(self, cursor: Any, rows: Sequence[Row]) -> int:
        """How many rows of the table it touched."""
        cursor.executemany(self._text, self._stored(rows) if self._moments else rows)
        return int(cursor.rowcount)

    def _stored(self, rows: Sequence[Row]) -> Iterable[Row]:
        for row in rows:
            values = list(row)
            for place in self._moments:
                if values[place] is not None:
                    values[place] = moment_text(values[place])
            yield tuple(values)


def _all(table: Table, statement: Insert) -> _Rows:
    return _Rows(table, [column.name for column in table.columns], statement)


def _delete(table: Table, *names: str) -> _Rows:
    wanted = [table.columns[name] == bindparam(f"b_{name}") for name in names]
    return _Rows(table, names, delete(table).where(*wanted))


_NOW = bindparam("now", type_=partitions.c.clock.type)
_FENCE = _text(
    update(partitions)
    .where(partitions.c.id == bindparam("b_id"), partitions.c.epoch == bindparam("b_epoch"))
    .values(clock=case((partitions.c.clock < _NOW, _NOW), else_=partitions.c.clock))
)
_EPOCHS = select(partitions.c.id, partitions.c.epoch)
_CHANGE_RUNS = _Rows(
    runs,
    [*CHANGING, "run_id"],
    update(runs).where(runs.c.run_id == bindparam("b_run_id")).values({name: bindparam(name) for name in CHANGING}),
)
_INSERT_RUNS = _all(runs, insert(runs))
# What is spent of a rate counts until its time is over, whatever becomes of the execution.
_FREE = _Rows(
    slots,
    TICKET,
    delete(slots).where(*[slots.columns[name] == bindparam(f"b_{name}") for name in TICKET], slots.c.until.is_(None)),
)
_ANSWER = _Rows(replies, REPLY, insert_ignore("sqlite", replies))
_SEND = _Rows(inbox, REQUEST, insert_ignore("sqlite", inbox).values({name: bindparam(name) for name in REQUEST}))
_PUT_ASIDE = _Rows(dead_letters, LETTER, insert(dead_letters).values({name: bindparam(name) for name in LETTER}))
# In this order: open work that is settled and asked for again is deleted first, and so is a request that is handed on.
_OTHERS = (
    ("events", _all(events, insert(events))),
    ("settled", _delete(open_work, "run_id", "generation", "seq")),
    ("closed", _delete(open_work, "run_id")),
    ("work", _all(open_work, upsert("sqlite", open_work))),
    ("freed", _FREE),
    ("slots", _all(slots, upsert("sqlite", slots))),
    ("kept", _all(kept_results, upsert("sqlite", kept_results))),
    ("arrivals", _delete(inbox, "arrival")),
    ("replies", _ANSWER),
    ("sends", _SEND),
    ("letters", _PUT_ASIDE),
)


def write_on_sqlite(connection: Connection, rows: TurnRows, now: datetime) -> None:
    """Write a turn in the transaction that is open, which holds the whole file.

    Raises:
      Fenced: a partition has another owner.
      Refused: a run that the turn changes is not there.
    """
    with driver_errors(connection):
        raw: Any = connection.connection.driver_connection
        with closing(raw.cursor()) as cursor:
            _check_fence(connection, cursor, rows, now)
            if rows.new_runs:
                _INSERT_RUNS.execute(cursor, rows.new_runs)
            if rows.changed:
                check_changed(len(rows.changed), _CHANGE_RUNS.execute(cursor, rows.changes()))
            for name, statement in _OTHERS:
                values = getattr(rows, name)
                if values:
                    statement.execute(cursor, values if isinstance(values[0], tuple) else [(each,) for each in values])


def _check_fence(connection: Connection, cursor: Any, rows: TurnRows, now: datetime) -> None:
    if rows.epochs:
        # The file keeps the highest time that it has seen.
        at = moment_text(now)
        cursor.executemany(_FENCE, [(at, at, number, epoch) for number, epoch in rows.epochs.items()])
        if cursor.rowcount != len(rows.epochs):
            check_epochs(rows.epochs, connection.execute(_EPOCHS))
