"""The one clock: the database's, whatever the machine of whoever asks believes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select

from dramaturg_store.clock import Now
from dramaturg_store.dialects import server_now
from dramaturg_store.schema import partitions

_HIGHEST_SEEN = select(func.max(partitions.c.clock, type_=partitions.c.clock.type))


def time_of(connection: Connection, now: Now) -> datetime:
    """The time of the database that a connection leads to.

    Parameters:
      now: the clock of this machine, for a file; never below the highest time that the file has seen.
    """
    if connection.dialect.name != "sqlite":
        told: datetime = connection.scalars(select(server_now(connection.dialect.name))).one()
        return told
    seen: datetime | None = connection.scalars(_HIGHEST_SEEN).one()
    return now() if seen is None else max(now(), seen)
