"""The in-memory twin of the room: the same ports and starts, without a database.

Events are kept as the text that a database would hold, so that what does not survive being stored does not survive
here either. Everything is guarded by one lock: a call is a transaction.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from dramaturg_protocol import ids
from dramaturg_protocol.event_codec import encode_body
from dramaturg_protocol.events import type_of
from dramaturg_protocol.faults import Refused
from dramaturg_protocol.messages import Reply, Request, RequestKind
from dramaturg_protocol.records import (
    SENT_KINDS,
    DeadLetter,
    KeptResult,
    Lease,
    RunRecord,
    RunWrites,
    StartOrder,
    StartOutcome,
    StoredRun,
    Unreadable,
    WorkItem,
    WorkKind,
)
from dramaturg_protocol.schedule_records import Fired
from dramaturg_store.claims import OPENING
from dramaturg_store.clock import Now, system_now
from dramaturg_store.dialects import storable
from dramaturg_store.histories import stored_run
from dramaturg_store.memory_leases import LeaseTable, MemoryLeases, SharedMemoryLeases
from dramaturg_store.memory_letters import add_letters, close_letters
from dramaturg_store.memory_schedules import MemorySchedules, ScheduleTable
from dramaturg_store.memory_slots import SlotReads, SlotTable
from dramaturg_store.schema import CLOSED
from dramaturg_store.start_rules import KeyRow, Known, decide_starts
from dramaturg_store.turn_rows import touched

EventText = tuple[str, int, str, datetime, str]
WorkKey = tuple[int, int]


@dataclass(slots=True)
class Tables:
    """All that is kept."""

    leases: LeaseTable
    arrivals: int = 0
    runs: dict[str, RunRecord] = field(default_factory=dict[str, RunRecord])
    events: dict[str, dict[int, EventText]] = field(default_factory=dict[str, dict[int, EventText]])
    work: dict[str, dict[WorkKey, WorkItem]] = field(default_factory=dict[str, dict[WorkKey, WorkItem]])
    inbox: dict[int, Request] = field(default_factory=dict[int, Request])
    message_ids: set[str] = field(default_factory=set[str])
    replies: dict[str, Reply] = field(default_factory=dict[str, Reply])
    letters: list[DeadLetter] = field(default_factory=list[DeadLetter])
    keys: dict[str, KeyRow] = field(default_factory=dict[str, KeyRow])
    workflow_ids: dict[str, str] = field(default_factory=dict[str, str])
    slots: SlotTable = field(default_factory=SlotTable)
    schedules: ScheduleTable = field(default_factory=ScheduleTable)
    kept: dict[str, KeptResult] = field(default_factory=dict[str, KeptResult])

    @property
    def lock(self) -> threading.RLock:
        """A call is a transaction."""
        return self.leases.lock

    def work_in(self, partitions: Collection[int]) -> Iterator[WorkItem]:
        """Open work of these partitions."""
        return (item for items in self.work.values() for item in items.values() if item.partition in partitions)

    def signs_of(self, run_id: str) -> dict[WorkKey, str]:
        """What the open steps of a run said of themselves."""
        return {key: item.sign for key, item in self.work.get(run_id, {}).items() if item.sign is not None}

    def steps_of(self, run_id: str, kinds: Collection[WorkKind]) -> set[WorkKey]:
        """The open steps of a run whose rows are of these kinds."""
        return {key for key, item in self.work.get(run_id, {}).items() if item.kind in kinds}


class MemoryStore(SlotReads):
    """The port `Store` in memory."""

    _tables: Tables

    def __init__(self, tables: Tables, *, now: Now) -> None:
        self._tables = tables
        self._now = now

    def commit(self, writes: Sequence[RunWrites], lease: Lease, now: datetime) -> None:
        """Write a turn, all or nothing."""
        with self._tables.lock:
            self._tables.leases.check_fence(touched(writes, lease).items())
            for write in writes:
                _check(self._tables, write)
            self._tables.leases.tick(now)
            for write in writes:
                _apply(self._tables, write, now)

    def load(self, run_ids: Collection[str]) -> Mapping[str, StoredRun | Unreadable]:
        """The runs with their histories."""
        tables = self._tables
        with tables.lock:
            return {
                run_id: stored_run(
                    tables.runs[run_id],
                    sorted(tables.events.get(run_id, {}).values()),
                    tables.signs_of(run_id),
                    tables.steps_of(run_id, (WorkKind.LIMITED,)),
                    tables.steps_of(run_id, SENT_KINDS),
                )
                for run_id in run_ids
                if run_id in tables.runs
            }

    def due_work(self, partitions: Collection[int], until: datetime, limit: int) -> Sequence[WorkItem]:
        """Open work whose due time is at most `until`, earliest first."""
        with self._tables.lock:
            due = [
                (item.due, item.key, item)
                for item in self._tables.work_in(partitions)
                if item.due is not None and item.due <= until
            ]
        return [item for _, _, item in sorted(due, key=lambda found: found[:2])[:limit]]

    def sent_work(self, partitions: Collection[int], kind: WorkKind = WorkKind.STEP) -> Iterator[WorkItem]:
        """Steps that are with workers, or with the coordinator itself."""
        with self._tables.lock:
            sent = [item for item in self._tables.work_in(partitions) if item.kind == kind]
        return iter(sorted(sent, key=lambda item: (item.partition, item.key)))

    def runs_with_status(self, partitions: Collection[int], status: str) -> Sequence[str]:
        """Ids of the runs with this status, oldest first."""
        with self._tables.lock:
            found = [
                (record.started_at, record.run_id)
                for record in self._tables.runs.values()
                if record.partition in partitions and record.status == status
            ]
        return [run_id for _, run_id in sorted(found)]

    def idle_runs(self, partition: int, limit: int) -> Sequence[str]:
        """Ids of runs that say they run or wait, and have neither open work nor a request."""
        with self._tables.lock:
            asked = {request.run_id for request in self._tables.inbox.values()}
            found = [
                run_id
                for run_id, record in self._tables.runs.items()
                if record.partition == partition
                and record.status in ("RUNNING", "WAITING")
                and record.waits is None
                and not self._tables.work.get(run_id)
                and run_id not in asked
            ]
        return found[:limit]

    def orphans(self, partition: int, limit: int) -> Sequence[str]:
        """Ids of runs that wait for a child which is closed, and have no request."""
        tables = self._tables
        with tables.lock:
            asked = {request.run_id for request in tables.inbox.values()}
            waiting = [item for item in tables.work_in([partition]) if item.kind is WorkKind.CHILD]
            found = {
                item.run_id
                for item in waiting
                if (child := tables.runs.get(item.message or "")) is not None
                and child.closed_at is not None
                and child.status != "CONTINUED"
                and item.run_id not in asked
            }
        return sorted(found)[:limit]

    def claim_id(self, workflow_id: str, run_id: str) -> str | None:
        """Give a workflow id to a run that is to begin; the open run that has it instead, where that is another one."""
        tables = self._tables
        with tables.lock:
            holder = tables.workflow_ids.setdefault(workflow_id, run_id)
            record = tables.runs.get(holder)
            is_open = holder in _opening(tables) or (record is not None and record.closed_at is None)
            if holder != run_id and is_open:
                return holder
            tables.workflow_ids[workflow_id] = run_id
            return None

    def holders(self, workflow_ids: Collection[str]) -> Mapping[str, str]:
        """The newest run of each of these workflow ids that somebody chose."""
        with self._tables.lock:
            known = self._tables.workflow_ids
            return {each: known[each] for each in workflow_ids if each in known}

    def put_aside(self, letters: Sequence[DeadLetter]) -> None:
        """Keep what could not be processed."""
        with self._tables.lock:
            add_letters(self._tables.letters, letters, self._now())


class MemoryInbox:
    """The port `Inbox` in memory, with its other end."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def take(
        self, partitions: Collection[int], limit: int, skip: Collection[int] = (), *, starts: bool = True
    ) -> Sequence[Request]:
        """Requests that are there, in order of arrival, but for the arrivals in `skip`, and for starts if those wait."""
        left = frozenset(skip)
        with self._tables.lock:
            there = [
                request
                for arrival, request in self._tables.inbox.items()
                if request.partition in partitions
                and arrival not in left
                and (starts or request.kind != RequestKind.START)
            ]
        return there[:limit]

    def put(self, requests: Sequence[Request], connection: object = None) -> None:
        """Send requests; one whose message id is there already counts once."""
        if connection is not None:
            raise TypeError("there is no database whose transaction this could join")
        with self._tables.lock:
            _put(self._tables, requests)


class MemoryStarts:
    """Where starts are submitted."""

    def __init__(self, tables: Tables, *, partition_of: Callable[[str], int]) -> None:
        self._tables = tables
        self._partition_of = partition_of

    def submit(self, orders: Sequence[StartOrder], connection: object = None) -> list[StartOutcome]:
        """Submit starts, all or none; an order that was submitted before counts once."""
        if connection is not None:
            raise TypeError("there is no database whose transaction this could join")
        tables = self._tables
        with tables.lock:
            known = _known(tables, orders)
            decided = decide_starts(orders, known, self._partition_of)
            tables.keys.update(known.keys)
            tables.workflow_ids.update(known.ids)
            _put(tables, decided.requests)
            return decided.outcomes


class MemoryDatabase:
    """A database that is gone with the process.

    Parameters:
      partitions: how many.
      lease_time: how long the lease of one of several coordinators lasts; where there is none, one takes everything.
      shared: another one, whose content this one shows as a further process would.

    Attributes:
      store, inbox, leases: the ports of a coordinator.
      starts: where clients submit starts.
      schedules: what begins runs by itself.
      tables: what is kept.
    """

    def __init__(
        self,
        namespace: str = "dramatiq",
        *,
        partitions: int = 1,
        now: Now = system_now,
        lease_time: timedelta | None = None,
        shared: MemoryDatabase | None = None,
    ) -> None:
        self.namespace = namespace
        fresh = Tables(LeaseTable({number + 1: 0 for number in range(partitions)}, now()))
        self.tables: Tables = shared.tables if shared else fresh
        self.partitions: tuple[int, ...] = tuple(self.tables.leases.epochs)
        self.store = MemoryStore(self.tables, now=now)
        self.inbox = MemoryInbox(self.tables)
        table = self.tables.leases
        self.leases: MemoryLeases | SharedMemoryLeases = (
            MemoryLeases(table, now=now)
            if lease_time is None
            else SharedMemoryLeases(table, now=now, lease_time=lease_time)
        )
        self.starts = MemoryStarts(self.tables, partition_of=self.partition_of)
        self.schedules = MemorySchedules(
            self.tables,
            partition_of=self.partition_of,
            write_rest=lambda fired: _follow(self.tables, fired, now()),
        )

    def partition_of(self, workflow_id: str) -> int:
        """The id of the partition that a workflow id belongs to."""
        return self.partitions[ids.partition_of(workflow_id, len(self.partitions))]

    def close(self) -> None:
        """Give back the lease, if any."""
        self.leases.close()


def _check(tables: Tables, write: RunWrites) -> None:
    """Refuse what the tables of a database would refuse."""
    record = write.record
    if record and write.is_new and write.run_id in tables.runs:
        raise Refused(f"run {write.run_id} is there already")
    if record and (record.status in CLOSED) != (record.closed_at is not None):
        raise Refused(f"run {write.run_id}: status {record.status} and closed_at {record.closed_at} disagree")
    if record and not write.is_new and write.run_id not in tables.runs:
        raise Refused(f"there is no run {write.run_id}")
    if record is None and write.events:
        raise Refused(f"run {write.run_id}: events without its row")
    stored = tables.events.get(write.run_id, {})
    new = [event.number for event in write.events]
    if len(set(new)) < len(new) or any(number < 1 or number in stored for number in new):
        raise Refused(f"run {write.run_id} has an event of these numbers already: {new}")


def _apply(tables: Tables, write: RunWrites, now: datetime) -> None:
    run_id = write.run_id
    if write.record is not None:
        tables.runs[run_id] = write.record
    for event in write.events:
        text = (run_id, event.number, type_of(event.body), event.time.astimezone(UTC), encode_body(event.body))
        tables.events.setdefault(run_id, {})[event.number] = text
    _apply_work(tables, write)
    tables.slots.write(write)
    tables.kept.update((each.key, each) for each in write.kept)
    for arrival in write.arrivals:
        if request := tables.inbox.pop(arrival, None):
            tables.message_ids.discard(request.message_id)
    for reply in write.replies:
        tables.replies.setdefault(reply.message_id, reply)
    _put(tables, write.sends)
    if write.next_of_id is not None:
        workflow_id, next_id = write.next_of_id
        if tables.workflow_ids.setdefault(workflow_id, next_id) == run_id:
            tables.workflow_ids[workflow_id] = next_id
    close_letters(tables.letters, write, now)
    add_letters(tables.letters, write.dead_letters, now)


def _apply_work(tables: Tables, write: RunWrites) -> None:
    items = tables.work.setdefault(write.run_id, {})
    for key in write.settled:
        items.pop(key, None)
    items.update({(item.generation, item.seq): item for item in write.work})
    if write.is_closed or not items:
        del tables.work[write.run_id]


def _follow(tables: Tables, fired: Fired, now: datetime) -> None:
    """What follows from a decision about a schedule."""
    _put(tables, fired.requests)
    add_letters(tables.letters, fired.letters, now)


def _put(tables: Tables, requests: Sequence[Request]) -> None:
    for request in requests:
        if request.message_id not in tables.message_ids:
            tables.message_ids.add(request.message_id)
            tables.arrivals += 1
            tables.inbox[tables.arrivals] = replace(request, arrival=tables.arrivals, body=storable(request.body))


def _known(tables: Tables, orders: Sequence[StartOrder]) -> Known:
    known = Known()
    for order in orders:
        if order.digest is not None and order.run_id not in known.keys:
            own = KeyRow(order.digest, order.run_id, order.workflow_id, order.message_id)
            known.keys[order.run_id] = tables.keys.get(order.run_id, own)
        if order.has_explicit_id and order.workflow_id in tables.workflow_ids:
            known.ids[order.workflow_id] = tables.workflow_ids[order.workflow_id]
    opening = _opening(tables)
    for run_id in {order.run_id for order in orders}.union(known.ids.values()):
        record = tables.runs.get(run_id)
        if run_id in opening:
            known.statuses[run_id] = None
        elif record is not None:
            known.statuses[run_id] = None if record.closed_at is None else record.status
    return known


def _opening(tables: Tables) -> set[str]:
    """The runs that are to begin, or to go on."""
    return {request.run_id for request in tables.inbox.values() if request.kind.value in OPENING}
