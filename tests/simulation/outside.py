"""What clients say to generated programs, as it follows from what is stored: whom they find, and what they were answered.

A client that was refused, since the run had failed, asks again once the run goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic_core import from_json

from dramaturg.testing.simulation.clients import Finder, is_known
from dramaturg_protocol.asking_tokens import Place
from dramaturg_protocol.messages import Request, RequestKind, encode_message
from dramaturg_protocol.payloads import Payload, encode_value
from dramaturg_protocol.records import WorkKind
from dramaturg_protocol.request_bodies import DecideBody, ResolveBody, RunMessage
from dramaturg_protocol.signatures import CallSchema
from dramaturg_protocol.talk_messages import QuestionBody, SignalBody
from dramaturg_store.memory import Tables

#: How often somebody asks who is refused.
_TRIES = 6

_NO_SCHEMA = CallSchema.open("what a client asks")


def signals(name: str, count: int, run_id: str, *, in_order: bool) -> Finder:
    """Somebody sends numbers, each once to the run, or to each that waits for them where it is not known.

    Parameters:
      in_order: each only after the one before was accepted.
    """

    def find(tables: Tables) -> Iterator[Request]:
        for target in [run_id] if run_id else _waiting_for(tables, name):
            if not is_known(tables, target):
                continue
            for number in range(count):
                body = SignalBody(name, encoded(number))
                asked = f"signal {name} {number} to {_first_of(tables, target)}"
                yield from asks(tables, asked, RequestKind.SIGNAL, target, body)
                if in_order and not is_accepted(tables, asked):
                    break

    return find


def redrives(tables: Tables) -> Iterator[Request]:
    """What one run told another while that had failed, said again by a person once that goes on."""
    for letter in tables.letters:
        record = tables.runs.get(letter.run_id or "")
        if letter.source == "inbox" and record is not None and record.closed_at is None:
            told = from_json(letter.body)
            yield Request(f"letter {letter.id}", RequestKind(told["kind"]), record.run_id, 1, told["body"], reply=True)


def asks(tables: Tables, asked: str, kind: RequestKind, run_id: str, body: RunMessage) -> Iterator[Request]:
    """What a client sends, all its tries so far.

    Parameters:
      asked: what makes it the same, whichever try it is.
    """
    for number in range(_TRIES):
        message_id = f"{asked}, try {number}"
        yield Request(message_id, kind, run_id, 1, encode_message(body), reply=True)
        answer, record = tables.replies.get(message_id), tables.runs.get(run_id)
        if answer is None or not answer.error or record is None or record.closed_at is not None:
            return


def is_accepted(tables: Tables, asked: str) -> bool:
    """Whether a client was told that this was done."""
    answers = (tables.replies.get(f"{asked}, try {number}") for number in range(_TRIES))
    return any(answer is not None and not answer.error for answer in answers)


def encoded(value: Any) -> Payload:
    return encode_value(value, Any, where="what a client says", limit=1 << 20)


def _waiting_for(tables: Tables, name: str) -> list[str]:
    return [run_id for run_id, record in tables.runs.items() if record.waits is not None and name in record.waits]


def _first_of(tables: Tables, run_id: str) -> str:
    """The first run of a chain."""
    record = tables.runs.get(run_id)
    while record is not None and record.continued_from is not None:
        run_id = record.continued_from
        record = tables.runs.get(run_id)
    return run_id


#: What the first who uses a hook's token says, and the second.
FIRST, SECOND = 1, 2


def questions(name: str, numbers: Iterable[int], run_id: str) -> Finder:
    """Somebody has updates done, and asks a query beside each."""

    def find(tables: Tables) -> Iterator[Request]:
        for target in [run_id] if run_id else _waiting_for(tables, name):
            if not is_known(tables, target):
                continue
            for number in numbers:
                for kind, values in ((RequestKind.UPDATE, (number,)), (RequestKind.QUERY, ())):
                    body = QuestionBody(name, _NO_SCHEMA.encode_call(values, {}, limit=1 << 20))
                    yield from asks(tables, f"{kind} {name} {number} to {target}", kind, target, body)

    return find


def decisions(name: str) -> Finder:
    """Somebody approves each open approval of a name, and says its details; somebody else comes later and rejects it."""

    def find(tables: Tables) -> Iterator[Request]:
        for place, said in _open_at(tables, WorkKind.APPROVAL, name):
            body = DecideBody("", True, "ada", str(said["details"]), *place[1:])
            yield from asks(tables, _about(name, place), RequestKind.DECIDE, place[0], body)
        for place in _settled_at(tables, name):
            body = DecideBody("", False, "bob", "too late", *place[1:])
            yield Request(
                f"too late: {_about(name, place)}", RequestKind.DECIDE, place[0], 1, encode_message(body), True
            )

    return find


def resolutions(name: str) -> Finder:
    """Somebody uses the token of each open hook of a name; somebody else does so later."""

    def find(tables: Tables) -> Iterator[Request]:
        for place, _ in _open_at(tables, WorkKind.HOOK, name):
            body = ResolveBody(*place[1:], encoded(FIRST))
            yield from asks(tables, _about(name, place), RequestKind.RESOLVE, place[0], body)
        for place in _settled_at(tables, name):
            body = ResolveBody(*place[1:], encoded(SECOND))
            yield Request(
                f"too late: {_about(name, place)}", RequestKind.RESOLVE, place[0], 1, encode_message(body), True
            )

    return find


def _open_at(tables: Tables, kind: WorkKind, name: str) -> Iterator[tuple[Place, Any]]:
    for items in tables.work.values():
        for item in items.values():
            if item.kind is kind and item.message is not None and f'"{name}"' in item.message:
                yield Place(item.run_id, item.generation, item.seq), from_json(item.message)


def _about(name: str, place: Place) -> str:
    return f"answer {name} at {':'.join(map(str, place))}"


def _settled_at(tables: Tables, name: str) -> Iterator[Place]:
    """The positions for which a client was told that the answer counts."""
    for message_id, answer in tables.replies.items():
        if message_id.startswith(f"answer {name} at ") and not answer.error:
            run_id, generation, seq = message_id.partition(" at ")[2].partition(",")[0].rsplit(":", 2)
            yield Place(run_id, int(generation), int(seq))
