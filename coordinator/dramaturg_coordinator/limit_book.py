"""What one limit has granted and who waits for it, as its rows say."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import replace
from datetime import datetime, timedelta

from dramaturg_protocol.limits import Slot, Ticket

#: Waiting executions of one limit of which memory knows; the table has the others.
MOST_KNOWN = 20_000


class LimitBook:
    """The rows of one limit.

    Attributes:
      waiting: rows of those that wait, by execution.
      granted: executions whose grant counts until they end, the oldest first, with the partitions of their runs.
      staged: those that begin to wait in this turn.
      called: grants that are on their way to be committed, each as it will be.
      is_cut: the table has more that wait.
    """

    def __init__(self) -> None:
        self.waiting: dict[Ticket, Slot] = {}
        self.granted: dict[Ticket, int] = {}
        self.staged: dict[Ticket, Slot] = {}
        self.called: dict[Ticket, Slot] = {}
        self.is_cut = False
        # In the order in which they were given.
        self._spent: deque[tuple[datetime, Ticket]] = deque()
        self._spenders: set[Ticket] = set()
        self._longest = 0.0
        self._queue: list[tuple[int, int, Ticket]] = []
        self._last = 0

    def has_room(self, most: int, per: float, now: datetime) -> bool:
        """Whether one more may be granted.

        Parameters:
          most, per: as whoever asks has them: a limit that was changed holds from the next one that asks.
        """
        if not per:
            return len(self.granted) + len(self.called) < most
        return self._count(per, now) < most

    def free_at(self, most: int, per: float) -> datetime | None:
        """When a rate has room again; ``None`` where that is no matter of time."""
        if not per or len(self._spent) < most:
            return None
        return self._spent[-most][0] + timedelta(seconds=per)

    def has(self, ticket: Ticket) -> bool:
        """Whether it was granted to an execution."""
        return ticket in self.granted or ticket in self.called or ticket in self._spenders

    def stage(self, slot: Slot) -> Slot:
        """Have another one wait, as soon as that is committed; its row then."""
        self._last += 1
        waiting = self.staged[slot.ticket] = replace(slot, arrival=self._last)
        return waiting

    def before(self, ticket: Ticket) -> list[tuple[Ticket, int]]:
        """Who has the limit's grant or waits for it, with the partitions of their runs, but for one."""
        slots = [*self.called.values(), *sorted(self.waiting.values(), key=_by_arrival), *self.staged.values()]
        found = {**self.granted, **{slot.ticket: slot.run_partition for slot in slots}}
        return [each for each in found.items() if each[0] != ticket]

    def first(self) -> Slot | None:
        """Whose turn it is."""
        while self._queue:
            waiting = self.waiting.get(self._queue[0][2])
            if waiting is not None and waiting.ticket not in self.called:
                return waiting
            heapq.heappop(self._queue)
        return None

    def call(self, slot: Slot, now: datetime) -> Slot:
        """Grant it to an execution, as soon as that is committed; its row then."""
        until = now + timedelta(seconds=slot.per) if slot.per else None
        granted = self.called[slot.ticket] = replace(slot, granted_at=now, until=until)
        return granted

    def place(self, slot: Slot) -> None:
        """Take note of a row as it was committed."""
        ticket = slot.ticket
        self._last = max(self._last, slot.arrival)
        self.staged.pop(ticket, None)
        if slot.granted_at is None:
            if self.is_cut or len(self.waiting) >= MOST_KNOWN:
                self.is_cut = True
            elif ticket not in self.waiting:
                self.waiting[ticket] = slot
                heapq.heappush(self._queue, (slot.priority, slot.arrival, ticket))
            return
        self.waiting.pop(ticket, None)
        self.called.pop(ticket, None)
        if slot.until is None:
            self.granted[ticket] = slot.run_partition
        elif ticket not in self._spenders:
            self._spent.append((slot.granted_at, ticket))
            self._spenders.add(ticket)
            self._longest = max(self._longest, slot.per)

    def free(self, ticket: Ticket) -> None:
        """An execution is over: what is spent of a rate stays spent."""
        self.waiting.pop(ticket, None)
        self.granted.pop(ticket, None)
        self.called.pop(ticket, None)

    def drop_called(self) -> list[Ticket]:
        """The turn is over: what was called and is not committed is not to be called again; which that is."""
        self.staged.clear()
        left = list(self.called)
        for ticket in left:
            self.waiting.pop(ticket, None)
        self.called.clear()
        return left

    @property
    def has_spent(self) -> bool:
        """Whether it is a rate, and some of it was spent."""
        return bool(self._spent)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to know of it."""
        return not (self.waiting or self.granted or self.called or self._spent or self.is_cut)

    def _count(self, per: float, now: datetime) -> int:
        """How many were granted in the last seconds."""
        before = now - timedelta(seconds=self._longest)
        while self._spent and self._spent[0][0] <= before:
            self._spenders.discard(self._spent.popleft()[1])
        if per >= self._longest:
            return len(self._spent) + len(self.called)
        since = now - timedelta(seconds=per)
        return sum(1 for at, _ in self._spent if at > since) + len(self.called)


def _by_arrival(slot: Slot) -> int:
    return slot.arrival
