"""Statements that take their rows as arrays, for PostgreSQL: one array a column, joined by `unnest`.

So the text of a statement is the same for any number of rows, psycopg prepares it after a few executions, and the arrays
go in binary form. The planner is told in `engines` to look up by key, however small the tables were when it made the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, Table, Text, bindparam, func, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import psycopg as dialects_of_psycopg
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.types import TypeEngine

from dramaturg_store.dialects import Moment
from dramaturg_store.turn_rows import Row

_DIALECT = dialects_of_psycopg.dialect()  # type: ignore[no-untyped-call]

#: The text of a statement, and the names of its arrays.
Statement: TypeAlias = tuple[str, Sequence[str]]


def array_type(column: Column[Any]) -> TypeEngine[Any]:
    """The type of an array for a column."""
    if isinstance(column.type, Moment):
        return postgresql.ARRAY(postgresql.TIMESTAMP(timezone=True))
    if isinstance(column.type, Integer | BigInteger | Boolean | Double):
        return postgresql.ARRAY(column.type)
    # A text of any length: a cast to a shorter one would cut it in silence, where the table refuses it.
    return postgresql.ARRAY(Text())


class Given:
    """Rows that a statement is given, as a table to select from.

    Attributes:
      columns: of that table, by name.
      table: itself.
    """

    def __init__(self, table: Table, names: Sequence[str]) -> None:
        self._names = [f"given_{name}" for name in names]
        self._arrays = {
            name: bindparam(given, type_=array_type(table.columns[name]))
            for given, name in zip(self._names, names, strict=True)
        }
        self.table: Any = func.unnest(*self._arrays.values()).table_valued(*names).render_derived(name="given")
        self.columns: Any = self.table.columns

    def array(self, name: str) -> Any:
        """The array of a column."""
        return self._arrays[name]

    def select(self, names: Sequence[str]) -> Any:
        """These columns of all rows."""
        return select(*[self.columns[name] for name in names])

    def statement(self, clause: ClauseElement) -> Statement:
        """The statement as psycopg takes it, its arrays in binary form."""
        return _text(clause), self._names


def any_of(table: Table, name: str) -> Any:
    """Where a column has one of the values of an array, which is the only one of the statement."""
    return table.columns[name] == func.any(bindparam("given", type_=array_type(table.columns[name])))


def of_any(clause: ClauseElement) -> Statement:
    """A statement with `any_of`, as psycopg takes it."""
    return _text(clause), ["given"]


def insert_all(table: Table, names: Sequence[str]) -> tuple[Any, Given]:
    """An insert of all the rows that it is given, to be added to."""
    given = Given(table, names)
    return postgresql.insert(table).from_select(list(names), given.select(names)), given


def execute_with(cursor: Any, statement: Statement, arrays: Sequence[list[Any]]) -> None:
    """Execute a statement on a cursor of psycopg."""
    text, names = statement
    cursor.execute(text, dict(zip(names, arrays, strict=True)))


def arrays_of(rows: Sequence[Row]) -> list[list[Any]]:
    """Rows as an array for each column."""
    return [list(column) for column in zip(*rows, strict=True)]


def _text(clause: ClauseElement) -> str:
    return str(clause.compile(dialect=_DIALECT)).replace(")s::", ")b::")
