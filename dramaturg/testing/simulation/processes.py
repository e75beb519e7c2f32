"""One coordinator of a simulated world: it stands by, serves, is killed, freezes, and comes back as another one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from dramaturg.testing.clock import VirtualClock
from dramaturg.testing.simulation import happenings as h
from dramaturg.testing.simulation.broker import SimulatedBroker, SimulatedPublisher, SimulatedReports
from dramaturg.testing.simulation.faults import Crashed, FaultKind, FaultPlan
from dramaturg.testing.simulation.gates import (
    Gate,
    GatedInbox,
    GatedLeases,
    GatedLocalSteps,
    GatedPublisher,
    GatedReports,
    GatedStore,
)
from dramaturg.testing.simulation.schedule_gates import GatedSchedules
from dramaturg.testing.simulation.workers import SimulatedWorker
from dramaturg_coordinator.ports import Reports
from dramaturg_coordinator.rules import Rules
from dramaturg_coordinator.service import Coordinator
from dramaturg_protocol.faults import Fenced, Unreachable
from dramaturg_protocol.ids import name_of_local_worker
from dramaturg_protocol.messages import Request
from dramaturg_protocol.records import Balance, Lease, RunWrites
from dramaturg_store.memory import MemoryDatabase

NAMESPACE = "simulation"
LEASE_TIME = timedelta(seconds=15)

#: How long a process takes to begin again, and waits after an error.
RESTART, PAUSE = timedelta(seconds=1), timedelta(seconds=0.2)

#: How far a clock is behind that is wrong.
CLOCK_BACK = timedelta(hours=1)

#: How often it looks after the lease and the broker.
TEND_PERIOD = timedelta(seconds=1)


class Surroundings(Protocol):
    """What a process sees of its world."""

    clock: VirtualClock
    broker: SimulatedBroker
    faults: FaultPlan
    rules: Rules
    lease: LeaseRow
    has_schedules: bool

    @property
    def database(self) -> MemoryDatabase: ...
    def look(self, happening: h.Happening) -> None:
        """Something happened."""
        ...

    def is_hidden(self, request: Request) -> bool:
        """Whether an inbox row's transaction is not visible yet."""
        ...

    def meanwhile(self, process: Process) -> None:
        """Go on without this process for a while."""
        ...


@dataclass(slots=True)
class LeaseRow:
    """Until when the lease lasts, by the database's clock."""

    until: datetime


class SimulatedLeases:
    """The port `Leases` with an end, over the in-memory database."""

    def __init__(self, database: MemoryDatabase, clock: VirtualClock, row: LeaseRow) -> None:
        self._database = database
        self._clock = clock
        self._row = row

    @property
    def lease_time(self) -> timedelta | None:
        """How long a lease lasts after a renewal."""
        return LEASE_TIME

    def acquire(self, owner: str) -> Lease | None:
        """Take every partition that is free or whose lease is over."""
        if self._clock.now() >= self._row.until:
            self._database.tables.leases.owners.clear()
        lease = self._database.leases.acquire(owner)
        if lease is not None:
            self._row.until = self._clock.now() + LEASE_TIME
        return lease

    def renew(self, lease: Lease) -> datetime:
        """Go on holding it."""
        time = self._database.leases.renew(lease)
        self._row.until = self._clock.now() + LEASE_TIME
        return time

    def balance(self, lease: Lease) -> Balance:
        """Nobody else has a share."""
        return self._database.leases.balance(lease)

    def give_up(self, lease: Lease, partitions: Collection[int]) -> None:
        """Nobody else asks for them."""

    def evict(self) -> int:
        """Whoever acquires looks."""
        return 0

    def release(self, lease: Lease) -> None:
        """Give it back."""
        self._database.leases.release(lease)


class BehindClock:
    """The clock of a process, which may be behind that of the world."""

    def __init__(self, clock: VirtualClock, behind: timedelta) -> None:
        self._clock = clock
        self._behind = behind

    def now(self) -> datetime:
        """The time, there."""
        return self._clock.now() - self._behind


class Process:
    """A place where a coordinator runs, one after the other.

    Attributes:
      name: of the one that runs now.
      is_alive: not killed.
      is_frozen: stopped in the middle of an operation.
      is_idle: has nothing to do before something happens.
      not_before: when it does something next.
      behind: how far its clock is.
    """

    def __init__(self, world: Surroundings, number: int) -> None:
        self._world = world
        self._number = number
        self._incarnation = 0
        self.not_before = world.clock.now()
        self.is_frozen = False
        self._tended_at: datetime | None = None
        self._local_worker = SimulatedWorker(world.rules.registry, world.rules.max_payload)
        self._boot()

    @property
    def holds_lease(self) -> bool:
        """Whether it believes so."""
        return self._is_leading

    def can_serve(self, now: datetime) -> bool:
        """Whether it would do something now."""
        return not self.is_frozen and not self.is_idle and now >= self.not_before

    def next_grant(self) -> datetime | None:
        """When a rate has room again for an execution that waits there."""
        return self._coordinator.next_grant()

    def freeze(self) -> None:
        """The rest of the world goes on, until the lease of this process is over."""
        self._world.meanwhile(self)

    def die(self) -> None:
        """It is killed, and comes back."""
        self.is_alive = False
        self._begin_anew()

    def serve(self) -> None:
        """Do the next thing, as the service's own thread does."""
        try:
            self._serve()
        except (Crashed, Fenced):
            self._begin_anew()
        except Unreachable:
            self._tended_at = None
            self.not_before = self._world.clock.now() + PAUSE

    def _boot(self) -> None:
        self._incarnation += 1
        self.name = f"coordinator {self._number}.{self._incarnation}"
        self.is_alive = True
        self.is_idle = False
        self._is_leading = self._is_recovered = False
        self._tended_at = None
        world, clock = self._world, self._world.clock
        self.gate = gate = Gate(self, world.faults, world.look)
        is_behind = world.has_schedules and world.faults.draw("boot", (FaultKind.CLOCK_BACK,))
        self.behind = CLOCK_BACK if is_behind else timedelta(0)
        database = MemoryDatabase(NAMESPACE, now=clock.now, shared=world.database)

        def make_reports(lease: Lease) -> Reports:
            return GatedReports(SimulatedReports(world.broker, lease.epochs), gate, self.name)

        self._coordinator = Coordinator(
            namespace=NAMESPACE,
            owner=self.name,
            store=GatedStore(database.store, gate, self.name),
            inbox=GatedInbox(database.inbox, gate, world.is_hidden),
            leases=GatedLeases(SimulatedLeases(database, clock, world.lease), gate, self.name),
            make_reports=make_reports,
            publisher=GatedPublisher(SimulatedPublisher(world.broker, clock.now), gate, self.name),
            rules=world.rules,
            clock=BehindClock(clock, self.behind),
            observers=[self._observe],
            local=GatedLocalSteps(
                gate, self._local_worker, name_of_local_worker(self.name), world.look, self._is_owner
            ),
            schedules=GatedSchedules(database.schedules, gate, self.name) if world.has_schedules else None,
            monotonic=lambda: clock.now().timestamp(),
        )

    def _is_owner(self) -> bool:
        return self.name in self._world.database.tables.leases.owners.values()

    def _serve(self) -> None:
        world = self._world
        if not self._is_leading:
            self._is_leading = self._coordinator.acquire()
            self.is_idle = not self._is_leading
            return
        if world.faults.draw("serve", (FaultKind.STOPPED,)):
            self._begin_anew()
            return
        if not self._is_recovered:
            self._coordinator.recover()
            self._is_recovered = True
            world.look(h.Recovered(self.name))
            return
        now = world.clock.now()
        if self._tended_at is None or now - self._tended_at >= TEND_PERIOD or not self._coordinator.is_safe:
            self._coordinator.tend()
            self._tended_at = now
        self.is_idle = not self._coordinator.take_turn()

    def _observe(self, writes: Sequence[RunWrites]) -> None:
        self._world.look(h.Observed(self.name, writes))

    def _begin_anew(self) -> None:
        """Whatever it had in memory is gone; the lease is given back by whoever is still alive and has it."""
        self.close()
        self._world.look(h.Ended(self.name))
        self.not_before = self._world.clock.now() + RESTART
        self._boot()

    def close(self) -> None:
        """Drop all runs and threads."""
        self._coordinator.stop()
