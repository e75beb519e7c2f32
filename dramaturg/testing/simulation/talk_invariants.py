"""The invariants, of what is said to runs: nothing is lost, nothing counts twice, an answer is for what it was meant for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from dramaturg.testing.simulation import happenings as h
from dramaturg.testing.simulation.books import Books
from dramaturg_coordinator.core.effective import effective
from dramaturg_protocol import events as e
from dramaturg_protocol.messages import Reply, RequestKind
from dramaturg_protocol.records import RunWrites
from dramaturg_protocol.request_bodies import decode_decide, decode_resolve

_SAID = (RequestKind.SIGNAL, RequestKind.QUERY, RequestKind.UPDATE, RequestKind.DECIDE, RequestKind.RESOLVE)


def invariant_1_an_answer_is_for_what_it_was_meant_for(books: Books, happening: h.Happening) -> Iterator[str]:
    """A decision settles the approval that it names, a hook's token the hook that it was made for."""
    if not isinstance(happening, h.Committed):
        return
    for run_id, event in books.events():
        if isinstance(event.body, e.ApprovalDecided | e.HookResolved) and event.body.message_id is not None:
            meant = _place_meant(books, event.body.message_id)
            if meant not in (None, books.position_of(run_id, event)):
                yield f"event {event.number} of run {run_id} takes the answer to {meant}"


def invariant_1_an_update_ends_once(books: Books, happening: h.Happening) -> Iterator[str]:
    """An update that was accepted ends once, as it is answered; one that was rejected leaves no event."""
    if not isinstance(happening, h.Committed):
        return
    for run_id in dict.fromkeys(
        run_id for run_id, event in books.events() if isinstance(event.body, e.UpdateCompleted)
    ):
        lines = effective(books.histories[run_id])
        ends = Counter(line.body.message_id for line in lines if isinstance(line.body, e.UpdateCompleted))
        for message_id, count in ends.items():
            if count > 1:
                yield f"update {message_id} of run {run_id} ended {count} times"
    for write in happening.writes:
        for reply in write.replies:
            asked = books.talk.asked.get(reply.message_id)
            if asked is not None and asked.kind is RequestKind.UPDATE:
                yield from _wrong_answer(books, write, reply)


def invariant_2_what_is_taken_is_recorded_or_answered(books: Books, happening: h.Happening) -> Iterator[str]:
    """What somebody said leaves the inbox when it is recorded, handed on, refused or put aside."""
    if not isinstance(happening, h.Committed):
        return
    for write in happening.writes:
        answered = {sent.message_id for sent in write.sends} | {reply.message_id for reply in write.replies}
        for arrival in write.arrivals:
            request = books.talk.requests.get(arrival)
            if request is None or request.kind not in _SAID or write.dead_letters:
                continue
            if request.message_id not in answered and request.message_id not in books.state(write.run_id).messages:
                yield f"run {write.run_id} took {request.kind} {request.message_id}, and nothing came of it"


def invariant_2_a_chain_loses_no_signal(books: Books, happening: h.Happening) -> Iterator[str]:
    """The signals that a run did not take are in the inbox of the next one in the commit that ends it."""
    if not isinstance(happening, h.Committed):
        return
    for run_id, event in books.events():
        if isinstance(event.body, e.RunContinued):
            sent = {each.message_id for each in books.tables.inbox.values() if each.run_id == event.body.run_id}
            for message_id in event.body.signals:
                if message_id not in sent:
                    yield f"signal {message_id} is lost between run {run_id} and run {event.body.run_id}"


TALK_INVARIANTS = (
    invariant_1_an_answer_is_for_what_it_was_meant_for,
    invariant_1_an_update_ends_once,
    invariant_2_what_is_taken_is_recorded_or_answered,
    invariant_2_a_chain_loses_no_signal,
)


def _place_meant(books: Books, message_id: str) -> tuple[str, int, int] | None:
    """The position that an answer names; ``None`` for one that goes by a name."""
    asked = books.talk.asked.get(message_id)
    if asked is None:
        return None
    body = decode_decide(asked.body) if asked.kind is RequestKind.DECIDE else decode_resolve(asked.body)
    if body.seq is None or body.generation is None:
        return None
    return asked.run_id, body.generation, body.seq


def _wrong_answer(books: Books, write: RunWrites, reply: Reply) -> Iterator[str]:
    history = books.histories[write.run_id]
    if reply.error == "UpdateRejected" and any(
        isinstance(line.body, e.UpdateAccepted) and line.body.message_id == reply.message_id for line in history
    ):
        yield f"update {reply.message_id} of run {write.run_id} is rejected, and was accepted"
    if not reply.error and not any(
        isinstance(line.body, e.UpdateCompleted)
        and (line.body.message_id, line.body.result) == (reply.message_id, reply.value)
        for line in history
    ):
        yield f"update {reply.message_id} of run {write.run_id} is answered with {reply.value}, which it did not give"
