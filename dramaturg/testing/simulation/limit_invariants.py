"""What holds of limits: part of the tenth invariant, since a limit's count is a count of rows.

The rows are held against the history and the open work, not against what a coordinator has in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from dramaturg.testing.simulation import happenings as h
from dramaturg.testing.simulation.books import Books
from dramaturg_coordinator.core.run_state import OpenStep, RunState
from dramaturg_coordinator.core.states import RunPhase
from dramaturg_protocol.limit_messages import decode_limit
from dramaturg_protocol.limits import RUN_SEQ, LimitKind, Slot, Ticket, limit_id_of
from dramaturg_protocol.messages import RequestKind
from dramaturg_protocol.records import RunWrites, WorkKind
from dramaturg_store.memory_slots import is_under_way

Problems = Iterator[str]

_BEGUN = (WorkKind.STEP, WorkKind.WAITING, WorkKind.LOCAL, WorkKind.LEFT_OPEN)


def invariant_10_limits_let_through_no_more_than_they_say(books: Books, happening: h.Happening) -> Problems:
    """Never more at once, never more in a span of time, and nobody begins without a grant."""
    if not isinstance(happening, h.Committed):
        return
    if any(write.slots for write in happening.writes):
        yield from _too_many_at_once(books)
        yield from _too_many_in_a_span(books, happening)
    for write in happening.writes:
        yield from _begun_without_a_grant(books, write)


def invariant_10_no_place_is_held_by_what_is_over(books: Books, happening: h.Happening) -> Problems:
    """A grant and a place among those that wait go in the commit that ends their execution, or a request is there that says so."""
    if not isinstance(happening, h.Committed):
        return
    tables = books.tables
    for slot in lasting_slots(books):
        if not is_under_way(slot, tables.work, tables.runs) and not _is_freed_soon(books, slot):
            yield f"{_words(slot)} outlives its execution"


LIMIT_INVARIANTS = (
    invariant_10_limits_let_through_no_more_than_they_say,
    invariant_10_no_place_is_held_by_what_is_over,
)


def lasting_slots(books: Books) -> list[Slot]:
    """All rows that count until their execution ends, or wait."""
    tables = books.tables
    return [slot for number in tables.leases.epochs for slot in tables.slots.lasting(number)]


def _too_many_at_once(books: Books) -> Problems:
    granted = [slot for slot in lasting_slots(books) if slot.granted_at is not None]
    # A run that goes on after it was closed has its place again, beyond the limit if need be.
    counted = Counter(
        slot.limit_id for slot in granted if slot.seq != RUN_SEQ or books.state(slot.run_id).generation == 1
    )
    for slot in granted:
        if counted[slot.limit_id] > slot.most:
            holders = [each.ticket for each in granted if each.limit_id == slot.limit_id]
            yield f"{counted[slot.limit_id]} of {slot.name} {slot.key} are let through at once, of {slot.most}: {holders}"
            return


def _too_many_in_a_span(books: Books, commit: h.Committed) -> Problems:
    for write in commit.writes:
        for slot in write.slots:
            if slot.until is None or slot.granted_at is None:
                continue
            since = slot.granted_at - timedelta(seconds=slot.per)
            times = books.grants[slot.limit_id].values()
            count = sum(since < at <= slot.granted_at for at in times)
            if count > slot.most:
                yield f"{count} of {slot.name} {slot.key} are let through within {slot.per} s, of {slot.most}"


def _begun_without_a_grant(books: Books, write: RunWrites) -> Problems:
    state = books.state(write.run_id)
    held = {(slot.ticket, slot.limit_id) for slot in books.tables.slots.all() if slot.granted_at is not None}
    if _has_its_place(state):
        limit = state.started.limit if state.started is not None else None
        ticket = Ticket(write.run_id, 0, RUN_SEQ)
        if limit is not None and not limit.error and all(ticket != each for each, _ in held):
            yield f"run {write.run_id} is open without the place that its limit gives"
    for item in write.work:
        step = state.steps.get(item.seq)
        if item.kind not in _BEGUN or step is None or books.tables.work[write.run_id].get(item.key[1:]) != item:
            continue
        ticket = Ticket(write.run_id, step.generation, step.seq, step.attempt, step.releases)
        for kind, limit_id in _limits_of(books, step):
            is_granted = ticket in books.grants[limit_id]
            if not is_granted or (kind is LimitKind.CONCURRENCY and (ticket, limit_id) not in held):
                yield f"{ticket} of {step.name} begins, and its {kind} has not granted that"


def _has_its_place(state: RunState) -> bool:
    return state.phase is RunPhase.OPEN and state.queued is None and not state.is_put_off


def _limits_of(books: Books, step: OpenStep) -> list[tuple[LimitKind, str]]:
    limits = books.options_of(step).limits
    return [(size.kind, limit_id_of(size.kind, step.name, step.limits.get(size.kind, ""))) for size in limits]


def _is_freed_soon(books: Books, slot: Slot) -> bool:
    """Whether a request says so that the limit's partition has not taken yet."""
    freeing = (request for request in books.tables.inbox.values() if request.kind is RequestKind.FREE)
    bodies = (decode_limit(request.body) for request in freeing)
    return any(
        body.limit_id == slot.limit_id and body.run_id == slot.run_id and slot.ticket[1:] in body.tickets
        for body in bodies
    )


def _words(slot: Slot) -> str:
    what = "waits" if slot.granted_at is None else "has a place"
    return f"{slot.ticket}, which {what} of {slot.name} {slot.key},"
