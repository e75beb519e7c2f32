"""The commit of a turn on PostgreSQL: the fence and everything else in one pipeline, then the end of the transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, delete, select, update

from dramaturg_store.arrays_postgresql import (
    Given,
    Statement,
    any_of,
    arrays_of,
    execute_with,
    insert_all,
    of_any,
)
from dramaturg_store.dialects import driver_errors
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
from dramaturg_store.turn_rows import CHANGING, LETTER, REPLY, REQUEST, TICKET, TurnRows

_KEY = ("run_id", "generation", "seq")


def _insert(table: Table, names: Sequence[str]) -> Statement:
    statement, given = insert_all(table, names)
    return given.statement(statement)


def _insert_unless_there(table: Table, names: Sequence[str]) -> Statement:
    statement, given = insert_all(table, names)
    return given.statement(statement.on_conflict_do_nothing())


def _upsert(table: Table, names: Sequence[str]) -> Statement:
    statement, given = insert_all(table, names)
    keys = [column.name for column in table.primary_key.columns]
    others = {name: statement.excluded[name] for name in names if name not in keys}
    return given.statement(statement.on_conflict_do_update(index_elements=keys, set_=others))


def _columns(table: Table) -> list[str]:
    return [column.name for column in table.columns]


def _change() -> Statement:
    given = Given(runs, [*CHANGING, "run_id"])
    changes = {name: given.columns[name] for name in CHANGING}
    return given.statement(update(runs).where(runs.c.run_id == given.columns["run_id"]).values(changes))


def _settle() -> Statement:
    given = Given(open_work, _KEY)
    return given.statement(delete(open_work).where(*[open_work.c[name] == given.columns[name] for name in _KEY]))


def _free() -> Statement:
    # What is spent of a rate counts until its time is over, whatever becomes of the execution.
    given = Given(slots, TICKET)
    wanted = [slots.c[name] == given.columns[name] for name in TICKET]
    return given.statement(delete(slots).where(*wanted, slots.c.until.is_(None)))


_FENCE = of_any(
    select(partitions.c.id, partitions.c.epoch)
    .where(any_of(partitions, "id"))
    .order_by(partitions.c.id)
    .with_for_update()
)
_INSERT_RUNS = _insert(runs, _columns(runs))
_CHANGE_RUNS = _change()
# In this order: open work that is settled and asked for again is deleted first.
_OTHERS = (
    ("events", _insert(events, _columns(events))),
    ("settled", _settle()),
    ("closed", of_any(delete(open_work).where(any_of(open_work, "run_id")))),
    ("work", _upsert(open_work, _columns(open_work))),
    ("freed", _free()),
    ("slots", _upsert(slots, _columns(slots))),
    ("kept", _upsert(kept_results, _columns(kept_results))),
    ("arrivals", of_any(delete(inbox).where(any_of(inbox, "arrival")))),
    ("replies", _insert_unless_there(replies, REPLY)),
    ("sends", _insert_unless_there(inbox, REQUEST)),
    ("letters", _insert(dead_letters, LETTER)),
)


def write_on_postgresql(connection: Connection, rows: TurnRows, _now: datetime) -> None:
    """Write a turn in the transaction that is open.

    Raises:
      Fenced: a partition has another owner.
      Refused: a run that the turn changes is not there.
    """
    with driver_errors(connection):
        raw: Any = connection.connection.driver_connection
        fence, changed = raw.cursor(), raw.cursor()
        try:
            with raw.pipeline():
                if rows.epochs:
                    execute_with(fence, _FENCE, [list(rows.epochs)])
                _write(raw.cursor(), changed, rows)
        except raw.Error:
            # To whoever lost his lease anything may be refused: that he lost it is what matters.
            _check_epochs(rows, fence)
            raise
        _check_epochs(rows, fence)
        check_changed(len(rows.changed), changed.rowcount if rows.changed else 0)


def _write(cursor: Any, changed: Any, rows: TurnRows) -> None:
    if rows.new_runs:
        execute_with(cursor, _INSERT_RUNS, arrays_of(rows.new_runs))
    if rows.changed:
        execute_with(changed, _CHANGE_RUNS, arrays_of(rows.changes()))
    for name, statement in _OTHERS:
        values = getattr(rows, name)
        if values:
            execute_with(cursor, statement, arrays_of(values) if isinstance(values[0], tuple) else [values])


def _check_epochs(rows: TurnRows, fence: Any) -> None:
    if rows.epochs and fence.description is not None:
        check_epochs(rows.epochs, fence.fetchall())
