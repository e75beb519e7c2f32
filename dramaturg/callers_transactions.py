"""A caller's own transaction: which connection it is, and telling the coordinator once it is over.

SQLAlchemy says that a transaction will be committed, and not that it was. So the coordinator is told when the connection
goes back to its pool, which a session does after each commit and a ``with engine.begin()`` block at its end. Somebody
who keeps his connection is found within the second in which the inbox is looked into anyway.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeGuard, TypeVar

from sqlalchemy import Connection, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

T = TypeVar("T")

_WAKE = "dramaturg_wake"


def connection_of(given: object) -> Connection:
    """The connection of a `Connection` or a `Session`, whose transaction it begins where that is not done.

    Raises:
      TypeError: it is neither.
    """
    if isinstance(given, Connection):
        return given
    from sqlalchemy.orm import Session, scoped_session

    if isinstance(given, Session | scoped_session):
        found: Connection = given.connection()
        return found
    advice = "; AsyncClient takes those" if is_async(given) else ""
    raise TypeError(f"connection= takes a SQLAlchemy Connection or Session, not {given!r}{advice}")


def is_async(given: object) -> TypeGuard[Any]:
    """Whether it is a connection or a session of SQLAlchemy's asyncio extension."""
    # By their modules: whoever has one of these has imported them, and nobody else should have to.
    return any(kind.__module__.startswith("sqlalchemy.ext.asyncio") for kind in type(given).__mro__)


async def on_connection(connection: object, do: Callable[[object], T]) -> T:
    """Do something in a thread, or on the connection of a coroutine's transaction.

    Raises:
      TypeError: it is no connection or session of SQLAlchemy's asyncio extension.
    """
    if connection is None:
        return await asyncio.to_thread(do, None)
    if not is_async(connection):
        raise TypeError(
            f"connection= takes an AsyncConnection or an AsyncSession here, not {connection!r}; Client takes it"
        )
    done: T = await connection.run_sync(do)
    return done


def call_when_returned(connection: Connection, call: Callable[[], None]) -> None:
    """Call once the connection goes back to its pool, in a thread of its own: nobody waits for it."""
    pool = connection.engine.pool
    if not event.contains(pool, "checkin", _returned):
        event.listen(pool, "checkin", _returned)
    connection.info[_WAKE] = call


def _returned(_raw: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
    call = entry.info.pop(_WAKE, None)
    if call is not None:
        threading.Thread(target=call, name="dramaturg-wake", daemon=True).start()
