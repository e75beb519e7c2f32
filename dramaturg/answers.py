"""What whoever has a token answers: the outcome of a step that was left open, a decision, the call of a hook."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dramaturg.callers_transactions import on_connection
from dramaturg_protocol.request_bodies import SettleVerb

if TYPE_CHECKING:
    from dramaturg.approvals import Approvals
    from dramaturg.client import Client
    from dramaturg.requests import Requests


class Answers:
    """The verbs of `Client` that take a token."""

    requests: Requests
    approvals: Approvals

    def complete_step(self, token: str, value: object = None, by: str | None = None, reason: str | None = None) -> None:
        """Give a step that was left open (`complete_later`) its result.

        It may be called twice: saying the same again changes nothing.

        Parameters:
          token: what `complete_later` gave.

        Raises:
          InvalidToken: it is none of this namespace's.
          TokenExpired: the step has its outcome, or timed out.
          PayloadError: the value is not what the step returns.
          NotAnswered: nobody recorded it in time; it stays, and counts once.
        """
        self.requests.settle_with(token, SettleVerb.COMPLETE, value, "", by, reason)

    def fail_step(self, token: str, message: str, by: str | None = None, reason: str | None = None) -> None:
        """Fail a step that was left open; it is not tried again. As `complete_step`."""
        self.requests.settle_with(token, SettleVerb.FAIL, None, message, by, reason)

    def decide_by_token(self, token: str, comment: str = "") -> None:
        """Decide an approval with the token at the end of a link (`Approval.link`): it says what, and as whom.

        Parameters:
          comment: kept in the history.

        Raises:
          InvalidToken: it is none of this namespace's, or was changed.
          AlreadyDecided: the approval has its outcome.
          NoOpenApproval: nobody waits for it any more.
          NotAnswered: nobody recorded it in time; it stays, and counts once.
        """
        self.approvals.decide_by_token(token, comment)

    def resume_hook(self, token: str, payload: object = None, *, connection: Any = None) -> None:
        """Resolve a hook, once.

        Parameters:
          token: of the hook, as its workflow gave it.
          payload: what the workflow gets, read as the type that it waits for.
          connection: a SQLAlchemy `Connection` or `Session`: the hook is resolved if and only if its transaction is
            committed, and nothing is waited for; whether it was open is in the run's history.

        Raises:
          InvalidToken: it is none of this namespace's, or was changed.
          AlreadyResolved: it was used before.
          TokenExpired: its time is over, or nobody waits for it any more.
          PayloadError: the payload cannot be encoded, or is not what the workflow waits for; the hook stays open.
          NotAnswered: nobody recorded it in time; it stays, and counts once.
        """
        self.requests.resume_hook(token, payload, connection)


class AsyncAnswers:
    """As `Answers`, awaited."""

    _client: Client

    async def complete_step(
        self, token: str, value: object = None, by: str | None = None, reason: str | None = None
    ) -> None:
        """See `Client.complete_step`."""
        await asyncio.to_thread(self._client.complete_step, token, value, by, reason)

    async def fail_step(self, token: str, message: str, by: str | None = None, reason: str | None = None) -> None:
        """See `Client.fail_step`."""
        await asyncio.to_thread(self._client.fail_step, token, message, by, reason)

    async def decide_by_token(self, token: str, comment: str = "") -> None:
        """See `Client.decide_by_token`."""
        await asyncio.to_thread(self._client.decide_by_token, token, comment)

    async def resume_hook(self, token: str, payload: object = None, *, connection: Any = None) -> None:
        """See `Client.resume_hook`; ``connection`` is an `AsyncConnection` or an `AsyncSession`."""
        await on_connection(connection, lambda own: self._client.resume_hook(token, payload, connection=own))
