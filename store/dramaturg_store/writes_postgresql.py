"""The commit of a turn on PostgreSQL: fence, rows and the end of the transaction in one pipeline, and one round trip.

Nobody reads the answer to a statement before the next ones are sent. So what must hold for the commit is part of the
statements: they divide by zero where it does not, and PostgreSQL ends the transaction that has failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, FromClause, Integer, Table, and_, cast, delete, func, literal_column, select, update

from dramaturg_protocol.faults import Refused
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
from dramaturg_store.fences import LOCKED_EPOCHS, check_epochs
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
_DIVISION_BY_ZERO = "22012"


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


def _fence() -> Statement:
    given = Given(partitions, ("id", "epoch"))
    locked = select(partitions.c.id, partitions.c.epoch).where(partitions.c.id == func.any(given.array("id")))
    held = locked.order_by(partitions.c.id).with_for_update().cte("held")
    is_ours = and_(held.c.id == given.columns["id"], held.c.epoch == given.columns["epoch"])
    return given.statement(_all_of(held.join(given.table, is_ours), given, "id"))


def _change() -> Statement:
    given = Given(runs, [*CHANGING, "run_id"])
    changes = {name: given.columns[name] for name in CHANGING}
    changed = update(runs).where(runs.c.run_id == given.columns["run_id"]).values(changes).returning(runs.c.run_id)
    return given.statement(_all_of(changed.cte("changed"), given, "run_id"))


def _all_of(found: FromClause, given: Given, name: str) -> Any:
    """A statement that fails unless as many rows are found as there are given."""
    is_all = func.count() == func.cardinality(given.array(name))
    return select(literal_column("1").op("/")(cast(is_all, Integer))).select_from(found)


def _settle() -> Statement:
    given = Given(open_work, _KEY)
    return given.statement(delete(open_work).where(*[open_work.c[name] == given.columns[name] for name in _KEY]))


def _free() -> Statement:
    # What is spent of a rate counts until its time is over, whatever becomes of the execution.
    given = Given(slots, TICKET)
    wanted = [slots.c[name] == given.columns[name] for name in TICKET]
    return given.statement(delete(slots).where(*wanted, slots.c.until.is_(None)))


_FENCE = _fence()
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
    """Write a turn in the transaction that is open, and commit it where these rows are all of it.

    Raises:
      Fenced: a partition has another owner.
      Refused: a run that the turn changes is not there.
    """
    with driver_errors(connection):
        raw: Any = connection.connection.driver_connection
        try:
            with raw.pipeline():
                cursor = raw.cursor()
                if rows.epochs:
                    execute_with(cursor, _FENCE, [list(rows.epochs), list(rows.epochs.values())])
                _write(cursor, rows)
                if rows.is_all:
                    raw.execute("COMMIT")
            return
        except raw.Error as error:
            if error.sqlstate is None:
                # The connection, and not an answer.
                raise
            refused = error
            raw.rollback()
    # To whoever lost his lease anything may be refused: that he lost it is what matters.
    if rows.epochs:
        check_epochs(rows.epochs, connection.execute(LOCKED_EPOCHS, {"numbers": list(rows.epochs)}))
    if refused.sqlstate == _DIVISION_BY_ZERO:
        raise Refused("some of the runs that a turn changes have no row")
    with driver_errors(connection):
        raise refused


def _write(cursor: Any, rows: TurnRows) -> None:
    if rows.new_runs:
        execute_with(cursor, _INSERT_RUNS, arrays_of(rows.new_runs))
    if rows.changed:
        execute_with(cursor, _CHANGE_RUNS, arrays_of(rows.changes()))
    for name, statement in _OTHERS:
        values = getattr(rows, name)
        if values:
            execute_with(cursor, statement, arrays_of(values) if isinstance(values[0], tuple) else [values])
