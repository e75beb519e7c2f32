"""The ports of one coordinator, each around the real one: every operation passes a gate, where faults strike.

What was done is told to whoever watches, also where its caller sees an error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from dramaturg.testing.simulation import happenings as h
from dramaturg.testing.simulation.broker import SimulatedReports
from dramaturg.testing.simulation.faults import Crashed, FaultKind, FaultPlan
from dramaturg.testing.simulation.workers import SimulatedWorker
from dramaturg_coordinator.ports import Inbox, Leases, Publisher, Store
from dramaturg_protocol.faults import Refused, Unreachable
from dramaturg_protocol.limits import Slot
from dramaturg_protocol.messages import Request, StepReport, StepTask, decode_report
from dramaturg_protocol.records import (
    Balance,
    DeadLetter,
    KeptResult,
    Lease,
    RunWrites,
    StoredRun,
    Unreadable,
    WorkItem,
    WorkKind,
)

T = TypeVar("T")

_READ = (FaultKind.CRASH_BEFORE, FaultKind.FAIL_BEFORE, FaultKind.PAUSE_AFTER)
_WRITE = (
    FaultKind.CRASH_BEFORE,
    FaultKind.CRASH_AFTER,
    FaultKind.PAUSE_BEFORE,
    FaultKind.PAUSE_AFTER,
    FaultKind.FAIL_BEFORE,
    FaultKind.FAIL_AFTER,
)
_COMMIT = (*_WRITE, FaultKind.REFUSED)
_PUBLISH = (*_WRITE, FaultKind.PARTLY, FaultKind.PARTLY, FaultKind.PARTLY)
_LOCAL = (FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER, FaultKind.PAUSE_AFTER)
_LEASE = (FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER, FaultKind.FAIL_BEFORE, FaultKind.FAIL_AFTER)


class Host(Protocol):
    """The process whose operations pass, as its gate sees it."""

    name: str
    is_alive: bool

    def freeze(self) -> None:
        """The rest of the world goes on, until the lease of this process is over."""
        ...


class Gate:
    """Where every operation of a process passes.

    Parameters:
      look: told what was done, and then to look whether all is well.
    """

    def __init__(self, host: Host, faults: FaultPlan, look: Callable[[h.Happening], None]) -> None:
        self._host = host
        self._faults = faults
        self._look = look

    def draw(self, operation: str, kinds: Sequence[FaultKind]) -> FaultKind | None:
        """Enter an operation: what goes wrong with it; what strikes before it strikes here."""
        if not self._host.is_alive:
            raise Crashed(self._host.name)
        fault = self._faults.draw(operation, kinds)
        if fault is FaultKind.PAUSE_BEFORE:
            self._host.freeze()
        elif fault is FaultKind.CRASH_BEFORE:
            self._crash()
        elif fault is FaultKind.FAIL_BEFORE:
            self._look(h.Failed(self._host.name))
            raise Unreachable(f"{operation}: no answer")
        elif fault is FaultKind.REFUSED:
            self._look(h.Failed(self._host.name))
            raise Refused(f"{operation}: refused")
        return fault

    def leave(self, operation: str, fault: FaultKind | None, happening: h.Happening) -> None:
        """An operation is done; what strikes after it strikes here."""
        self._look(happening)
        if fault is FaultKind.PAUSE_AFTER:
            self._host.freeze()
        elif fault is FaultKind.CRASH_AFTER:
            self._crash()
        elif fault in (FaultKind.FAIL_AFTER, FaultKind.PARTLY):
            self._look(h.Failed(self._host.name))
            raise Unreachable(f"{operation}: no answer")

    def read(self, operation: str, work: Callable[[], T], kinds: Sequence[FaultKind] = _READ) -> T:
        """An operation that changes nothing that others see."""
        fault = self.draw(operation, kinds)
        found = work()
        self.leave(operation, fault, h.Operated(self._host.name, operation))
        return found

    def _crash(self) -> None:
        self._host.is_alive = False
        raise Crashed(self._host.name)


class GatedStore:
    """The port `Store`."""

    def __init__(self, store: Store, gate: Gate, process: str) -> None:
        self._store = store
        self._gate = gate
        self._process = process

    def commit(self, writes: Sequence[RunWrites], lease: Lease, now: datetime) -> None:
        """Write a turn."""
        kinds = _COMMIT if len(writes) > 1 else _WRITE
        fault = self._gate.draw("commit", kinds)
        self._store.commit(writes, lease, now)
        self._gate.leave("commit", fault, h.Committed(self._process, writes, lease))

    def load(self, run_ids: Collection[str]) -> Mapping[str, StoredRun | Unreadable]:
        """The runs with their histories."""
        fault = self._gate.draw("load", _READ)
        found = self._store.load(run_ids)
        self._gate.leave("load", fault, h.Loaded(self._process, tuple(found)))
        return found

    def due_work(self, partitions: Collection[int], until: datetime, limit: int) -> Sequence[WorkItem]:
        """Open work that falls due."""
        return self._gate.read("due_work", lambda: self._store.due_work(partitions, until, limit))

    def sent_work(self, partitions: Collection[int], kind: WorkKind = WorkKind.STEP) -> Iterator[WorkItem]:
        """Steps whose message was published."""
        return iter(self._gate.read("sent_work", lambda: list(self._store.sent_work(partitions, kind))))

    def idle_runs(self, partition: int, limit: int) -> Sequence[str]:
        """As the store."""
        return self._gate.read("idle_runs", lambda: self._store.idle_runs(partition, limit))

    def runs_with_status(self, partitions: Collection[int], status: str) -> Sequence[str]:
        """Ids of runs."""
        return self._gate.read("runs_with_status", lambda: self._store.runs_with_status(partitions, status))

    def orphans(self, partition: int, limit: int) -> Sequence[str]:
        """Ids of runs that wait for a child which is closed."""
        return self._gate.read("orphans", lambda: self._store.orphans(partition, limit))

    def claim_id(self, workflow_id: str, run_id: str) -> str | None:
        """Give a workflow id to a run that is to begin."""
        return self._gate.read("claim_id", lambda: self._store.claim_id(workflow_id, run_id))

    def holders(self, workflow_ids: Collection[str]) -> Mapping[str, str]:
        """The newest run of each workflow id."""
        return self._gate.read("holders", lambda: self._store.holders(workflow_ids))

    def kept_results(self, keys: Collection[str]) -> Mapping[str, KeptResult]:
        """As the store."""
        return self._gate.read("kept_results", lambda: self._store.kept_results(keys))

    def slots(self, partitions: Collection[int], now: datetime) -> Sequence[Slot]:
        """As the store."""
        return self._gate.read("slots", lambda: self._store.slots(partitions, now))

    def leaked_slots(self, partition: int, limit: int) -> Sequence[Slot]:
        """As the store."""
        return self._gate.read("leaked_slots", lambda: self._store.leaked_slots(partition, limit))

    def forgotten_waiters(self, partition: int, limit: int) -> Sequence[str]:
        """As the store."""
        return self._gate.read("forgotten_waiters", lambda: self._store.forgotten_waiters(partition, limit))

    def forget_spent(self, partitions: Collection[int], before: datetime) -> None:
        """As the store."""
        self._gate.read("forget_spent", lambda: self._store.forget_spent(partitions, before), _WRITE)

    def put_aside(self, letters: Sequence[DeadLetter]) -> None:
        """Keep what could not be processed."""
        self._gate.read("put_aside", lambda: self._store.put_aside(letters), _WRITE)


class GatedInbox:
    """The port `Inbox`.

    Parameters:
      is_hidden: whether a row's transaction is not visible yet.
    """

    def __init__(self, inbox: Inbox, gate: Gate, is_hidden: Callable[[Request], bool]) -> None:
        self._inbox = inbox
        self._gate = gate
        self._is_hidden = is_hidden

    def take(
        self, partitions: Collection[int], limit: int, skip: Collection[int] = (), *, starts: bool = True
    ) -> Sequence[Request]:
        """Requests that are there and visible."""
        found = self._gate.read("inbox", lambda: self._inbox.take(partitions, limit, skip, starts=starts))
        return [request for request in found if not self._is_hidden(request)]

    def put(self, requests: Sequence[Request]) -> None:
        """Send requests."""
        fault = self._gate.draw("put", _WRITE)
        self._inbox.put(requests)
        self._gate.leave("put", fault, h.Sent())


class GatedPublisher:
    """The port `Publisher`."""

    def __init__(self, publisher: Publisher, gate: Gate, process: str) -> None:
        self._publisher = publisher
        self._gate = gate
        self._process = process

    @property
    def can_lose(self) -> bool:
        """As the broker says."""
        return self._publisher.can_lose

    def prepare(self, work: Sequence[WorkItem], lease: Lease) -> None:
        """Hear what is about to be committed."""
        self._publisher.prepare(work, lease)

    def publish(self, work: Sequence[WorkItem], lease: Lease) -> None:
        """Send messages."""
        fault = self._gate.draw("publish", _PUBLISH if len(work) > 1 else _WRITE)
        sent = work[: len(work) // 2] if fault is FaultKind.PARTLY else work
        self._publisher.publish(sent, lease)
        self._gate.leave("publish", fault, h.Published(self._process, tuple(sent), lease))

    def missing(self, work: Sequence[WorkItem], lease: Lease) -> Sequence[WorkItem]:
        """Those that the broker does not have."""
        return self._gate.read("missing", lambda: self._publisher.missing(work, lease))

    def is_emptied(self) -> bool:
        """Whether the broker lost everything."""
        return self._gate.read("is_emptied", self._publisher.is_emptied)


class GatedReports:
    """The port `Reports`."""

    def __init__(self, reports: SimulatedReports, gate: Gate, process: str) -> None:
        self._reports = reports
        self._gate = gate
        self._process = process

    def wait(self, timeout: timedelta) -> None:
        """At once."""
        self._reports.wait(timeout)

    def wake(self) -> None:
        """There is something in the inbox."""
        self._reports.wake()

    def attend(self, epochs: Mapping[int, int]) -> None:
        """Read those of other partitions."""
        self._reports.attend(epochs)

    def take_wake(self) -> bool:
        """Whether `wake` was called since the last time."""
        return self._reports.take_wake()

    def take(self, limit: int) -> Sequence[StepReport | DeadLetter]:
        """The oldest reports."""
        return self._gate.read("reports", lambda: self._reports.take(limit))

    def acknowledge(self, count: int) -> None:
        """Forget the oldest."""
        fault = self._gate.draw("acknowledge", _WRITE)
        done = tuple(self._reports.in_hand[:count])
        self._reports.acknowledge(count)
        self._gate.leave("acknowledge", fault, h.Acknowledged(self._process, done))

    def mark(self) -> Mapping[str, str]:
        """How far the reports reach."""
        return self._gate.read("mark", self._reports.mark)

    def is_past(self, mark: Mapping[str, str]) -> bool:
        """Whether everything up to a mark was taken and acknowledged."""
        return self._reports.is_past(mark)

    def look_for_loss(self) -> None:
        """Begin again where something was lost."""
        self._gate.read("look_for_loss", self._reports.look_for_loss)

    def close(self) -> None:
        """Let go of what is in hand."""
        self._reports.close()


class GatedLeases:
    """The port `Leases`."""

    def __init__(self, leases: Leases, gate: Gate, process: str) -> None:
        self._leases = leases
        self._gate = gate
        self._process = process

    @property
    def lease_time(self) -> timedelta | None:
        """How long a lease lasts."""
        return self._leases.lease_time

    def acquire(self, owner: str) -> Lease | None:
        """Take every partition that is free."""
        fault = self._gate.draw("acquire", _LEASE)
        lease = self._leases.acquire(owner)
        done = h.Operated(self._process, "acquire") if lease is None else h.Acquired(self._process, lease)
        self._gate.leave("acquire", fault, done)
        return lease

    def renew(self, lease: Lease) -> datetime:
        """Go on holding it."""
        return self._gate.read("renew", lambda: self._leases.renew(lease), _LEASE)

    def balance(self, lease: Lease) -> Balance:
        """Take what is free of one's share."""
        return self._gate.read("balance", lambda: self._leases.balance(lease), _LEASE)

    def give_up(self, lease: Lease, partitions: Collection[int]) -> None:
        """Give some of the partitions back."""
        self._gate.read("give up", lambda: self._leases.give_up(lease, partitions), _LEASE)

    def evict(self) -> int:
        """Free the partitions of those whose lease is over."""
        return self._gate.read("evict", self._leases.evict, _LEASE)

    def release(self, lease: Lease) -> None:
        """Give it back; who is dead says nothing."""
        try:
            self._gate.read("release", lambda: self._leases.release(lease), _LEASE)
        except Crashed:
            raise Unreachable("the process is gone") from None


class GatedLocalSteps:
    """The port `LocalExecutor`: attempts end before `begin` returns, unless their process does."""

    def __init__(
        self,
        gate: Gate,
        worker: SimulatedWorker,
        name: str,
        look: Callable[[h.Happening], None],
        is_owner: Callable[[], bool],
    ) -> None:
        self._gate = gate
        self._worker = worker
        self._name = name
        self._look = look
        self._is_owner = is_owner

    def begin(self, task: StepTask, report: Callable[[StepReport], None]) -> Callable[[], None]:
        """Run an attempt to its end."""
        fault = self._gate.draw("local step", _LOCAL)
        if self._is_owner():
            # One that was frozen beyond its lease may begin what another has done meanwhile.
            self._look(h.Began(self._name, task))
        said = self._worker.run(task, self._name)
        self._look(h.Reported(task))
        self._gate.leave("local step", fault, h.Operated(self._name, "local step"))
        report(decode_report(said))
        return lambda: None
