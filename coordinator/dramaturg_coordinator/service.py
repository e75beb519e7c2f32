"""The coordinator as a service: a thread that stands by for a lease and takes turns while it holds one.

Beside it runs the housekeeping: it renews the lease, and evicts coordinators that are gone, which may have to wait. What
changes the partitions that are held happens between two turns, in the thread that takes them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from dramaturg_coordinator.housekeeping import Housekeeping
from dramaturg_coordinator.ports import (
    Clock,
    Inbox,
    Leases,
    LocalExecutor,
    Peers,
    Postponed,
    Publisher,
    Reports,
    Schedules,
    Store,
)
from dramaturg_coordinator.rules import Rules
from dramaturg_coordinator.run_note import RunNote
from dramaturg_coordinator.schedules import OnFired
from dramaturg_coordinator.tenure import BALANCE_PERIOD, Tenure
from dramaturg_coordinator.troubles import Troubles
from dramaturg_coordinator.turn import Observer
from dramaturg_coordinator.watchdog import Watchdog
from dramaturg_protocol.faults import Fault, Fenced, Unreachable
from dramaturg_protocol.records import Lease

logger = logging.getLogger("dramaturg.coordinator")

#: How often the inbox is looked into without a wake-up: it costs a server more than a file.
FILE_INBOX_PERIOD, SERVER_INBOX_PERIOD = timedelta(seconds=0.2), timedelta(seconds=1)

#: How often a lease without an end is renewed, which is how its holder learns the database's time.
RENEW_PERIOD = timedelta(seconds=5)

#: How many times in a lease time it is looked for coordinators whose lease is over.
EVICTIONS = 15

#: How often whoever stands by asks for the lease.
STAND_BY_PERIOD = 1.0

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_LAST_TURNS = 5.0


class Coordinator:
    """Advances the runs of its share of the partitions: of all of them, where there is no other coordinator.

    Parameters:
      owner: a name for logs and the lease.
      make_reports: gives the port `Reports` for the partitions of a lease.
      clock: instead of the database's time.
      peers: the other coordinators; ``None`` where there can be none.
      only: advance these runs only, and those that they start: the set grows.
      observers: are told what each turn committed.
      local: runs local steps; ``None`` where nobody does.
      schedules: begin runs by themselves; ``None`` where nobody fires them.
      on_fired: is told what schedules did.
      postponed: what is sent to runs later; ``None`` where nobody looks after that.
      on_turn: is told how many seconds each turn took that had anything to do.
      duties: housekeeping besides the lease: functions with their periods.
      note: tells a supervisor which run is advanced; ``None`` where nobody supervises.
      monotonic: the clock of this machine, in seconds; decides how long the lease is safe.
    """

    def __init__(
        self,
        *,
        namespace: str,
        owner: str,
        store: Store,
        inbox: Inbox,
        leases: Leases,
        make_reports: Callable[[Lease], Reports],
        publisher: Publisher,
        rules: Rules,
        clock: Clock | None = None,
        peers: Peers | None = None,
        only: set[str] | None = None,
        observers: Sequence[Observer] = (),
        local: LocalExecutor | None = None,
        schedules: Schedules | None = None,
        on_fired: OnFired | None = None,
        postponed: Postponed | None = None,
        on_turn: Callable[[float], object] | None = None,
        duties: Sequence[tuple[Callable[[], object], timedelta]] = (),
        note: RunNote | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._namespace = namespace
        self._owner = owner
        self._store = store
        self._inbox = inbox
        self._leases = leases
        self._make_reports = make_reports
        self._publisher = publisher
        self._rules = rules
        self._clock = clock
        self._peers = peers
        self._only = only
        self._observers = observers
        self._local = local
        self._schedules = schedules
        self._on_fired = on_fired
        self._postponed = postponed
        self._on_turn = on_turn
        self._duties = duties
        self._monotonic = monotonic
        self._watchdog = Watchdog(rules.code_limit, note)
        self._tenure: Tenure | None = None
        self._thread: threading.Thread | None = None
        self._housekeeping: Housekeeping | None = None
        self._is_stopping = threading.Event()
        self._pause = _FIRST_PAUSE
        self._told_held: int | None = None

    @property
    def partitions_held(self) -> int:
        """How many partitions it advances the runs of; none before its lease, and none after."""
        tenure = self._tenure
        return 0 if tenure is None or self.has_ended else len(tenure.lease.epochs)

    @property
    def troubles(self) -> Troubles:
        """What does not get on of what it holds."""
        tenure = self._tenure
        return Troubles() if tenure is None else tenure.troubles

    @property
    def has_ended(self) -> bool:
        """Whether its thread was started and is gone."""
        return self._thread is not None and self._thread.ident is not None and not self._thread.is_alive()

    def acquire(self) -> bool:
        """Take a share of the partitions and get ready; false beside a coordinator that shares with nobody.

        Raises:
          Unreachable: the database does not answer.
        """
        lease = self._leases.acquire(self._owner)
        if lease is None:
            return False
        try:
            self._tenure = Tenure(
                namespace=self._namespace,
                lease=lease,
                leases=self._leases,
                clock=self._clock,
                store=self._store,
                inbox=self._inbox,
                reports=self._make_reports(lease),
                publisher=self._publisher,
                rules=self._rules,
                watchdog=self._watchdog,
                peers=self._peers,
                only=self._only,
                observers=self._observers,
                local=self._local,
                schedules=self._schedules,
                on_fired=self._on_fired,
                postponed=self._postponed,
                monotonic=self._monotonic,
            )
        except BaseException:
            self._give_back(lease)
            raise
        return True

    def recover(self) -> None:
        """Take up what a coordinator before this one left behind. For whoever drives the coordinator by hand."""
        self._held().recover()

    def take_turn(self) -> bool:
        """Take one turn now; whether there was anything to do. For whoever drives the coordinator by hand."""
        tenure = self._held()
        return tenure.fire(looks=True) | tenure.turn()

    def tend(self) -> None:
        """Look after the lease and the broker, as between two turns. For whoever drives the coordinator by hand.

        Raises:
          Fenced: some partitions are lost: go on with `lose`.
          Unreachable: the database or the broker does not answer; the lease may not be safe any more.
        """
        tenure = self._held()
        tenure.renew()
        self._leases.evict()
        tenure.balance()
        tenure.tend()

    def lose(self, fenced: Fenced) -> bool:
        """Drop what a fault says is lost; whether anything is left. Otherwise `acquire` begins anew.

        Raises:
          Fenced: the same fault: it was not ours anyway.
        """
        tenure = self._held()
        if not tenure.lose(fenced.partitions):
            raise fenced
        if tenure.lease.epochs:
            logger.warning("%s: their runs are dropped, the others go on", fenced)
            return True
        self._tenure = None
        logger.error("%s: its runs are dropped, and this coordinator stands by", fenced)
        tenure.close()
        return False

    def next_grant(self) -> datetime | None:
        """When a rate has room again for an execution that waits. For whoever drives the coordinator by hand."""
        tenure = self._held()
        return tenure.turn.limits.next_due(tenure.clock.now())

    def holds(self, partition: int) -> bool:
        """Whether it advances the runs of a partition.

        What is to be done once in a namespace is done by whoever holds its first one: two may do it while that moves.
        """
        tenure = self._tenure
        return tenure is not None and not self.has_ended and partition in tenure.lease.epochs

    @property
    def is_safe(self) -> bool:
        """Whether it holds a lease that nobody can have taken over yet."""
        return self._tenure is not None and self._tenure.is_safe()

    def start(self) -> None:
        """Stand by, and take turns while the lease is held, in a thread of its own, until `stop`."""
        self._thread = threading.Thread(target=self._run, name="dramaturg-coordinator", daemon=True)
        self._start_housekeeping()
        self._thread.start()

    def wake(self) -> None:
        """There is something in the inbox."""
        tenure = self._tenure
        if tenure is not None:
            tenure.reports.wake()

    def stop(self, timeout: float = 15.0) -> None:
        """Finish the turn that is under way, record what is reported, give the lease back, drop all runs from memory.

        It returns in any case, and may be called twice.

        Parameters:
          timeout: seconds that the turn may take; one that waits for a database gives up before.
        """
        self._is_stopping.set()
        self._wake_quietly()
        if self._housekeeping is not None:
            self._housekeeping.stop()
            self._housekeeping = None
        if self._thread is not None:
            self._thread.join(timeout)
        tenure, self._tenure = self._tenure, None
        if tenure is not None:
            self._end(tenure)
        self._watchdog.stop()

    def _end(self, tenure: Tenure) -> None:
        if self._thread is None or not self._thread.is_alive():
            tenure.close()
        else:
            logger.error("a turn does not end; it is left alone, and what it commits after this is fenced off")
        self._give_back(tenure.lease)

    def _held(self) -> Tenure:
        assert self._tenure is not None
        return self._tenure

    def _wake_quietly(self) -> None:
        try:
            self.wake()
        except Fault as error:
            logger.debug("nobody was woken: %s", error)

    def _give_back(self, lease: Lease) -> None:
        try:
            self._leases.release(lease)
        except Fault as error:
            logger.warning("the lease is not given back: %s; it ends by itself", error)

    def _start_housekeeping(self) -> None:
        lease_time = self._leases.lease_time
        renewal = RENEW_PERIOD if lease_time is None else lease_time / 3
        eviction = [] if lease_time is None else [(self._leases.evict, lease_time / EVICTIONS)]
        self._housekeeping = Housekeeping([*eviction, *self._duties], first=(self._renew, renewal))
        self._housekeeping.start()

    def _renew(self) -> None:
        tenure = self._tenure
        if tenure is not None:
            tenure.renew()

    # The thread.

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            try:
                if self._tenure is None and not self.acquire():
                    self._is_stopping.wait(STAND_BY_PERIOD)
                    continue
                self._serve(self._held())
            except Fenced as error:
                self._go_on_without(error)
            except Exception as error:  # noqa: BLE001 - a bug must not end the service
                self._complain(error)
        if self._tenure is not None:
            self._record_the_last(self._tenure)

    def _serve(self, tenure: Tenure) -> None:
        """Take turns until the end, or until partitions are lost."""
        self._tell_what_is_held()
        self._until_it_works(tenure.recover)
        while not self._is_stopping.is_set():
            if not tenure.is_safe():
                self._wait_for_renewal(tenure)
                continue
            self._until_it_works(lambda: self._serve_once(tenure))

    def _until_it_works(self, work: Callable[[], object]) -> None:
        while not self._is_stopping.is_set():
            try:
                work()
            except Fenced:
                raise
            except Exception as error:  # noqa: BLE001 - a bug must not end the service
                self._complain(error)
            else:
                self._pause = _FIRST_PAUSE
                return

    def _serve_once(self, tenure: Tenure) -> None:
        tenure.balance()
        self._tell_what_is_held()
        tenure.tend()
        looks = tenure.is_time_to_look(self._inbox_period)
        has_fired = tenure.fire(looks=looks)
        began = time.monotonic()
        is_busy = tenure.turn(look_into_inbox=looks or has_fired)
        if is_busy and self._on_turn is not None:
            self._on_turn(time.monotonic() - began)
        # A turn that had something to do may be the last for now as well: none is taken to find that there is nothing.
        if has_fired or tenure.is_recovering or (tenure.turn.leaves_work if is_busy else tenure.turn.has_more):
            return
        until_next = tenure.pause_until_next()
        if is_busy and until_next == timedelta(0):
            return
        tenure.reports.wait(self._longest_wait if until_next is None else min(self._longest_wait, until_next))

    def _tell_what_is_held(self) -> None:
        held = self.partitions_held
        if held == self._told_held:
            return
        self._told_held = held
        if held:
            logger.info("holding %d partition(s) of namespace %s", held, self._namespace)
        else:
            logger.info("waiting for a share of the partitions of namespace %s", self._namespace)

    @property
    def _inbox_period(self) -> timedelta:
        return FILE_INBOX_PERIOD if self._leases.lease_time is None else SERVER_INBOX_PERIOD

    @property
    def _longest_wait(self) -> timedelta:
        return self._inbox_period if self._leases.lease_time is None else timedelta(seconds=BALANCE_PERIOD)

    def _wait_for_renewal(self, tenure: Tenure) -> None:
        logger.warning("the lease could not be renewed in time: nothing is taken until it is")
        while not tenure.is_safe() and not self._is_stopping.is_set():
            try:
                tenure.renew()
            except Unreachable as error:
                self._complain(error)

    def _go_on_without(self, error: Fenced) -> None:
        if self._tenure is None:  # stopped, and did not wait for this turn
            return
        try:
            self.lose(error)
        except Fenced:
            # A bug, which must not keep the processor busy.
            self._complain(error)
        self._told_held = None

    def _record_the_last(self, tenure: Tenure) -> None:
        """Record what workers reported before they stopped."""
        until = time.monotonic() + _LAST_TURNS
        try:
            while tenure.is_safe() and tenure.turn(look_into_inbox=False) and time.monotonic() < until:
                pass
        except Exception as error:  # noqa: BLE001 - it is found in the database by the next coordinator
            logger.warning("the last reports are not recorded, their steps run again: %s", error)

    def _complain(self, error: Exception) -> None:
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_PAUSE)
        if isinstance(error, Unreachable):
            logger.warning("%s; nothing is lost, trying again in %.1f s", error, pause)
        else:
            # A bug must not end the service: nothing was committed, the same work is taken again.
            logger.error("a turn failed; please report this. Trying again in %.1f s", pause, exc_info=error)
            if self._tenure is not None:
                self._tenure.forget()
        if self._tenure is not None:
            self._tenure.look_again()
        self._is_stopping.wait(pause)
