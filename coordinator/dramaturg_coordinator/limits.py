"""Limits over all workers: who asks is granted, or waits for its turn. Only the owner of a limit's partition grants.

What a limit has granted is rows, and so are those that wait. What is known here follows from them: it is read when a
partition is taken over, brought up to date with every commit, and read anew when it is not known what a commit did.

    an attempt is to begin ── room, and nobody waits ──► its row: granted ──► its message goes out
        └── otherwise ──► its row: waits ── its turn: a message to its run ──► granted ──► its message goes out
                                                                       over ──► its row goes, in the same commit

Of those that wait the lowest priority is first, then who came first. A grant of ``concurrency`` counts until its
execution is over; one of ``rate_limit`` for the seconds of the rate, so that in no such span of this clock there are more.

Where the run's partition is held here, all of this is in the run's own commit. A run elsewhere asks through the inbox of
the limit's partition, and is told through that of its own; what it gives back goes in its own commit, and the limit is told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dramaturg_coordinator.limit_book import LimitBook
from dramaturg_coordinator.ports import Store
from dramaturg_protocol.limit_messages import LimitBody, decode_limit
from dramaturg_protocol.limits import Slot, Ticket
from dramaturg_protocol.messages import Request, RequestKind, encode_message
from dramaturg_protocol.reading import MalformedMessage
from dramaturg_protocol.records import DeadLetter, RunWrites
from dramaturg_protocol.request_bodies import ControlBody

#: The requests that are for a limit and not for a run.
FOR_LIMITS = frozenset({RequestKind.ASK, RequestKind.FREE})
_LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Granted:
    """A message of the coordinator to itself: a limit lets an execution through, once its run has it committed."""

    ticket: Ticket
    partition: int
    limit_id: str


class Limits:
    """The limits of the partitions of one tenure.

    Parameters:
      partition_of: the partition of a limit's id.
      is_ours: whether a run is one that this coordinator advances.
    """

    def __init__(
        self, store: Store, partition_of: Callable[[str], int], is_ours: Callable[[str], bool] = lambda _: True
    ) -> None:
        self._store = store
        self._partition_of = partition_of
        self._is_ours = is_ours
        self._epochs: dict[int, int] = {}
        self._books: dict[str, LimitBook] = {}
        self._places: dict[Ticket, set[str]] = {}
        self._busy: set[str] = set()
        self._stale = True

    def follow(self, epochs: Mapping[int, int], now: datetime) -> None:
        """Read the rows of partitions that are new here, and forget those that are gone.

        Raises:
          Unreachable: the database does not answer.
        """
        if not self._stale and self._epochs == epochs:
            return
        self.forget()
        rows = self._store.slots(epochs.keys(), now)
        for slot in sorted(rows, key=lambda row: (row.granted_at or _LAST, row.arrival)):
            self._place(slot)
        self._epochs, self._stale = dict(epochs), False

    def forget(self) -> None:
        """It is not known what the last commit did: read all rows again."""
        self._books.clear()
        self._places.clear()
        self._busy.clear()
        self._stale = True

    def holds(self, limit_id: str) -> bool:
        """Whether this coordinator grants for a limit."""
        return self._partition_of(limit_id) in self._epochs

    def partition_of(self, limit_id: str) -> int:
        """Whose owner grants for a limit."""
        return self._partition_of(limit_id)

    def enter(self, wanted: Slot, now: datetime, on_conflict: str = "queue") -> tuple[bool, Slot | None]:
        """Ask for an execution whose run is held here: whether it may begin, and the row to commit with that.

        Parameters:
          on_conflict: with ``skip`` it waits for nothing, with ``force`` it is let through in any case.
        """
        book = self._books.setdefault(wanted.limit_id, LimitBook())
        ticket = wanted.ticket
        if ticket in book.called:
            return True, book.called[ticket]
        if book.has(ticket):
            return True, None
        if on_conflict == "force":
            return True, book.call(wanted, now)
        if ticket in book.waiting or ticket in book.staged:
            return False, None
        if (
            self._first(wanted.limit_id, book) is None
            and not book.is_cut
            and book.has_room(wanted.most, wanted.per, now)
        ):
            return True, book.call(wanted, now)
        # Its place among the others follows from the order of asking.
        return False, None if on_conflict == "skip" else book.stage(wanted)

    def stops(self, wanted: Slot) -> list[Request]:
        """Cancel those who are in the way of a run: the oldest first, as many as have to go."""
        before = self._books[wanted.limit_id].before(wanted.ticket)
        body = encode_message(ControlBody(reason=f"a newer run of {wanted.name} takes its place"))
        return [
            Request(f"superseded:{old.run_id}:{wanted.run_id}", RequestKind.CANCEL, old.run_id, partition, body)
            for old, partition in before[: max(len(before) - wanted.most + 1, 0)]
        ]

    @property
    def may_call(self) -> bool:
        """Whether anybody waits for a limit that is granted here."""
        return self._stale or bool(self._busy)

    def call(self, limit: int, now: datetime) -> tuple[list[Granted], list[RunWrites]]:
        """Whose turn it is: messages to runs that are held here, and what is to be committed for those elsewhere."""
        here: list[Granted] = []
        elsewhere: list[RunWrites] = []
        for limit_id in list(self._busy):
            slots = self._called(limit_id, limit - len(here), now)
            mine = [slot for slot in slots if slot.run_partition in self._epochs and self._is_ours(slot.run_id)]
            here += [Granted(slot.ticket, slot.run_partition, limit_id) for slot in mine]
            others = [slot for slot in slots if slot not in mine]
            if others:
                elsewhere.append(_grants(limit_id, others))
        return here, elsewhere

    def take(self, requests: Iterable[Request], now: datetime) -> list[RunWrites]:
        """What runs elsewhere ask, or say is over: what is to be committed."""
        writes: list[RunWrites] = []
        for request in requests:
            written = RunWrites(request.run_id, arrivals=[request.arrival], fences={request.partition})
            writes.append(written)
            try:
                body = decode_limit(request.body)
            except MalformedMessage as problem:
                letter = DeadLetter("inbox", str(problem), request.body, request.run_id, request.partition, now)
                written.dead_letters.append(letter)
                continue
            if request.kind is RequestKind.ASK:
                self._asked(body, request.partition, written, now)
            else:
                over = {Ticket(body.run_id, *each) for each in body.tickets}
                for before in writes:
                    # What asked and is over before it was even noted.
                    before.slots[:] = [slot for slot in before.slots if slot.ticket not in over]
                written.freed.extend(over)
        return writes

    def committed(self, writes: RunWrites) -> None:
        """Bring it up to date with what was committed for a run or a limit."""
        for ticket in writes.freed:
            for limit_id in self._places.pop(ticket, ()):
                book = self._books.get(limit_id)
                if book is not None:
                    book.free(ticket)
        for slot in writes.slots:
            if slot.partition in self._epochs:
                self._place(slot)

    def turned(self) -> None:
        """The turn is over: who was called and did not take it is not called again until the rows are read anew."""
        for limit_id, book in list(self._books.items()):
            if book.called or book.staged:
                book.drop_called()
            if book.is_idle:
                del self._books[limit_id]
                self._busy.discard(limit_id)

    def next_due(self, now: datetime) -> datetime | None:
        """When a rate has room again for one that waits; ``None`` for never, as things are."""
        found: list[datetime] = []
        for limit_id in list(self._busy):
            book = self._books[limit_id]
            first = self._first(limit_id, book)
            at = None if first is None else book.free_at(first.most, first.per)
            if first is not None and first.per:
                found.append(now if at is None else at)
        return min(found, default=None)

    @property
    def has_rates(self) -> bool:
        """Whether anything spent may be there to forget."""
        return any(book.has_spent for book in self._books.values())

    # Parts.

    def _place(self, slot: Slot) -> None:
        book = self._books.setdefault(slot.limit_id, LimitBook())
        book.place(slot)
        if slot.granted_at is None:
            self._busy.add(slot.limit_id)
        self._places.setdefault(slot.ticket, set()).add(slot.limit_id)

    def _first(self, limit_id: str, book: LimitBook) -> Slot | None:
        first = book.first()
        if first is None and limit_id in self._busy:
            self._busy.discard(limit_id)
            # Those that the table has beyond what memory knows have their turn now.
            self._stale = self._stale or book.is_cut
        return first

    def _called(self, limit_id: str, limit: int, now: datetime) -> list[Slot]:
        book = self._books.get(limit_id)
        called: list[Slot] = []
        if book is None:
            self._busy.discard(limit_id)
            return called
        while len(called) < limit and (first := self._first(limit_id, book)) is not None:
            if not book.has_room(first.most, first.per, now):
                break
            called.append(book.call(first, now))
        return called

    def _asked(self, body: LimitBody, partition: int, written: RunWrites, now: datetime) -> None:
        granted: list[Slot] = []
        refused: list[Slot] = []
        for generation, seq, attempt, release in body.tickets:
            wanted = Slot(
                body.run_id, generation, seq, attempt, release, body.limit_id, partition, body.run_partition,
                body.priority, 0, body.most, body.per, None, None, body.name, body.key,
            )  # fmt: skip
            may_begin, row = self.enter(wanted, now, body.on_conflict)
            if row is not None:
                written.slots.append(row)
            if may_begin:
                granted.append(row or wanted)
            elif body.on_conflict == "skip":
                refused.append(wanted)
            elif body.on_conflict == "cancel_running" and row is not None:
                written.sends += self.stops(wanted)
        if granted:
            written.sends += _sends(body.limit_id, granted)
        if refused:
            written.sends += _sends(body.limit_id, refused, is_refused=True)


def _grants(limit_id: str, slots: Sequence[Slot]) -> RunWrites:
    """What is committed for runs elsewhere whose turn it is."""
    fences = {slot.partition for slot in slots}
    return RunWrites(limit_id, slots=list(slots), sends=_sends(limit_id, slots), fences=fences)


def _sends(limit_id: str, slots: Collection[Slot], *, is_refused: bool = False) -> list[Request]:
    """One message for each run."""
    by_run: dict[tuple[str, int], list[Slot]] = {}
    for slot in slots:
        by_run.setdefault((slot.run_id, slot.run_partition), []).append(slot)
    sends: list[Request] = []
    for (run_id, partition), granted in by_run.items():
        tickets = tuple((slot.generation, slot.seq, slot.attempt, slot.release) for slot in granted)
        sends.append(
            LimitBody(limit_id, run_id, tickets, is_refused=is_refused).request(RequestKind.GRANTED, partition)
        )
    return sends
