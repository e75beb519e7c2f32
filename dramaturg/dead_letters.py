"""`client.dead_letters`: what was put aside, and what a person does about it."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from dramaturg import views
from dramaturg.filters import moment_since
from dramaturg_protocol.durations import Duration
from dramaturg_protocol.errors import NotFound, WrongState
from dramaturg_protocol.messages import Request, RequestKind, decode_report, encode_message
from dramaturg_protocol.reading import MalformedMessage
from dramaturg_protocol.records import STEP_LETTERS, LetterFilter, LetterKind
from dramaturg_protocol.records import DeadLetter as Stored
from dramaturg_protocol.request_bodies import ControlBody
from dramaturg_protocol.shown import shown_json

if TYPE_CHECKING:
    from dramaturg.client import Client
    from dramaturg_store.letters import SqlLetters

T = TypeVar("T")

_REQUEST: TypeAdapter[Request] = TypeAdapter(Request)
_PAGE = 500


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Something that ended badly, and waits for a person.

    Attributes:
      kind: ``gave_up`` (a step of which its run failed), ``held`` (a step that is held for a person), ``worker_lost``,
        ``not_reported``, ``inbox``, ``report``, ``queue``, ``work`` or ``run``.
      reason: what is wrong, in words.
      payload: of a step: its name, position, attempt, queue, ``input`` and ``error``; else what the message held.
      closed_as: ``retried``, ``settled`` or ``dropped``; none while it is open.
      history: of a step: its events, where one letter was asked for.
    """

    id: int
    kind: str
    reason: str
    run_id: str | None
    seq: int | None
    step: str | None
    payload: Any
    created_at: datetime | None
    closed_at: datetime | None = None
    closed_as: str | None = None
    closed_by: str | None = None
    closed_reason: str | None = None
    history: builtins.list[views.Event] = field(default_factory=builtins.list[views.Event])


class DeadLetters:
    """The dead letters of a client's namespace."""

    def __init__(self, client: Client, letters: Callable[[], SqlLetters], now: Callable[[], datetime]) -> None:
        self._client = client
        self._letters = letters
        self._now = now

    def list(
        self,
        kind: str | Collection[str] | None = None,
        run: str | None = None,
        step: str | None = None,
        since: datetime | Duration | None = None,
        closed: bool = False,
        limit: int = 50,
        after: int = 0,
    ) -> builtins.list[DeadLetter]:
        """What was put aside, oldest first.

        Parameters:
          kind: of this kind only, or of one of these.
          run: about this run, by its run id or workflow id.
          step: about steps of this name.
          since: put aside then or later: an aware moment, or so long ago.
          closed: those that were dealt with, instead of the open ones.
          after: those beyond this id: where the page before ended.

        Raises:
          ValueError: an unknown kind, a moment without a time zone.
          NotFound: there is no such run.
        """
        wanted = self._filter(kind, run, step, since, closed)
        return [_shown(letter) for letter in self._letters().list(wanted, after=after, limit=limit)]

    def get(self, id: int) -> DeadLetter:  # noqa: A002 - the contract's
        """One of them, open or not, with the history of its step; `NotFound` where there is none."""
        stored = self._stored(id)
        letter = _shown(stored)
        if stored.run_id is None or stored.seq is None:
            return letter
        events = self._client.events_of(stored.run_id, follow=False)
        return replace(letter, history=[event for event in events if event.data.get("seq") == stored.seq])

    def retry(
        self,
        id: int | None = None,  # noqa: A002 - the contract's
        *,
        kind: str | Collection[str] | None = None,
        run: str | None = None,
        step: str | None = None,
        since: datetime | Duration | None = None,
        by: str | None = None,
        reason: str | None = None,
    ) -> int:
        """Try again: the run of a step goes on as by `Handle.retry`, a message goes back to where it was taken from.

        Parameters:
          id: one letter; or else a filter, as of `list`: every open letter that it meets and that can be retried.
          by: who, kept in the letter and in the run's history.
          reason: why, kept there too.

        Returns:
          How many letters were dealt with.

        Raises:
          TypeError: neither an id nor a filter.
          NotFound: there is no such letter.
          WrongState: it was dealt with, or cannot be retried; with a filter such letters are left.
          NotAnswered: no coordinator recorded it in time.
        """
        if id is not None:
            return self._retry(self._open(id), by, reason)
        done = 0
        retried: set[str] = set()
        for letter in self._all(kind, run, step, since):
            if letter.source in STEP_LETTERS and letter.run_id in retried:
                done += 1  # dealt with by the retry of its run
                continue
            try:
                done += self._retry(letter, by, reason)
            except WrongState:
                continue
            if letter.run_id is not None:
                retried.add(letter.run_id)
        return done

    def drop(
        self,
        id: int | None = None,  # noqa: A002 - the contract's
        *,
        kind: str | Collection[str] | None = None,
        run: str | None = None,
        step: str | None = None,
        since: datetime | Duration | None = None,
        by: str | None = None,
        reason: str | None = None,
    ) -> int:
        """Nothing is to be done about it: the letter is closed; a run or a held step stays as it is.

        Parameters, result and errors as `retry`.
        """
        ids = [self._open(id).id] if id is not None else [each.id for each in self._all(kind, run, step, since)]
        return self._letters().drop(ids, by, reason)

    def _retry(self, letter: Stored, by: str | None, reason: str | None) -> int:
        if letter.source in STEP_LETTERS:
            assert letter.run_id is not None
            self._client.requests.send(letter.run_id, RequestKind.RETRY, ControlBody(by, reason))
            return 1
        _request_in(letter)
        is_done = self._letters().put_back(letter.id, _request_in, by, reason)
        self._client.tell_coordinator()
        return int(is_done)

    def _all(
        self,
        kind: str | Collection[str] | None,
        run: str | None,
        step: str | None,
        since: datetime | Duration | None,
    ) -> builtins.list[Stored]:
        if kind is None and run is None and step is None and since is None:
            raise TypeError("say which dead letters: an id, or a filter (kind=, run=, step=, since=)")
        wanted, after = self._filter(kind, run, step, since, closed=False), 0
        found: builtins.list[Stored] = []
        while page := self._letters().list(wanted, after=after, limit=_PAGE):
            found += page
            after = page[-1].id
        return found

    def _filter(
        self,
        kind: str | Collection[str] | None,
        run: str | None,
        step: str | None,
        since: datetime | Duration | None,
        closed: bool,
    ) -> LetterFilter:
        run_id = None if run is None else self._client.resolve(run)
        return LetterFilter(_kinds(kind), run_id, step, moment_since(since, self._now), closed)

    def _stored(self, letter_id: int) -> Stored:
        found = self._letters().get(letter_id)
        if found is None:
            raise NotFound(f"there is no dead letter {letter_id}")
        return found

    def _open(self, letter_id: int) -> Stored:
        letter = self._stored(letter_id)
        if letter.closed_at is not None:
            who = f" by {letter.closed_by}" if letter.closed_by else ""
            raise WrongState(
                f"dead letter {letter_id} was {letter.closed_as}{who} at {letter.closed_at:%Y-%m-%d %H:%M}"
            )
        return letter


class AsyncDeadLetters:
    """As `DeadLetters`, awaited."""

    def __init__(self, letters: DeadLetters) -> None:
        self._letters = letters

    async def list(self, *args: Any, **filters: Any) -> builtins.list[DeadLetter]:
        """As `DeadLetters.list`."""
        return await asyncio.to_thread(self._letters.list, *args, **filters)

    async def get(self, id: int) -> DeadLetter:  # noqa: A002 - the contract's
        """As `DeadLetters.get`."""
        return await asyncio.to_thread(self._letters.get, id)

    async def retry(self, id: int | None = None, **options: Any) -> int:  # noqa: A002 - the contract's
        """As `DeadLetters.retry`."""
        return await asyncio.to_thread(self._letters.retry, id, **options)

    async def drop(self, id: int | None = None, **options: Any) -> int:  # noqa: A002 - the contract's
        """As `DeadLetters.drop`."""
        return await asyncio.to_thread(self._letters.drop, id, **options)


def _kinds(kind: str | Collection[str] | None) -> tuple[str, ...]:
    wanted = (kind,) if isinstance(kind, str) else tuple(kind or ())
    unknown = [each for each in wanted if each not in list(LetterKind)]
    if unknown:
        raise ValueError(f"there is no kind {unknown[0]!r} of dead letters; it is one of {', '.join(LetterKind)}")
    return wanted


def _request_in(letter: Stored) -> Request:
    """The message to the run's inbox that a letter holds.

    Raises:
      WrongState: it holds none.
    """
    try:
        if letter.source == LetterKind.INBOX:
            return replace(_REQUEST.validate_json(letter.body), reply=False, arrival=0)
        if letter.source == LetterKind.REPORT and letter.partition is not None:
            report = decode_report(letter.body)
            text = encode_message(report)
            return Request(f"letter:{letter.id}", RequestKind.REPORT, report.run_id, report.partition, text)
    except (ValidationError, MalformedMessage) as problem:
        raise WrongState(
            f"dead letter {letter.id} cannot be read, so it cannot be retried: drop it ({problem})"
        ) from None
    raise WrongState(f"dead letter {letter.id} is of the kind {letter.source}: there is nothing to put back; drop it")


def _shown(letter: Stored) -> DeadLetter:
    return DeadLetter(
        id=letter.id,
        kind=str(letter.source),
        reason=letter.reason,
        run_id=letter.run_id,
        seq=letter.seq,
        step=letter.step,
        payload=_payload(letter.body),
        created_at=letter.at,
        closed_at=letter.closed_at,
        closed_as=letter.closed_as,
        closed_by=letter.closed_by,
        closed_reason=letter.closed_reason,
    )


def _payload(body: str) -> Any:
    try:
        return shown_json(body)
    except ValueError:
        return body
