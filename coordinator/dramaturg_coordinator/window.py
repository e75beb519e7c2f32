"""How many messages of a partition and queue are out at once; the rest of its steps waits in the open work.

A row of open work says which it is: `STEP` is out, or about to be (the commit comes before the publish), `WAITING` is not.
Whatever is known here follows from these rows: it is read from them when a partition is taken over, brought up to date with
every commit, and read anew when it is not known what a commit did.

    scheduled ── room, and nobody waits ──► STEP ── published ──► settled: room for another
        └── otherwise ──► WAITING ── its turn: a message to its run ──► STEP

Of those that wait the lowest priority goes first. Among equals runs take turns: one with ten thousand steps holds up
another's one step by one place.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from dramaturg_coordinator.ports import Store
from dramaturg_protocol.messages import decode_task
from dramaturg_protocol.reading import MalformedMessage
from dramaturg_protocol.records import RunWrites, WorkItem, WorkKind

#: Messages of one queue that are out for one partition: enough for every worker's hands to be full, and no more.
BOUND = 2000
#: Waiting steps of one partition and queue of which memory knows; the table has the others.
MOST_KNOWN = 20_000

_Key: TypeAlias = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Admitted:
    """A message of the coordinator to itself: there is room for this step's message."""

    run_id: str
    partition: int
    generation: int
    seq: int
    attempt: int


@dataclass(slots=True, eq=False)
class _Lane:
    """One queue, for the runs of one partition.

    Attributes:
      out: steps whose message is out.
      called: steps that were admitted and are not committed yet.
      waiting: attempts that wait, by priority and run, whose turn it is first; some may be settled since.
      is_cut: the table has more.
    """

    out: set[_Key] = field(default_factory=set[_Key])
    called: set[_Key] = field(default_factory=set[_Key])
    waiting: dict[int, OrderedDict[str, deque[Admitted]]] = field(
        default_factory=dict[int, "OrderedDict[str, deque[Admitted]]"]
    )
    known: int = 0
    is_cut: bool = False

    def has_room(self) -> bool:
        return len(self.out) + len(self.called) < BOUND

    def takes(self, priority: int) -> bool:
        """Whether memory is to know of one more that waits: beyond the bound only of what is to pass others."""
        if self.known < MOST_KNOWN and not self.is_cut:
            return True
        return bool(self.waiting) and priority < max(self.waiting)

    def wait(self, each: Admitted, priority: int) -> None:
        of_priority = self.waiting.setdefault(priority, OrderedDict())
        of_priority.setdefault(each.run_id, deque()).append(each)
        self.known += 1

    def next(self) -> Admitted:
        priority = min(self.waiting)
        of_priority = self.waiting[priority]
        run_id, of_run = of_priority.popitem(last=False)
        each = of_run.popleft()
        self.known -= 1
        if of_run:
            of_priority[run_id] = of_run
        elif not of_priority:
            del self.waiting[priority]
        return each


class Window:
    """What is out, and what waits, for the partitions of one tenure."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._epochs: dict[int, int] = {}
        self._lanes: dict[tuple[int, str], _Lane] = {}
        self._runs: dict[str, dict[_Key, _Lane]] = {}

    def follow(self, epochs: Mapping[int, int]) -> None:
        """Read the rows of partitions that are new here, and forget those that are gone.

        Raises:
          Unreachable: the database does not answer.
        """
        if self._epochs == epochs and not any(lane.is_cut and not lane.waiting for lane in self._lanes.values()):
            return
        self.forget()
        for kind in (WorkKind.STEP, WorkKind.WAITING):
            for item in self._store.sent_work(epochs.keys(), kind):
                self._place(item)
        self._epochs = dict(epochs)

    def forget(self) -> None:
        """It is not known what the last commit did: read all rows again."""
        self._epochs.clear()
        self._lanes.clear()
        self._runs.clear()

    def admit(self, writes: RunWrites, publishes: list[WorkItem]) -> list[WorkItem]:
        """Those of a run's messages that may go out now; the rows of the others say that they wait."""
        late = [item for item in publishes if not self._is_admitted(item)]
        if not late:
            return publishes
        keys = {item.key for item in late}
        writes.work[:] = [replace(item, kind=WorkKind.WAITING) if item.key in keys else item for item in writes.work]
        return [item for item in publishes if item.key not in keys]

    @property
    def may_call(self) -> bool:
        """Whether there is room for a step that waits."""
        return any(lane.has_room() if lane.waiting else lane.is_cut for lane in self._lanes.values())

    def call(self, limit: int) -> list[Admitted]:
        """The next ones for which there is room; each is committed by this turn, or waits no more."""
        called: list[Admitted] = []
        for lane in self._lanes.values():
            while lane.waiting and lane.has_room() and len(called) < limit:
                each = lane.next()
                key = (each.run_id, each.generation, each.seq)
                if key not in lane.out and self._runs.get(each.run_id, {}).get(key) is lane:
                    lane.called.add(key)
                    called.append(each)
        return called

    def committed(self, writes: RunWrites) -> None:
        """Bring it up to date with what was committed for a run."""
        for generation, seq in writes.settled:
            self._remove((writes.run_id, generation, seq))
        for item in writes.work:
            if item.kind in (WorkKind.STEP, WorkKind.WAITING):
                self._place(item)
            else:
                self._remove(item.key)
        if writes.is_closed:
            for key in list(self._runs.get(writes.run_id, ())):
                self._remove(key)

    def turned(self) -> None:
        """The turn is over: what was called and is not out is settled."""
        for lane in self._lanes.values():
            for key in list(lane.called):
                self._remove(key)

    def _is_admitted(self, item: WorkItem) -> bool:
        key = item.key
        lane = self._lane_of(item, key)
        if lane is None or key in lane.out or key in lane.called:
            return True
        if lane.waiting or lane.is_cut or not lane.has_room():
            return False
        lane.called.add(key)
        self._runs.setdefault(item.run_id, {})[key] = lane
        return True

    def _place(self, item: WorkItem) -> None:
        key = item.key
        lane = self._lane_of(item, key)
        if lane is None:
            return
        if item.kind is WorkKind.STEP:
            lane.called.discard(key)
            lane.out.add(key)
        elif not lane.takes(priority := _said_in(item)[1]):
            lane.is_cut = True
            return
        else:
            lane.out.discard(key)
            lane.wait(Admitted(item.run_id, item.partition, item.generation, item.seq, item.attempt), priority)
        self._runs.setdefault(item.run_id, {})[key] = lane

    def _remove(self, key: _Key) -> None:
        of_run = self._runs.get(key[0])
        lane = of_run.pop(key, None) if of_run is not None else None
        if lane is not None:
            lane.out.discard(key)
            lane.called.discard(key)
        if of_run is not None and not of_run:
            del self._runs[key[0]]

    def _lane_of(self, item: WorkItem, key: _Key) -> _Lane | None:
        """The lane of a row; ``None`` for one without a readable message, which is never published."""
        of_run = self._runs.get(item.run_id)
        known = None if of_run is None else of_run.get(key)
        if known is not None:
            return known
        queue = _said_in(item)[0]
        if not queue:
            return None
        lane = self._lanes.get((item.partition, queue))
        if lane is None:
            lane = self._lanes[item.partition, queue] = _Lane()
        return lane


def _said_in(item: WorkItem) -> tuple[str, int]:
    """Queue and priority of a row; no queue where its message cannot be read."""
    task = item.task
    try:
        if task is None and item.message is not None:
            task = decode_task(item.message)
    except MalformedMessage:
        return "", 0
    return ("", 0) if task is None else (task.queue, task.priority or 0)
