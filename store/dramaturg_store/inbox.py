"""The port `Inbox` over SQL, and its other end: what clients put there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, bindparam, literal_column, select

from dramaturg_protocol.messages import Request, RequestKind
from dramaturg_store.clock import Now
from dramaturg_store.database_time import time_of
from dramaturg_store.dialects import insert_ignore, is_one_of
from dramaturg_store.inbox_postgresql import put_and_commit, put_starts_and_commit
from dramaturg_store.rows import request_of, request_values
from dramaturg_store.schema import inbox
from dramaturg_store.transactions import Transactions, told_as_faults

# Numbers, written into the statement: there may be more of them than a database takes parameters.
_NO_START = inbox.c.kind != literal_column(f"'{RequestKind.START.value}'")  # as in the index
_NOT_SKIPPED = inbox.c.arrival.not_in(bindparam("skip", expanding=True, literal_execute=True))


class SqlInbox:
    """Requests of clients, durable before a coordinator sees them."""

    def __init__(self, transactions: Transactions, *, now: Now) -> None:
        self._transactions = transactions
        self._now = now

    def take(
        self, partitions: Collection[int], limit: int, skip: Collection[int] = (), *, starts: bool = True
    ) -> Sequence[Request]:
        """Requests that are there, in order of arrival, but for the arrivals in `skip`, and for starts if those wait."""
        values = {"partitions": list(partitions), "limit": limit}
        statement = _take(self._transactions.dialect)
        if skip:
            statement, values = statement.where(_NOT_SKIPPED), {**values, "skip": sorted(skip)}
        if not starts:
            statement = statement.where(_NO_START)
        with self._transactions.reading() as connection:
            return [request_of(row) for row in connection.execute(statement, values)]

    def put(self, requests: Sequence[Request], connection: Connection | None = None) -> None:
        """Send requests, all or none; one whose message id is there already counts once.

        Parameters:
          connection: the caller's own; they are sent if and only if its transaction is committed.

        Raises:
          Unreachable: the database does not answer.
        """
        if not requests:
            return
        if connection is not None:
            with told_as_faults():
                self.put_on(connection, requests)
        elif self._transactions.dialect == "postgresql":
            rows = [request_values(request) for request in requests]
            self._transactions.written(lambda own: put_and_commit(own, rows))
        else:
            self._transactions.written(lambda own: self.put_on(own, requests))

    def put_on(self, connection: Connection, requests: Sequence[Request]) -> None:
        """Send requests in the transaction that is open."""
        if requests:
            now = time_of(connection, self._now)
            rows = [{**request_values(request), "sent_at": now} for request in requests]
            connection.execute(insert_ignore(connection.dialect.name, inbox), rows)

    def put_starts(self, requests: Sequence[Request]) -> set[str] | None:
        """Send starts in a transaction of their own, but for those whose run is there already.

        Returns:
          The message ids of those that were sent; ``None``, and nothing sent, where the database has no short way.
        """
        if self._transactions.dialect != "postgresql":
            return None
        rows = [request_values(request) for request in requests]
        return self._transactions.written(lambda own: put_starts_and_commit(own, rows))


@cache
def _take(dialect: str) -> Any:
    wanted = select(inbox).where(is_one_of(inbox.c.partition, "partitions", dialect))
    return wanted.order_by(inbox.c.arrival).limit(bindparam("limit"))
