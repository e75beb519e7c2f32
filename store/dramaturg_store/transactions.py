"""Reading and writing transactions, with the database's errors told as faults."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from dramaturg_protocol.faults import Unreachable
from dramaturg_store.dialects import begin, fault_of, is_conflict
from dramaturg_store.engines import BUSY_SECONDS, database_file

#: How often a transaction is tried that stands in another one's way.
TRIES = 5

Result = TypeVar("Result")

_registry = threading.Lock()
_write_locks: dict[str, threading.Lock] = {}


class Transactions:
    """The transactions of one engine.

    On SQLite a reader never waits for the writer, and the writers of this process queue on a lock of their own
    instead of asking the file again and again.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # A read is a statement or two, each of which sees what is committed: PostgreSQL's driver would begin and end a
        # transaction around it, a round trip each.
        self._reader = engine.execution_options(isolation_level="AUTOCOMMIT") if _begins_by_itself(engine) else engine
        self.dialect = engine.dialect.name
        self._lock = _write_lock_of(engine)

    @contextmanager
    def reading(self) -> Generator[Connection, None, None]:
        """A connection to read on; on SQLite it sees one state of the database."""
        with told_as_faults(), self._reader.connect() as connection:
            begin(connection)
            yield connection

    @contextmanager
    def writing(self) -> Generator[Connection, None, None]:
        """A transaction: committed at the end, undone when something is raised."""
        with told_as_faults(), self._turn_to_write(), self.engine.begin() as connection:
            begin(connection, for_write=True)
            yield connection

    def written(self, work: Callable[[Connection], Result]) -> Result:
        """Do a piece of work in a transaction, again where another transaction stood in its way."""
        for _ in range(TRIES - 1):
            try:
                with self.writing() as connection:
                    return work(connection)
            except Unreachable as fault:
                if not is_conflict(fault):
                    raise
        with self.writing() as connection:
            return work(connection)

    def _turn_to_write(self) -> AbstractContextManager[None]:
        return nullcontext() if self._lock is None else _held(self._lock)


@contextmanager
def told_as_faults() -> Generator[None, None, None]:
    """Whatever the database or its driver raises inside comes out as a fault."""
    try:
        yield
    except (SQLAlchemyError, UnicodeError, OverflowError) as error:
        raise fault_of(error) from error


@contextmanager
def _held(lock: threading.Lock) -> Generator[None, None, None]:
    if not lock.acquire(timeout=BUSY_SECONDS):
        raise Unreachable("another thread is writing to the database and does not finish")
    try:
        yield
    finally:
        lock.release()


def _begins_by_itself(engine: Engine) -> bool:
    return engine.dialect.name == "postgresql"


def _write_lock_of(engine: Engine) -> threading.Lock | None:
    if engine.dialect.name != "sqlite":
        return None
    with _registry:
        return _write_locks.setdefault(os.path.realpath(database_file(engine)), threading.Lock())
