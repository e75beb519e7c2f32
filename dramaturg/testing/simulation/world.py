"""A simulated world: coordinators, workers and clients around a database and a broker, on one thread and one clock.

Who does something next is drawn from a seed, and so is what goes wrong. When nobody has anything to do, the clock leaps
to the next moment that matters. After every operation the invariants are asked.
"""

from __future__ import annotations

import dataclasses
import heapq
import logging
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from dramaturg.testing.clock import VirtualClock
from dramaturg.testing.simulation import happenings as h
from dramaturg.testing.simulation.books import Books
from dramaturg.testing.simulation.broker import SimulatedBroker
from dramaturg.testing.simulation.chance import Chance
from dramaturg.testing.simulation.clients import Call, Clients
from dramaturg.testing.simulation.faults import FaultKind, FaultPlan
from dramaturg.testing.simulation.invariants import INVARIANTS
from dramaturg.testing.simulation.limit_invariants import lasting_slots
from dramaturg.testing.simulation.processes import LEASE_TIME, NAMESPACE, TEND_PERIOD, LeaseRow, Process
from dramaturg.testing.simulation.schedule_invariants import left_of_schedules
from dramaturg.testing.simulation.workers import Delivery, SimulatedWorker
from dramaturg_coordinator.live import Builder
from dramaturg_coordinator.rules import Rules
from dramaturg_coordinator.watchdog import Watchdog
from dramaturg_protocol.messages import Request, RequestKind, StepTask
from dramaturg_protocol.records import RunRecord, WorkItem, WorkKind
from dramaturg_protocol.schedule_records import Fired, ScheduleRecord
from dramaturg_store.memory import MemoryDatabase

#: Messages that workers have at once, and operations after which a world is taken for one that goes round in circles.
SLOTS, MOST_OPERATIONS = 3, 20_000

#: How often nobody has anything to do for long while a request waits.
MOST_RESTS = 10

#: Frozen processes within each other.
DEPTH = 2

#: How long an outage lasts at most.
OUTAGE = timedelta(hours=30)

_SWEEP = timedelta(seconds=31)
_TAKE = (
    FaultKind.OVERTAKEN,
    FaultKind.LOST,
    FaultKind.DOUBLED,
    FaultKind.WORKER_DIES_BEFORE,
    FaultKind.WORKER_DIES_AFTER,
    FaultKind.HANDED_BACK,
    FaultKind.SLOW,
    FaultKind.EMPTIED,
)
_REPORT = (FaultKind.DOUBLED, FaultKind.FOREIGN, FaultKind.EMPTIED)


class Violation(BaseException):
    """An invariant does not hold; nothing in the coordinator may catch this."""


class World:
    """One seed's world.

    Parameters:
      calls: what clients send.
      is_calm: nothing goes wrong.
      only: names of the faults that may happen; ``None`` for all that the seed has.
      coordinators: how many.
      rebuilds: rebuild every run that a commit touched, after it (invariant 5).
      schedules: rows that are there from the beginning, in whatever partition.

    Attributes:
      has_schedules: whether there are any, and so what goes wrong only with them.
    """

    def __init__(
        self,
        seed: int,
        calls: Sequence[Call],
        rules: Rules,
        *,
        is_calm: bool = False,
        only: Collection[str] | None = None,
        coordinators: int = 2,
        rebuilds: bool = True,
        schedules: Sequence[ScheduleRecord] = (),
    ) -> None:
        self._chance = Chance(seed)
        self.faults = FaultPlan(Chance(seed), is_calm=is_calm, only=only)
        self.clock = VirtualClock()
        self.database = MemoryDatabase(
            NAMESPACE, now=self.clock.now, partitions=1 + self._chance.below("partitions", 3)
        )
        self.rules = rules = dataclasses.replace(rules, partition_of=self.database.partition_of)
        self.broker = SimulatedBroker(self.clock.now, lambda task, epoch: self.look(h.Entered(task, epoch)))
        self.lease = LeaseRow(self.clock.now())
        self._watchdog = Watchdog(rules.code_limit)
        builder = Builder(rules, self._watchdog) if rebuilds else None
        self.books = Books(
            self.database.tables,
            self.clock.now,
            options_of=rules.options_of,
            builder=builder,
            forgets_often=rules.replay_every_turn,
        )
        self._worker = SimulatedWorker(rules.registry, rules.max_payload)
        self._clients = Clients(calls, self.database, self.faults, self.clock.now, self._in)
        self._deliveries: list[Delivery] = []
        self._count = len(calls)
        self._depth = 0
        self._operations = 0
        self._rests = 0
        self.has_schedules = bool(schedules)
        self.database.schedules.put([Fired(self._placed(row)) for row in schedules])
        self.books.schedules.update(self.database.tables.schedules.rows)
        self._processes = [Process(self, number + 1) for number in range(coordinators)]

    def run(self) -> dict[str, RunRecord]:
        """Until all is done; the runs as they ended.

        Raises:
          Violation: an invariant does not hold.
        """
        with _silence():
            try:
                while self._step():
                    pass
                self._check_end()
            finally:
                for process in self._processes:
                    process.is_alive = False
                    process.close()
                self._watchdog.stop()
        return self.database.tables.runs

    def look(self, happening: h.Happening) -> None:
        """Something happened: ask the invariants."""
        self._count_operation()
        if not isinstance(happening, h.Operated):
            for process in self._processes:
                process.is_idle = False
        self.books.note(happening)
        for invariant in INVARIANTS:
            for problem in invariant(self.books, happening):
                raise Violation(f"{invariant.__name__}: {problem}")
        self.books.settle(happening)
        if isinstance(happening, h.Sent | h.Committed):
            self._clients.look()

    def is_hidden(self, request: Request) -> bool:
        """Whether an inbox row's transaction is not visible yet."""
        return self._clients.is_hidden(request)

    def meanwhile(self, process: Process) -> None:
        """Go on without this process, until its lease is over and some things were done."""
        if self._depth >= DEPTH:
            return
        self._depth += 1
        process.is_frozen = True
        self._advance_to(self.clock.now() + LEASE_TIME)
        for _ in range(1 + self._chance.below("freeze", 40)):
            self._step()
        process.is_frozen = False
        self._depth -= 1

    # Steps.

    def _step(self) -> bool:
        """Let somebody do the next thing; false where nothing is left to do."""
        self._count_operation()
        choices = self._choices()
        if choices:
            self._chance.pick("who", choices)()
            return True
        return self._leap()

    def _choices(self) -> list[Callable[[], None]]:
        now = self.clock.now()
        choices: list[Callable[[], None]] = [each.serve for each in self._processes if each.can_serve(now)]
        call_at = self._clients.next_at
        if call_at is not None and call_at <= now:
            choices.append(self._call)
        if self.broker.waiting and len(self._deliveries) < SLOTS:
            choices.append(self._take)
        if self._deliveries and self._deliveries[0].at <= now:
            choices.append(self._finish)
        return choices

    def _leap(self) -> bool:
        now = self.clock.now()
        if self._depth and not any(each.can_serve(now) for each in self._processes):
            # With everybody frozen, a long wait would be an outage that is no fault of the engine.
            self._advance_to(now + TEND_PERIOD)
            return True
        if self._fails_for_long():
            return True
        moments = self._clients.moments()
        moments += [delivery.at for delivery in self._deliveries[:1]]
        work = [item for items in self.database.tables.work.values() for item in items.values()]
        leading = [each for each in self._processes if self._leads(each)]
        behind = max((each.behind for each in leading), default=timedelta(0))
        rows = self.database.tables.schedules.rows.values()
        dues = [*(item.due for item in work), *(row.next_due for row in rows)]
        moments += [due + behind for due in dues if due is not None and due + behind > now]
        moments += [each.not_before for each in self._processes if each.not_before > now and not each.is_frozen]
        grants = [each.next_grant() for each in leading]
        moments += [at + behind for at in grants if at is not None and at + behind > now]
        if self.lease.until > now and not any(map(self._leads, self._processes)):
            moments.append(self.lease.until)
        if any(item.kind is WorkKind.STEP for item in work) or (not moments and self._is_unfinished()):
            moments.append(now + _SWEEP)
        if not moments:
            return False
        if min(moments) >= now + _SWEEP:
            self._check_rest(work)
        self._advance_to(min(moments))
        return True

    def _placed(self, row: ScheduleRecord) -> ScheduleRecord:
        return dataclasses.replace(row, partition=self.database.partition_of(row.id))

    def _fails_for_long(self) -> bool:
        """Now that nobody has anything to do: whether all coordinators are gone for a while."""
        if self._depth or not self.has_schedules or not self.faults.draw("quiet", (FaultKind.OUTAGE,)):
            return False
        for process in self._processes:
            process.die()
        self._advance_to(self._in(OUTAGE.total_seconds()))
        return True

    def _leads(self, process: Process) -> bool:
        """Whether it holds the lease indeed, and not only believes so, and is awake."""
        owners = self.database.tables.leases.owners.values()
        return process.holds_lease and not process.is_frozen and process.name in owners

    def _is_unfinished(self) -> bool:
        return bool(self._open_runs() or self.database.tables.inbox)

    def _check_rest(self, work: Sequence[WorkItem]) -> None:
        """Nobody has anything to do for long: then nothing that could be done is left."""
        if (
            self._depth
            or not any(map(self._leads, self._processes))
            or self.clock.now() < self.broker.settled_at + 2 * TEND_PERIOD
        ):
            return
        for item in work:
            if item.kind is WorkKind.STEP and item.message is not None and item.message not in self.books.entered:
                raise Violation(f"invariant_2_commit_then_publish_then_acknowledge: nobody publishes {item.key}")
        if any(map(self._may_be_taken, self.database.tables.inbox.values())):
            self._rests += 1
            if self._rests > MOST_RESTS:
                left = list(self.database.tables.inbox.values())
                raise Violation(f"invariant_8_every_open_run_has_a_next_cause: nobody takes {left}")

    def _may_be_taken(self, request: Request) -> bool:
        """An update waits for its function, for as long as the run is open."""
        record = self.database.tables.runs.get(request.run_id)
        return request.kind is not RequestKind.UPDATE or record is None or record.closed_at is not None

    def _advance_to(self, moment: datetime) -> None:
        self.clock.set(moment)
        for process in self._processes:
            process.is_idle = False
            if self._leads(process):
                # Its housekeeping renewed it all the while.
                self.lease.until = max(self.lease.until, moment + LEASE_TIME / 2)

    # Clients.

    def _call(self) -> None:
        self._clients.call()
        self.look(h.Sent())

    # Workers.

    def _take(self) -> None:
        fault = self.faults.draw("take", _TAKE)
        if fault is FaultKind.EMPTIED:
            self._empty()
            return
        waiting = len(self.broker.waiting)
        task = self.broker.take(self._chance.below("place", waiting) if fault is FaultKind.OVERTAKEN else 0)
        if task is None:
            return
        if fault is FaultKind.LOST:
            self.broker.lose(task.message_id)
            return
        self._deliver(task, fault)
        if fault is FaultKind.DOUBLED:
            self._deliver(task, None)

    def _deliver(self, task: StepTask, fault: FaultKind | None) -> None:
        self._count += 1
        worker = f"worker {self._count}"
        if task.timeout is not None or self._chance.happens("started", 0.2):
            self._report(task, self._worker.started(task, worker))
        report = ""
        if fault is FaultKind.HANDED_BACK:
            report = self._worker.hand_back(task, worker)
        elif fault is not FaultKind.WORKER_DIES_BEFORE:
            self.look(h.Began(worker, task))
            report = self._worker.run(task, worker)
        if fault is FaultKind.WORKER_DIES_AFTER:
            report = ""
        at = self._in(20.0 if fault is FaultKind.SLOW and task.timeout is None else 2.0)
        heapq.heappush(self._deliveries, Delivery(at, self._count, task, worker, report))

    def _finish(self) -> None:
        delivery = heapq.heappop(self._deliveries)
        if delivery.is_copy:
            self._report(delivery.task, delivery.report)
            return
        if not delivery.report:
            self.broker.put_back(delivery.task)
            return
        self.look(h.Reported(delivery.task))
        fault = self.faults.draw("report", _REPORT)
        if fault is FaultKind.FOREIGN:
            self._report(delivery.task, self._foreign(delivery.report))
        self.broker.finish(delivery.task, delivery.report)
        if fault is FaultKind.DOUBLED:
            heapq.heappush(self._deliveries, dataclasses.replace(delivery, at=self._in(20.0), is_copy=True))
        if fault is FaultKind.EMPTIED:
            self._empty()
        self.look(h.Sent())

    def _report(self, task: StepTask, text: str) -> None:
        self.broker.report(task.partition, text)
        self.look(h.Sent())

    def _foreign(self, report: str) -> str:
        text = report[: self._chance.below("cut", len(report))]
        self.books.foreign.add(text)
        return text

    def _empty(self) -> None:
        self.broker.empty()
        self.look(h.Emptied())

    def _in(self, seconds: float) -> datetime:
        return self.clock.now() + timedelta(seconds=self._chance.number("how long") * seconds)

    # The end.

    def _count_operation(self) -> None:
        self._operations += 1
        if self._operations > MOST_OPERATIONS:
            raise Violation(
                f"invariant_8_every_open_run_has_a_next_cause: it goes round in circles: {self._open_runs()}"
            )

    def _open_runs(self) -> list[str]:
        return [run_id for run_id, record in self.database.tables.runs.items() if record.closed_at is None]

    def _check_end(self) -> None:
        tables = self.database.tables
        left = {
            "open runs": self._open_runs(),
            "rows of open work": list(tables.work),
            "requests": list(tables.inbox.values()),
            "places of limits": lasting_slots(self.books),
            "schedules": left_of_schedules(self.books),
        }
        for what, found in left.items():
            if found:
                raise Violation(f"invariant_8_every_open_run_has_a_next_cause: {what} are left over: {found}")


@contextmanager
def _silence() -> Generator[None, None, None]:
    """Nobody wants to read thousands of lines about faults that were meant."""
    logger = logging.getLogger("dramaturg")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
