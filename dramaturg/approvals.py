"""`client.approvals`: what waits for whom, since when, until when; and deciding it."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from dramaturg.views import Event
from dramaturg_protocol.asking import Decision
from dramaturg_protocol.asking_tokens import Place, read_approval_token
from dramaturg_protocol.errors import NotFound, PayloadError
from dramaturg_protocol.event_codec import decode_body
from dramaturg_protocol.events import ApprovalDecided, ApprovalRequested, ApprovalWithdrawn, Cut, HistoryEvent
from dramaturg_protocol.messages import RequestKind
from dramaturg_protocol.payloads import Payload, decode_value
from dramaturg_protocol.request_bodies import DecideBody
from dramaturg_store.approvals import OpenApprovalRow

if TYPE_CHECKING:
    from dramaturg.client import Client
    from dramaturg_store.approvals import SqlApprovals


@dataclass(frozen=True, slots=True)
class ApprovalInfo:
    """A decision that people are or were asked for.

    Attributes:
      id: of this request and no other; `Approvals.approve` takes it.
      approvers: who may decide; none for anybody.
      prompt: what they are asked.
      details: what they need to know.
      since: when they were asked.
      due: when it times out; ``None`` for never.
      decision: what came of it; ``None`` while it waits.
      is_open: whether it waits; it does not either where its run ended or waits for it no longer.
    """

    id: str
    run_id: str
    workflow_id: str
    workflow: str
    name: str
    approvers: tuple[str, ...]
    prompt: str
    details: Any
    since: datetime
    due: datetime | None
    decision: Decision | None = None
    is_open: bool = True


class Approvals:
    """The approvals of a client's namespace."""

    def __init__(self, client: Client, stored: Callable[[], SqlApprovals], secret: Callable[[], str]) -> None:
        self._client = client
        self._stored = stored
        self._secret = secret

    def list(
        self, workflow: str | None = None, name: str | None = None, approver: str | None = None, limit: int = 50
    ) -> builtins.list[ApprovalInfo]:
        """What waits for a decision, the oldest first.

        Parameters:
          workflow: of this workflow only.
          name: of this name only.
          approver: those that this person may decide: they are among its approvers, or it has none.
          limit: how many.
        """
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        return [
            _shown(row) for row in self._stored().list(workflow=workflow, name=name, approver=approver, limit=limit)
        ]

    def get(self, id: str) -> ApprovalInfo:  # noqa: A002 - the contract's
        """One approval, open or not; `NotFound` where there is none of this id."""
        place = _place_in(id)
        row = self._stored().get(*place)
        return _shown(row) if row is not None else self._past(id, place)

    def approve(self, id: str, by: str, comment: str = "") -> None:  # noqa: A002 - the contract's
        """Approve this very request, whatever others of its name the run has; see `Handle.approve`."""
        self._decide(_place_in(id), True, by, comment)

    def reject(self, id: str, by: str, comment: str = "") -> None:  # noqa: A002 - the contract's
        """Reject this very request; as `approve`."""
        self._decide(_place_in(id), False, by, comment)

    def read_token(self, token: str) -> tuple[ApprovalInfo, bool, str]:
        """What a token of a link would decide: which approval, whether it approves it, and as whom. It decides nothing.

        Raises:
          InvalidToken: it is none of this namespace's, or was changed.
          NotFound: what it is about is deleted.
        """
        place, approved, by = read_approval_token(self._secret(), token)
        return self.get(_id_of(place)), approved, by

    def decide_by_token(self, token: str, comment: str = "") -> None:
        """Decide with the token of a link; see `Client.decide_by_token`."""
        place, approved, by = read_approval_token(self._secret(), token)
        self._decide(place, approved, by, comment)

    def _decide(self, place: Place, approved: bool, by: str, comment: str) -> None:
        body = decision_of("", approved, by, comment, place)
        self._client.requests.send(place.run_id, RequestKind.DECIDE, body)

    def _past(self, any_id: str, place: Place) -> ApprovalInfo:
        found: ApprovalInfo | None = None
        for event in _lines_at(self._client.events_of(place.run_id, follow=False), place):
            body = event.body
            if isinstance(body, ApprovalRequested):
                about = self._client.describe(place.run_id)
                found = ApprovalInfo(
                    any_id,
                    place.run_id,
                    about.workflow_id,
                    about.workflow,
                    body.name,
                    body.approvers,
                    body.prompt,
                    None if body.details is None else _value_of(body.details),
                    event.time,
                    body.due,
                    is_open=False,
                )
            elif isinstance(body, ApprovalDecided) and found is not None:
                decision = Decision(body.approved, body.by, body.comment, body.at, body.timed_out)
                found = replace(found, decision=decision)
        if found is None:
            raise NotFound(f"there is no approval {any_id!r}: client.approvals.list() shows those that wait")
        return found


class AsyncApprovals:
    """As `Approvals`, awaited."""

    def __init__(self, approvals: Approvals) -> None:
        self._approvals = approvals

    async def list(
        self, workflow: str | None = None, name: str | None = None, approver: str | None = None, limit: int = 50
    ) -> builtins.list[ApprovalInfo]:
        """As `Approvals.list`."""
        return await asyncio.to_thread(self._approvals.list, workflow, name, approver, limit)

    async def get(self, id: str) -> ApprovalInfo:  # noqa: A002 - the contract's
        """As `Approvals.get`."""
        return await asyncio.to_thread(self._approvals.get, id)

    async def approve(self, id: str, by: str, comment: str = "") -> None:  # noqa: A002 - the contract's
        """As `Approvals.approve`."""
        await asyncio.to_thread(self._approvals.approve, id, by, comment)

    async def reject(self, id: str, by: str, comment: str = "") -> None:  # noqa: A002 - the contract's
        """As `Approvals.reject`."""
        await asyncio.to_thread(self._approvals.reject, id, by, comment)

    async def read_token(self, token: str) -> tuple[ApprovalInfo, bool, str]:
        """As `Approvals.read_token`."""
        return await asyncio.to_thread(self._approvals.read_token, token)


def decision_of(name: str, approved: bool, by: object, comment: object, place: Place | None = None) -> DecideBody:
    """What is sent to the run.

    Raises:
      TypeError, ValueError: it does not say who decides.
    """
    if not isinstance(by, str) or not isinstance(comment, str):
        raise TypeError(f"by and comment must be str, not {by!r} and {comment!r}")
    if not by.strip():
        raise ValueError("by must say who decides: the history keeps it")
    if place is None:
        return DecideBody(name, approved, by, comment)
    return DecideBody(name, approved, by, comment, place.generation, place.seq)


def _id_of(place: Place) -> str:
    return f"{place.run_id}.{place.generation}.{place.seq}"


def _place_in(any_id: str) -> Place:
    run_id, *rest = any_id.rsplit(".", 2)
    if len(rest) == 2 and all(part.isdecimal() for part in rest):
        return Place(run_id, int(rest[0]), int(rest[1]))
    raise NotFound(f"there is no approval {any_id!r}: client.approvals.list() shows those that wait")


def _shown(row: OpenApprovalRow) -> ApprovalInfo:
    place = Place(row.run_id, row.generation, row.seq)
    details = None if row.details is None else _value_of(Payload(to_json(row.details).decode()))
    return ApprovalInfo(
        _id_of(place),
        row.run_id,
        row.workflow_id,
        row.workflow,
        row.name,
        row.approvers,
        row.prompt,
        details,
        row.since,
        row.due,
    )


def _value_of(details: Payload) -> Any:
    """What was given; or what is stored, where this process does not know its class."""
    try:
        return decode_value(details, Any, where="the details of an approval")
    except PayloadError:
        return from_json(details)


def _lines_at(events: Iterator[Event], place: Place) -> Iterator[HistoryEvent]:
    """What a history says of an approval."""
    generation, of_seq = 1, 0
    for event in events:
        if not event.type.startswith(("approval.", "run.re")):
            continue
        body = decode_body(event.type, to_json(event.data).decode())
        if isinstance(body, Cut):
            generation = body.generation
        elif isinstance(body, ApprovalRequested | ApprovalDecided | ApprovalWithdrawn) and body.seq == place.seq:
            of_seq = generation if isinstance(body, ApprovalRequested) else of_seq
            if of_seq == place.generation:
                yield HistoryEvent(event.number, event.time, body)
