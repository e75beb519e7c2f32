"""Dead letters: what was put aside, and how people deal with it. Those that are dealt with stay until they are pruned."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from dramaturg_protocol.messages import Request
from dramaturg_protocol.records import DeadLetter, LetterFilter, LetterOutcome, LettersClosed
from dramaturg_store.clock import Now
from dramaturg_store.database_time import time_of
from dramaturg_store.dialects import storable
from dramaturg_store.inbox import SqlInbox
from dramaturg_store.rows import letter_of
from dramaturg_store.schema import dead_letters
from dramaturg_store.slices import slices
from dramaturg_store.transactions import Transactions


class SqlLetters:
    """The dead letters of one namespace. All methods raise `Unreachable`."""

    def __init__(self, transactions: Transactions, inbox: SqlInbox, *, namespace: str, now: Now) -> None:
        self._transactions = transactions
        self._inbox = inbox
        self._namespace = namespace
        self._now = now

    def list(self, wanted: LetterFilter = LetterFilter(), *, after: int = 0, limit: int = 50) -> Sequence[DeadLetter]:  # noqa: B008
        """What was put aside, oldest first, beyond an id."""
        statement = self._matching(wanted).where(dead_letters.c.id > after).order_by(dead_letters.c.id).limit(limit)
        with self._transactions.reading() as connection:
            return [letter_of(row) for row in connection.execute(statement)]

    def get(self, letter_id: int) -> DeadLetter | None:
        """One of them, open or not."""
        with self._transactions.reading() as connection:
            row = connection.execute(self._mine().where(dead_letters.c.id == letter_id)).one_or_none()
        return None if row is None else letter_of(row)

    def drop(self, letter_ids: Collection[int], by: str | None, reason: str | None) -> int:
        """Nobody will do anything about these; how many were open."""
        return self._transactions.written(
            lambda connection: self._close(connection, letter_ids, LetterOutcome.DROPPED, by, reason)
        )

    def put_back(
        self, letter_id: int, request_of: Callable[[DeadLetter], Request], by: str | None, reason: str | None
    ) -> bool:
        """Put what a letter holds into the inbox, and close it, in one; whether it was open.

        Parameters:
          request_of: reads the letter.
        """

        def write(connection: Connection) -> bool:
            is_open = self._close(connection, [letter_id], LetterOutcome.RETRIED, by, reason) == 1
            if is_open:
                row = connection.execute(self._mine().where(dead_letters.c.id == letter_id)).one()
                self._inbox.put_on(connection, [request_of(letter_of(row))])
            return is_open

        return self._transactions.written(write)

    def _close(
        self,
        connection: Connection,
        letter_ids: Iterable[int],
        outcome: LetterOutcome,
        by: str | None,
        reason: str | None,
    ) -> int:
        now, closed = time_of(connection, self._now), 0
        for part in slices(sorted(letter_ids)):
            statement = (
                update(dead_letters)
                .where(
                    dead_letters.c.namespace == self._namespace,
                    dead_letters.c.id.in_(part),
                    dead_letters.c.closed_at.is_(None),
                )
                .values(_end(outcome, by, reason, now))
            )
            closed += connection.execute(statement).rowcount
        return closed

    def _mine(self) -> Any:
        return select(dead_letters).where(dead_letters.c.namespace == self._namespace)

    def _matching(self, wanted: LetterFilter) -> Any:
        closed_at = dead_letters.c.closed_at
        statement = self._mine().where(closed_at.is_not(None) if wanted.closed else closed_at.is_(None))
        if wanted.kinds:
            statement = statement.where(dead_letters.c.source.in_(wanted.kinds))
        if wanted.run_id is not None:
            statement = statement.where(dead_letters.c.run_id == wanted.run_id)
        if wanted.step is not None:
            statement = statement.where(dead_letters.c.step == wanted.step)
        return statement if wanted.since is None else statement.where(dead_letters.c.created_at >= wanted.since)


def close_letters(connection: Connection, run_id: str, closings: Iterable[LettersClosed], now: datetime) -> None:
    """Close open letters of a run in the transaction that is open."""
    for closing in closings:
        statement = update(dead_letters).where(dead_letters.c.run_id == run_id, dead_letters.c.closed_at.is_(None))
        if closing.seq is not None:
            statement = statement.where(dead_letters.c.seq == closing.seq)
        if closing.kind is not None:
            statement = statement.where(dead_letters.c.source == closing.kind.value)
        connection.execute(statement.values(_end(closing.outcome, closing.by, closing.reason, now)))


def _end(outcome: LetterOutcome, by: str | None, reason: str | None, now: datetime) -> dict[str, Any]:
    return {
        "closed_at": now,
        "closed_as": outcome.value,
        "closed_by": None if by is None else storable(by)[:255],
        "closed_reason": None if reason is None else storable(reason),
    }
