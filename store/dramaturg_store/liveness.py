"""Whether a pooled connection to PostgreSQL is still one, asked without a round trip where it was used a moment ago.

A server that ended a connection has said so, or closed it: then there is something to read where nobody asked anything.
Only a connection that lay idle for long may have been forgotten by somebody in between; that one is asked.
"""

from __future__ import annotations

import select
import time
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

#: Seconds after which a connection that nobody used is asked.
IDLE = 5.0

_RETURNED_AT = "dramaturg_returned_at"


def check_pooled(engine: Engine) -> None:
    """Give nobody a connection that is gone; another one is made instead."""

    def returned(_raw: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        entry.info[_RETURNED_AT] = time.monotonic()

    def wanted(raw: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
        returned_at = entry.info.get(_RETURNED_AT)
        if returned_at is None:
            return
        if has_ended(raw):
            raise DisconnectionError("the server ended this connection")
        if time.monotonic() - returned_at > IDLE:
            _ping(engine, raw)

    event.listen(engine, "checkin", returned)
    event.listen(engine, "checkout", wanted)


def has_ended(raw: Any) -> bool:
    """Whether the other end has closed a connection, or says that it does."""
    if raw.closed:
        return True
    poll = select.poll()
    poll.register(raw.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _ping(engine: Engine, raw: DBAPIConnection) -> None:
    driver: Any = engine.dialect.loaded_dbapi
    try:
        engine.dialect.do_ping(raw)
    except driver.Error as error:
        raise DisconnectionError("the server does not answer on this connection") from error
