"""What a coordinator has while it holds a lease: the clock, the reports, the turn; gone when the lease is gone.

    standing by ── acquire ──► tenure: recover, then turns ── everything lost ──► standing by

Its partitions change while it serves, between two turns:

    adopt     tell the broker the new epochs, before anything else; then read the reports from the start of their streams,
              take turns, and look, one partition at a time, for what the holder before left behind
    give up   drop the runs from memory, read the reports no longer; then give the partitions back, so that nobody has
              them before that
    lose      as give up, but they are somebody else's already; what the turn had begun is undone by the fence

An adoption or a giving back whose answer was lost is mended by the next balance: the database alone knows whose they are.

The holder counts on its own monotonic clock, from before it sent the last renewal, and takes nothing after two thirds of
the lease time: so it has stopped before anybody can take over, however the clocks of machines stand. A turn that is
under way then is refused by the fence.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta

from dramaturg_coordinator.audit import Audit
from dramaturg_coordinator.clocks import DatabaseClock
from dramaturg_coordinator.limit_audit import LimitAudit
from dramaturg_coordinator.live import Builder, LiveRuns
from dramaturg_coordinator.local_steps import LocalSteps, NoLocalExecutor
from dramaturg_coordinator.parking import Parking
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
from dramaturg_coordinator.quarantine import Quarantine
from dramaturg_coordinator.reconcile import Reconciler
from dramaturg_coordinator.rules import Rules
from dramaturg_coordinator.schedules import Firer, OnFired
from dramaturg_coordinator.stager import Stager
from dramaturg_coordinator.timers import Timers
from dramaturg_coordinator.troubles import Troubles
from dramaturg_coordinator.turn import Observer, Turn
from dramaturg_coordinator.watchdog import Watchdog
from dramaturg_protocol.faults import Fenced
from dramaturg_protocol.records import Lease, WorkKind
from dramaturg_protocol.redis_client import SETTLE_SECONDS

logger = logging.getLogger("dramaturg.coordinator")

#: How often it is looked whether the broker was emptied, and whether single messages were lost.
LOSS_PERIOD, SWEEP_PERIOD = 1.0, 30.0
#: How often it is looked which other coordinators are there.
PEERS_PERIOD = 1.0
#: How often a coordinator that shares its partitions looks whether it has its share, in seconds.
BALANCE_PERIOD = 0.5


class Tenure:
    """A lease, held.

    Parameters:
      clock: instead of the database's time.
      peers: the other coordinators; ``None`` where there can be none.
      only: advance these runs only, and those that they start: the set grows.
      local: runs local steps; ``None`` where nobody does.
      schedules: begin runs by themselves; ``None`` where nobody fires them.
      on_fired: is told what schedules did.
      postponed: what is sent to runs later; ``None`` where nobody looks after that.
      monotonic: the clock of this machine, in seconds.
    """

    def __init__(
        self,
        *,
        namespace: str,
        lease: Lease,
        leases: Leases,
        clock: Clock | None,
        store: Store,
        inbox: Inbox,
        reports: Reports,
        publisher: Publisher,
        rules: Rules,
        watchdog: Watchdog,
        peers: Peers | None,
        only: set[str] | None,
        observers: Sequence[Observer],
        local: LocalExecutor | None = None,
        schedules: Schedules | None = None,
        on_fired: OnFired | None = None,
        postponed: Postponed | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lease = lease
        self.reports = reports
        self._leases = leases
        self._store = store
        self._publisher = publisher
        self._monotonic = monotonic
        self._renewed_at = monotonic()
        self.clock: Clock = clock or DatabaseClock(leases.renew(lease))
        self.runs = LiveRuns()
        self.timers = Timers(store)
        self.local = LocalSteps(local or NoLocalExecutor(), reports.wake)
        self._parking = Parking(peers, lease.epochs)
        self._quarantine = Quarantine(peers)
        # Who advances some runs only is not there for schedules.
        self._firer = None
        if schedules is not None and only is None:
            self._firer = Firer(
                schedules,
                namespace=namespace,
                lease=lease,
                clock=self.clock,
                registry=rules.registry,
                on_fired=on_fired,
                monotonic=monotonic,
            )
        self._stager = None if postponed is None else Stager(postponed, lease=lease, clock=self.clock)
        follow = [each.committed for each in (self._firer, self._stager) if each is not None]
        self.turn = Turn(
            namespace=namespace,
            lease=lease,
            clock=self.clock,
            store=store,
            inbox=inbox,
            reports=reports,
            publisher=publisher,
            rules=rules,
            builder=Builder(rules, watchdog, self._quarantine),
            runs=self.runs,
            timers=self.timers,
            local=self.local,
            monotonic=monotonic,
            parking=self._parking,
            only=only,
            observers=[*observers, *follow],
        )
        self._reconciler = Reconciler(
            clock=self.clock,
            store=store,
            publisher=publisher,
            reports=reports,
            take_turn=self.turn,
            is_ours=lambda run_id: only is None or run_id in only,
            send=inbox.put,
        )
        self._audit = Audit(
            store,
            lambda: self.lease.epochs,
            mend=self.turn.agenda.mend,
            is_ours=lambda run_id: only is None or run_id in only,
        )
        self._limit_audit = LimitAudit(
            store,
            self.clock,
            self.turn.limits,
            lambda: self.lease,
            mend=self.turn.agenda.mend,
            is_ours=lambda run_id: only is None or run_id in only,
        )
        self._looked_at = monotonic()
        self._sweep_due = self._looked_at + SWEEP_PERIOD
        self._was_emptied = False
        self._looked_at_peers_at = self._looked_at
        self._looked_into_inbox_at = 0.0
        self._balanced_at = monotonic()
        self._is_new = True
        self._to_recover = deque(sorted(lease.epochs))

    @property
    def is_recovering(self) -> bool:
        """Whether there are partitions that were not looked through yet."""
        return bool(self._to_recover)

    def recover(self) -> None:
        """Take up what coordinators before this one left behind, in all partitions that are new here."""
        if self._is_new:
            self._quarantine.look()
            self._parking.begin(self.lease.epochs.keys())
            self._look_for_loss()
            # Before anything else: the holder before us may wake up at any moment, with something in its hand.
            self._publisher.publish((), self.lease)
            self._is_new = False
        while self._to_recover:
            self._recover_next()

    def balance(self) -> None:
        """Now and then: adopt what is free of our share, give up what others have a right to.

        Raises:
          Fenced: some partitions are lost.
          Unreachable: the database or the broker does not answer.
        """
        now = self._monotonic()
        if now - self._balanced_at < BALANCE_PERIOD:
            return
        self._balanced_at = now
        change = self._leases.balance(self.lease)
        if change.surplus:
            self.give_up(change.surplus)
        if change.gained:
            self.adopt(change.gained)

    def adopt(self, epochs: Mapping[int, int]) -> None:
        """Advance the runs of these partitions too; those of the others go on meanwhile."""
        self._publisher.publish((), Lease(self.lease.owner, dict(epochs)))
        self._hold(self.lease.along_with(epochs))
        self._to_recover.extend(sorted(epochs))
        self._parking.begin(epochs.keys())

    def give_up(self, partitions: Collection[int]) -> None:
        """Forget the runs of these partitions, without a trace, and give them back."""
        before = self.lease
        self._hold(before.without(partitions))
        self._leases.give_up(before, partitions)

    def lose(self, partitions: Collection[int]) -> bool:
        """Forget the runs of these partitions, which others have; whether any of them was ours."""
        before = self.lease
        self._hold(before.without(partitions))
        return self.lease != before

    def tend(self) -> None:
        """Between turns: look through a partition that is new here, see who else is there, publish what was lost."""
        self._look_at_peers()
        if self._to_recover:
            self._recover_next()
        if not self._publisher.can_lose:
            return
        now = self._monotonic()
        if self.turn.outbox.needs_sweep:
            self._sweep()
        if now - self._looked_at < LOSS_PERIOD:
            return
        self._looked_at = now
        self.reports.look_for_loss()
        if self._look_for_loss():
            self._publisher.publish((), self.lease)
        if now >= self._sweep_due:
            self._sweep_due = now + SWEEP_PERIOD
            self._sweep(gives_up=not self._was_emptied, was_emptied=self._was_emptied)
            self._was_emptied = False

    def _sweep(self, *, gives_up: bool = False, was_emptied: bool = False) -> None:
        self.turn.outbox.needs_sweep = False
        try:
            self._reconciler.sweep(self.lease, gives_up=gives_up, was_emptied=was_emptied)
        except BaseException:
            self.turn.outbox.needs_sweep = True
            raise

    def _look_for_loss(self) -> bool:
        """Whether the broker was emptied; it is swept as soon as all workers know of it."""
        if not self._publisher.is_emptied():
            return False
        logger.warning("the broker is empty: the steps that are open are published again in %g s", SETTLE_SECONDS)
        self._sweep_due = self._monotonic() + SETTLE_SECONDS
        # What it lost by itself was taken by nobody.
        self._was_emptied = True
        return True

    @property
    def troubles(self) -> Troubles:
        """What does not get on in the partitions that are held."""
        unreported = self._reconciler.unreported_in(self.lease.epochs)
        return Troubles(self._audit.stuck, len(self._parking), unreported, self._limit_audit.found)

    def _look_at_peers(self) -> None:
        now = self._monotonic()
        if now - self._looked_at_peers_at >= PEERS_PERIOD:
            self._looked_at_peers_at = now
            self._quarantine.look()
            self.turn.look_at_parked()
            self._audit.look()
            self._limit_audit.look()

    def renew(self) -> None:
        """Go on holding the lease; from any thread.

        Raises:
          Fenced: some partitions are lost; the lease of the others is renewed.
          Unreachable: the database does not answer.
        """
        lease, sent_at = self.lease, self._monotonic()
        try:
            database_time = self._leases.renew(lease)
        except Fenced as fenced:
            if not fenced.partitions.issuperset(lease.epochs):
                self._renewed_at = sent_at
            # What the other thread gave up meanwhile is not lost.
            lost = [number for number in fenced.partitions if self.lease.epochs.get(number) == lease.epochs.get(number)]
            if lost:
                raise Fenced(lost) from fenced
            return
        self._renewed_at = sent_at
        if isinstance(self.clock, DatabaseClock):
            self.clock.sample(database_time)

    def is_safe(self) -> bool:
        """Whether nobody can have taken over yet."""
        lease_time = self._leases.lease_time
        return lease_time is None or self._monotonic() - self._renewed_at < lease_time.total_seconds() * 2 / 3

    def is_time_to_look(self, period: timedelta) -> bool:
        """Whether this turn looks into the inbox: after a wake-up, while there is more, and once a period."""
        now = self._monotonic()
        is_time = now - self._looked_into_inbox_at >= period.total_seconds()
        if not (self.reports.take_wake() or self.turn.has_more or is_time):
            return False
        self._looked_into_inbox_at = now
        return True

    def look_again(self) -> None:
        """Look into the inbox in the next turn: the last one failed."""
        self._looked_into_inbox_at = 0.0

    def forget(self) -> None:
        """Drop what is in memory; all of it is read again."""
        self.runs.drop_all()
        self.timers.forget()

    def fire(self, *, looks: bool) -> bool:
        """Fire the schedules that are due, and send what was put off; whether there was any. Raises as a turn."""
        has_fired = self._firer is not None and self._firer.fire(looks=looks)
        has_sent = self._stager is not None and self._stager.send(looks=looks)
        return has_fired or has_sent

    def pause_until_next(self) -> timedelta | None:
        """How long until the next timer, schedule or message; ``None`` where none is near."""
        now = self.clock.now()
        fires_at = None if self._firer is None else self._firer.next_due
        sends_at = None if self._stager is None else self._stager.next_due
        moments = (self.timers.next_due(), self.turn.limits.next_due(now), fires_at, sends_at)
        due = min((at for at in moments if at is not None), default=None)
        return None if due is None else max(due - now, timedelta(0))

    def close(self) -> None:
        """Forget all runs, without a trace."""
        self.local.give_up()
        self.runs.drop_all()
        self.reports.close()

    def _hold(self, lease: Lease) -> None:
        before, self.lease = self.lease, lease
        self.turn.hold(lease)
        if self._firer is not None:
            self._firer.hold(lease)
        if self._stager is not None:
            self._stager.hold(lease)
        self.reports.attend(lease.epochs)
        self._to_recover = deque(
            number for number in self._to_recover if before.epochs.get(number) == lease.epochs.get(number)
        )

    def _recover_next(self) -> None:
        number = self._to_recover[0]
        self._reconciler.sweep(self.lease.of([number]))
        # Blocked runs may fit the code that is registered here.
        self.turn.agenda.try_again(self._store.runs_with_status([number], "BLOCKED"), number)
        self.turn.agenda.begin_again(self._store.sent_work([number], WorkKind.LOCAL))
        self._to_recover.popleft()
