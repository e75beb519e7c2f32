"""The commit of a turn on MariaDB and MySQL: inserts of many rows, which the driver joins into one statement each.

An update of many rows would be a round trip each; so rows that change are inserted over those that are there, after it
was counted that they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, tuple_
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects.mysql import pymysql
from sqlalchemy.sql.elements import ClauseElement

from dramaturg_store.dialects import by_primary_key, driver_errors, insert_ignore, upsert
from dramaturg_store.fences import check_changed, check_epochs
from dramaturg_store.packets import check_packet, packet_of
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
from dramaturg_store.slices import slices
from dramaturg_store.turn_rows import CHANGING, LETTER, REPLY, REQUEST, TICKET, Row, TurnRows, moments_in

# MySQL's deprecated form of an upsert, which both understand and the driver can join.
_DIALECT = pymysql.dialect(is_mariadb=True)

# By the primary key: a scan would wait for the rows of other coordinators.
_EPOCHS = (
    by_primary_key(select(partitions.c.id, partitions.c.epoch), partitions)
    .where(partitions.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(partitions.c.id)
    .with_for_update()
)
_THERE = select(func.count()).select_from(runs).where(runs.c.run_id.in_(bindparam("run_ids", expanding=True)))
_SETTLE = delete(open_work).where(
    tuple_(open_work.c.run_id, open_work.c.generation, open_work.c.seq).in_(bindparam("keys", expanding=True))
)
_CLOSE = delete(open_work).where(open_work.c.run_id.in_(bindparam("run_ids", expanding=True)))
# What is spent of a rate counts until its time is over, whatever becomes of the execution.
_FREE = delete(slots).where(
    tuple_(*[slots.columns[name] for name in TICKET]).in_(bindparam("tickets", expanding=True)), slots.c.until.is_(None)
)
_CONSUME = delete(inbox).where(inbox.c.arrival.in_(bindparam("arrivals", expanding=True)))


class _Rows:
    """An insert that takes the rows of one table; `names` are its columns, in order."""

    def __init__(self, table: Table, names: Sequence[str], statement: ClauseElement) -> None:
        self._text = str(statement.compile(dialect=_DIALECT, column_keys=list(names)))
        self._moments = moments_in(table, names)

    def execute(self, cursor: Any, rows: Sequence[Row], packet: int) -> None:
        if rows:
            for row in rows:
                check_packet((each for each in row if isinstance(each, str)), packet)
            cursor.executemany(self._text, list(self._stored(rows)))

    def _stored(self, rows: Sequence[Row]) -> Iterable[Row]:
        for row in rows:
            values = list(row)
            for place in self._moments:
                if values[place] is not None:
                    values[place] = values[place].astimezone(UTC).replace(tzinfo=None)
            yield tuple(values)


def _names(table: Table) -> list[str]:
    return [column.name for column in table.columns]


def _replacing(table: Table, names: Sequence[str]) -> ClauseElement:
    replaced = mysql.insert(table)
    return replaced.on_duplicate_key_update({name: replaced.inserted[name] for name in names})


_INSERT_RUNS = _Rows(runs, _names(runs), insert(runs))
_CHANGE_RUNS = _Rows(runs, _names(runs), _replacing(runs, CHANGING))
_INSERT_EVENTS = _Rows(events, _names(events), insert(events))
_PUT_WORK = _Rows(open_work, _names(open_work), upsert("mariadb", open_work))
_PUT_SLOTS = _Rows(slots, _names(slots), upsert("mariadb", slots))
_KEEP = _Rows(kept_results, _names(kept_results), upsert("mariadb", kept_results))
_ANSWER = _Rows(replies, REPLY, insert_ignore("mariadb", replies))
_SEND = _Rows(inbox, REQUEST, insert_ignore("mariadb", inbox))
_PUT_ASIDE = _Rows(dead_letters, LETTER, insert(dead_letters))


def write_on_mariadb(connection: Connection, rows: TurnRows, _now: datetime) -> None:
    """Write a turn in the transaction that is open.

    Raises:
      Fenced: a partition has another owner.
      Refused: a run that the turn changes is not there, or a row is larger than the server takes.
    """
    if rows.epochs:
        check_epochs(rows.epochs, connection.execute(_EPOCHS, {"ids": list(rows.epochs)}))
    for part in slices(rows.changed):
        there = connection.scalars(_THERE, {"run_ids": [record.run_id for record in part]}).one()
        check_changed(len(part), there)
    packet = packet_of(connection)
    with driver_errors(connection), closing(connection.connection.cursor()) as cursor:
        _INSERT_RUNS.execute(cursor, rows.new_runs, packet)
        _CHANGE_RUNS.execute(cursor, rows.changed_runs(), packet)
        _INSERT_EVENTS.execute(cursor, rows.events, packet)
    _delete(connection, _SETTLE, "keys", rows.settled)
    _delete(connection, _CLOSE, "run_ids", rows.closed)
    _delete(connection, _FREE, "tickets", rows.freed)
    # Before what is sent: a request that is handed on keeps its message id.
    _delete(connection, _CONSUME, "arrivals", rows.arrivals)
    with driver_errors(connection), closing(connection.connection.cursor()) as cursor:
        _PUT_WORK.execute(cursor, rows.work, packet)
        _PUT_SLOTS.execute(cursor, rows.slots, packet)
        _KEEP.execute(cursor, rows.kept, packet)
        _ANSWER.execute(cursor, rows.replies, packet)
        _SEND.execute(cursor, rows.sends, packet)
        _PUT_ASIDE.execute(cursor, rows.letters, packet)


def _delete(connection: Connection, statement: Any, name: str, values: list[Any]) -> None:
    for part in slices(values):
        connection.execute(statement, {name: part})
