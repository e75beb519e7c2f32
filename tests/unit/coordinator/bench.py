"""A coordinator's turn on a bench: the store's twin in memory, and a test that plays clients, broker and workers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from dramaturg.orders import order_of
from dramaturg.testing import VirtualClock
from dramaturg_coordinator.memory import MemoryReports
from dramaturg_coordinator.ports import Inbox, LocalExecutor, Publisher, Store
from dramaturg_coordinator.rules import Rules
from dramaturg_coordinator.service import Coordinator
from dramaturg_coordinator.turn import Observer
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.events import ErrorInfo, HistoryEvent, type_of
from dramaturg_protocol.messages import (
    ReportKind,
    Request,
    RequestKind,
    StepReport,
    StepTask,
    decode_task,
    encode_message,
)
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import DeadLetter, Lease, RunRecord, StoredRun, WorkItem
from dramaturg_protocol.request_bodies import ControlBody
from dramaturg_store.memory import MemoryDatabase
from dramaturg_store.memory_peers import MemoryPeers

Call = Callable[..., bool]


def always(*_: Any) -> bool:
    return True


@dataclass
class Plan:
    """What a call of a port is to do instead of, or after, its work."""

    error: BaseException
    is_after: bool
    applies: Call
    times: int


class Faulty:
    """A port around another one, which fails as it is told to."""

    def __init__(self, port: object) -> None:
        self._port = port
        self._plans: dict[str, list[Plan]] = {}
        self.calls: list[str] = []

    def fail(
        self, name: str, error: BaseException, *, after: bool = False, when: Call = always, times: int = 1
    ) -> None:
        """Let the next calls fail, before they do anything or after they did it."""
        self._plans.setdefault(name, []).append(Plan(error, after, when, times))

    def heal(self) -> None:
        self._plans.clear()

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._port, name)
        if not callable(real):
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            plan = self._next(name, args)
            if plan is not None and not plan.is_after:
                raise plan.error
            result = real(*args, **kwargs)
            if plan is not None:
                raise plan.error
            return result

        return call

    def _next(self, name: str, args: tuple[Any, ...]) -> Plan | None:
        for plan in self._plans.get(name, []):
            if plan.times and plan.applies(*args):
                plan.times -= 1
                return plan
        return None


class Sent:
    """The port `Publisher`: what it was given stays in a list, the broker of these tests."""

    can_lose = False

    def __init__(self) -> None:
        self.tasks: list[StepTask] = []

    def missing(self, work: Sequence[WorkItem], lease: Lease) -> Sequence[WorkItem]:
        return work

    def is_emptied(self) -> bool:
        return False

    def prepare(self, work: Sequence[WorkItem], lease: Lease) -> None:
        """Nothing to note."""

    def publish(self, work: Sequence[WorkItem], lease: Lease) -> None:
        self.tasks.extend(decode_task(item.message) for item in work if item.message is not None)


class Bench:
    """Coordinator, database and broker in one hand."""

    def __init__(self, *, observers: Sequence[Observer] = (), local: LocalExecutor | None = None) -> None:
        self.clock = VirtualClock()
        self.database = MemoryDatabase(now=self.clock.now)
        self.store = Faulty(self.database.store)
        self.inbox = Faulty(self.database.inbox)
        self.broker = Sent()
        self.publisher = Faulty(self.broker)
        self.peers = MemoryPeers()
        self.only: set[str] | None = None
        self._observers = observers
        self._local = local
        self.boot()

    def boot(self) -> None:
        """A coordinator begins, with nothing in memory and nothing in the broker."""
        self.reports = MemoryReports()
        self.broker.tasks.clear()
        self.passed = 0.0
        self.coordinator = Coordinator(
            namespace="dramatiq",
            owner="bench",
            store=cast("Store", self.store),
            inbox=cast("Inbox", self.inbox),
            leases=self.database.leases,
            make_reports=lambda _: self.reports,
            publisher=cast("Publisher", self.publisher),
            rules=Rules(registry, partition_of=self.database.partition_of),
            clock=self.clock,
            peers=self.peers,
            only=self.only,
            observers=self._observers,
            local=self._local,
            monotonic=lambda: time.monotonic() + self.passed,
        )
        assert self.coordinator.acquire()
        self.coordinator.recover()

    def look_at_peers(self) -> None:
        """A second passes by, and it is looked who is there."""
        self.passed += 1.0
        self.coordinator.tend()

    def crash(self) -> None:
        """The process is gone; another one begins."""
        self.store.heal()
        self.inbox.heal()
        self.publisher.heal()
        self.coordinator.stop()
        self.boot()

    def turn(self) -> bool:
        return self.coordinator.take_turn()

    def turns(self) -> None:
        """Turns until there is nothing to do."""
        while self.turn():
            pass

    def try_turn(self, error: type[BaseException]) -> None:
        """A turn that ends with this error."""
        try:
            self.turn()
        except error:
            return
        raise AssertionError(f"the turn raised no {error.__name__}")

    def advance(self, **duration: float) -> None:
        self.clock.set(self.clock.now() + timedelta(**duration))

    # Clients.

    def start(self, wf: Any, *args: Any, **options: Any) -> str:
        """Start a run; its id."""
        order, _, _ = order_of(wf, args, {}, options, namespace="dramatiq", max_payload=1 << 20)
        return self.database.starts.submit([order])[0].run_id

    def request(
        self, run_id: str, kind: RequestKind = RequestKind.CANCEL, message_id: str = "", body: str = ""
    ) -> None:
        """Ask for something, as a client does."""
        body = body or encode_message(ControlBody("somebody"))
        self.database.inbox.put([Request(message_id or f"{kind} {run_id}", kind, run_id, 1, body)])

    # Workers.

    def take_tasks(self) -> list[StepTask]:
        """What is in the broker; it is taken out."""
        tasks = list(self.broker.tasks)
        self.broker.tasks.clear()
        return tasks

    def take_task(self) -> StepTask:
        (task,) = self.take_tasks()
        return task

    def report(self, task: StepTask, kind: ReportKind, **fields: Any) -> StepReport:
        """Report as a worker does; the report, to be sent again."""
        fields = {"worker": "worker", **fields}
        fields.setdefault("release", task.release)
        report = StepReport(task.run_id, task.generation, task.seq, task.attempt, task.partition, kind, **fields)
        self.reports.put(encode_message(report))
        return report

    def complete(self, task: StepTask, result: object = 0) -> StepReport:
        return self.report(task, ReportKind.COMPLETED, result=Payload(json.dumps(result)))

    def fail(self, task: StepTask, **fields: Any) -> StepReport:
        names = ("ValueError", "Exception")
        return self.report(task, ReportKind.FAILED, error_type="ValueError", bases=names, message="no", **fields)

    def work(self, result: Callable[[StepTask], object] = lambda task: task.seq) -> None:
        """Do all that there is to do, without faults."""
        while self.turn() or self.broker.tasks:
            for task in self.take_tasks():
                self.complete(task, result(task))

    # What is stored.

    def record(self, run_id: str) -> RunRecord:
        return self.database.tables.runs[run_id]

    def status(self, run_id: str) -> str:
        record = self.database.tables.runs.get(run_id)
        return record.status if record is not None else "unknown"

    def history(self, run_id: str) -> Sequence[HistoryEvent]:
        found = self.database.store.load([run_id])[run_id]
        assert isinstance(found, StoredRun), found
        return found.history

    def events(self, run_id: str) -> list[str]:
        return [type_of(event.body) for event in self.history(run_id)]

    def time_of(self, run_id: str, name: str) -> datetime:
        (time,) = (event.time for event in self.history(run_id) if type_of(event.body) == name)
        return time

    def error(self, run_id: str) -> ErrorInfo:
        return ErrorInfo(**json.loads(self.record(run_id).error or "{}"))

    def letters(self) -> Sequence[DeadLetter]:
        return self.database.tables.letters

    def inbox_size(self) -> int:
        return len(self.database.tables.inbox)

    def open_work(self, run_id: str) -> Collection[WorkItem]:
        return list(self.database.tables.work.get(run_id, {}).values())
