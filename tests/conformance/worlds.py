"""The implementations that the suite runs over, and the rows that its tests write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import text, update

from dramaturg_coordinator.ports import Inbox, Leases, Schedules, Store
from dramaturg_protocol.events import HistoryEvent, RunCompleted, RunStarted, StepCompleted, StepScheduled
from dramaturg_protocol.messages import Reply, Request, RequestKind, encode_message
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import (
    DeadLetter,
    Lease,
    RunRecord,
    RunWrites,
    StartOrder,
    StartOutcome,
    WorkItem,
    WorkKind,
)
from dramaturg_protocol.request_bodies import ControlBody, StartBody
from dramaturg_protocol.schedule_records import Fired, Firing, Found, ScheduleRecord
from dramaturg_store.database import Database
from dramaturg_store.engines import make_engine
from dramaturg_store.memory import MemoryDatabase
from dramaturg_store.schema import events, metadata
from dramaturg_store.upgrade import upgrade

NAMESPACE = "dramatiq"
EPOCH = datetime(2030, 1, 1, 12, tzinfo=UTC)
NULL = Payload("null")


@dataclass
class HandClock:
    """A machine's clock, set by hand."""

    at: datetime = EPOCH

    def __call__(self) -> datetime:
        return self.at

    def pass_by(self, seconds: float) -> datetime:
        self.at += timedelta(seconds=seconds)
        return self.at


class Starts(Protocol):
    def submit(self, orders: Sequence[StartOrder]) -> list[StartOutcome]: ...


class ClientInbox(Inbox, Protocol):
    def put(self, requests: Sequence[Request]) -> None: ...


class PeopleSchedules(Schedules, Protocol):
    """The port, and what people ask of it."""

    def change(self, schedule_id: str, change: Callable[[Found | None], Fired | None]) -> Fired | None: ...
    def put(self, rows: Sequence[Fired]) -> None: ...
    def delete(self, schedule_id: str) -> bool: ...
    def get(self, schedule_id: str) -> ScheduleRecord | None: ...
    def firings(self, schedule_id: str, limit: int) -> Sequence[Firing]: ...
    def times_among(self, schedule_id: str, since: datetime, until: datetime) -> Sequence[datetime]: ...


class OpenDatabase(Protocol):
    """One process's view of a database."""

    @property
    def partitions(self) -> tuple[int, ...]: ...
    @property
    def store(self) -> Store: ...
    @property
    def inbox(self) -> ClientInbox: ...
    @property
    def leases(self) -> Leases: ...
    @property
    def starts(self) -> Starts: ...
    @property
    def schedules(self) -> PeopleSchedules: ...
    def partition_of(self, workflow_id: str) -> int: ...
    def close(self) -> None: ...


class World(Protocol):
    """A database that several processes may open, and a look into what no port shows."""

    clock: HandClock
    #: Whether the time of a lease follows `clock`, and not the clock of a server.
    has_hand_clock: bool

    def open(self) -> OpenDatabase: ...
    def damage(self, run_id: str, number: int, data: str) -> None: ...
    def letters(self) -> Sequence[DeadLetter]: ...
    def reply(self, message_id: str) -> Reply | None: ...
    def close(self) -> None: ...


@dataclass
class MemoryWorld:
    clock: HandClock = field(default_factory=HandClock)
    first: MemoryDatabase | None = None
    has_hand_clock: bool = True

    def open(self) -> MemoryDatabase:
        opened = MemoryDatabase(NAMESPACE, now=self.clock, shared=self.first)
        self.first = self.first or opened
        return opened

    def damage(self, run_id: str, number: int, data: str) -> None:
        assert self.first
        rows = self.first.tables.events[run_id]
        rows[number] = (*rows[number][:4], data)

    def letters(self) -> Sequence[DeadLetter]:
        assert self.first
        return self.first.tables.letters

    def reply(self, message_id: str) -> Reply | None:
        assert self.first
        return self.first.tables.replies.get(message_id)

    def close(self) -> None: ...


@dataclass
class SqlWorld:
    url: str
    has_hand_clock: bool = True
    clock: HandClock = field(default_factory=HandClock)
    opened: list[Database] = field(default_factory=list[Database])

    def open(self) -> Database:
        database = Database(self.url, NAMESPACE, now=self.clock)
        self.opened.append(database)
        return database

    def damage(self, run_id: str, number: int, data: str) -> None:
        one = (events.c.run_id == run_id) & (events.c.number == number)
        with self.opened[0].engine.begin() as connection:
            connection.execute(update(events).where(one).values(data=data))

    def letters(self) -> Sequence[DeadLetter]:
        return self.opened[0].letters.list()

    def reply(self, message_id: str) -> Reply | None:
        return self.opened[0].reads.reply(message_id)

    def close(self) -> None:
        for database in self.opened:
            database.close()


def a_server_world(url: str) -> SqlWorld:
    """A database of a server, emptied; its tables are made where they are missing."""
    engine = make_engine(url)
    upgrade(engine, NAMESPACE, partitions=1)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            names = ", ".join(metadata.tables)
            connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))
        else:
            connection.execute(text("SET foreign_key_checks = 0"))
            for name in metadata.tables:
                connection.execute(text(f"TRUNCATE {name}"))
            connection.execute(text("SET foreign_key_checks = 1"))
    upgrade(engine, NAMESPACE, partitions=1)
    engine.dispose()
    return SqlWorld(url, has_hand_clock=False)


def a_lease(database: OpenDatabase, owner: str = "one") -> Lease:
    lease = database.leases.acquire(owner)
    assert lease is not None
    return lease


def a_record(run_id: str, partition: int = 1, **changes: Any) -> RunRecord:
    record = RunRecord(
        run_id, NAMESPACE, partition, run_id, "checkout", 1, "RUNNING", 1, 2, "{}", started_at=EPOCH, updated_at=EPOCH
    )
    return replace(record, **changes)


def an_event(number: int, *, seq: int = 1) -> HistoryEvent:
    return HistoryEvent(number, EPOCH, StepCompleted(seq, "charge", 1, Payload('{"cents":12}'), "worker", 0.5))


def a_step(run_id: str, seq: int = 1, *, due: datetime | None = None, partition: int = 1) -> WorkItem:
    return WorkItem(run_id, 1, seq, partition, WorkKind.STEP, due, 1, "message")


def a_timer(run_id: str, seq: int, due: datetime) -> WorkItem:
    return WorkItem(run_id, 1, seq, 1, WorkKind.TIMER, due)


def a_new_run(run_id: str, **changes: Any) -> RunWrites:
    """A run that has asked for its first step."""
    started = RunStarted(f"start {run_id}", run_id, "checkout", 1, Payload('{"args":[1],"kwargs":{}}'), {"tenant": "é"})
    scheduled = StepScheduled(1, "charge", Payload('{"args":["a\\u0000b"],"kwargs":{}}'), "default")
    return RunWrites(
        run_id,
        a_record(run_id, **changes),
        is_new=True,
        events=[HistoryEvent(1, EPOCH, started), HistoryEvent(2, EPOCH, scheduled)],
        work=[a_step(run_id)],
    )


def a_closed_run(run_id: str, status: str = "COMPLETED", **changes: Any) -> RunWrites:
    """A run that was over in its first turn."""
    write = a_new_run(run_id, **{"status": status, "closed_at": EPOCH, "last_event": 3, **changes})
    write.events.append(HistoryEvent(3, EPOCH, RunCompleted(NULL)))
    write.is_closed = True
    return write


def a_request(message_id: str, kind: RequestKind = RequestKind.CANCEL, run_id: str = "run") -> Request:
    return Request(message_id, kind, run_id, 1, encode_message(ControlBody("somebody")))


def an_order(run_id: str, **changes: Any) -> StartOrder:
    workflow_id = str(changes.pop("workflow_id", run_id))
    body = encode_message(StartBody("checkout", workflow_id, Payload('{"args":[],"kwargs":{}}')))
    order = StartOrder(run_id, workflow_id, "checkout", f"start {run_id}", body)
    return replace(order, **changes)
