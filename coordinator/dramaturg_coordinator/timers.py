"""What falls due: the open work of the next minute, in memory, earliest first. Everything later stays in its table."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from dramaturg_coordinator.ports import Store
from dramaturg_protocol.records import WorkItem

HORIZON = timedelta(seconds=60)


class Timers:
    """The due times of the next minute.

    A row that changes or goes is not looked for here: when its old due time comes, the run's state says that there is
    nothing to do.

    Parameters:
      limit: how many rows one look at the table takes.
    """

    def __init__(self, store: Store, *, limit: int = 10_000) -> None:
        self._store = store
        self._limit = limit
        self._width = limit
        self._heap: list[tuple[datetime, int, WorkItem]] = []
        self._known: set[tuple[object, ...]] = set()
        self._count = 0
        self._loaded_until: datetime | None = None
        self._is_partial = False

    def load(self, partitions: Collection[int], now: datetime) -> None:
        """Read the next minute's rows, when less than half of a minute is left."""
        if self._loaded_until is not None and self._has_enough(self._loaded_until, now):
            return
        until = now + HORIZON
        # Rows that nobody may settle now come again; those behind them must have their turn all the same.
        self._width = self._width * 2 if self._is_partial else self._limit
        rows = self._store.due_work(partitions, until, self._width)
        self._is_partial = len(rows) == self._width
        last = rows[-1].due if self._is_partial else None
        self._loaded_until = until if last is None else last
        self._push(rows)

    def note(self, items: Iterable[WorkItem]) -> None:
        """Keep those of new rows that fall due soon."""
        until = self._loaded_until
        if until is not None:
            self._push([item for item in items if item.due is not None and item.due <= until])

    def take(self, now: datetime, limit: int) -> list[WorkItem]:
        """What is due now."""
        due: list[WorkItem] = []
        while self._heap and self._heap[0][0] <= now and len(due) < limit:
            item = heapq.heappop(self._heap)[2]
            self._known.discard(_mark(item))
            due.append(item)
        return due

    def next_due(self) -> datetime | None:
        """When there is something to do next; ``None`` for nothing within the loaded time."""
        return self._heap[0][0] if self._heap else None

    def forget(self) -> None:
        """Read everything again at the next `load`."""
        self._heap.clear()
        self._known.clear()
        self._loaded_until = None
        self._is_partial = False

    def _has_enough(self, loaded_until: datetime, now: datetime) -> bool:
        return bool(self._heap) if self._is_partial else loaded_until - now > HORIZON / 2

    def _push(self, items: Iterable[WorkItem]) -> None:
        for item in items:
            if item.due is None or _mark(item) in self._known:
                continue
            self._known.add(_mark(item))
            self._count += 1
            heapq.heappush(self._heap, (item.due, self._count, item))


def _mark(item: WorkItem) -> tuple[object, ...]:
    return (*item.key, item.kind, item.attempt, item.due)
