"""The turn: take what has arrived, advance the runs that it touches, commit, publish, acknowledge.

In this order, whatever happens in between:

- a crash before the commit: nothing happened; everything taken is still there and is taken again;
- a crash after it: requests are gone with the commit, reports are taken again and change nothing, messages that were
  not published are found in the open work;
- a commit whose outcome is not known: the runs are dropped from memory and everything is taken again; what the store
  has already makes the messages late, and late messages change nothing. What was to be published is looked for in the
  open work: it is there if the commit succeeded;
- a publish that failed: some may have been sent, and done since. Where the broker can be asked, a sweep finds out which
  are nowhere before anything is sent again; elsewhere the next turn publishes again, whatever else it has to do.

If the database refuses the data of a turn, its runs are committed in halves, down to the one that it refuses. That run
is blocked, its messages are put aside, all others go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime

from dramaturg_coordinator.advance import Advance
from dramaturg_coordinator.advancing import Advancing
from dramaturg_coordinator.agenda import Agenda
from dramaturg_coordinator.batch import ALWAYS, Batch, Held
from dramaturg_coordinator.family import is_started_by
from dramaturg_coordinator.letters import Letters
from dramaturg_coordinator.limits import FOR_LIMITS, Limits
from dramaturg_coordinator.live import Builder, LiveRuns
from dramaturg_coordinator.loading import Loader
from dramaturg_coordinator.local_steps import LocalSteps
from dramaturg_coordinator.outbox import Outbox
from dramaturg_coordinator.own_messages import Message
from dramaturg_coordinator.parking import Parking
from dramaturg_coordinator.ports import Clock, Inbox, Publisher, Reports, Store
from dramaturg_coordinator.pressure import Pressure
from dramaturg_coordinator.rules import Rules
from dramaturg_coordinator.timers import Timers
from dramaturg_coordinator.window import Window
from dramaturg_protocol import events as e
from dramaturg_protocol.faults import Fenced, Refused
from dramaturg_protocol.messages import Request
from dramaturg_protocol.records import DeadLetter, Lease, RunWrites

logger = logging.getLogger("dramaturg.coordinator")

#: How many messages of each kind one turn takes.
BATCH = 500

Observer = Callable[[Sequence[RunWrites]], None]


class Turn:
    """Takes turns, for the partitions of a lease.

    Parameters:
      parking: which runs are left to other code.
      only: advance these runs only, and those that they start: the set grows; ``None`` for all.
      local: runs local steps.
      observers: are told what was committed.
      monotonic: the clock of this machine, in seconds; bounds how long a turn waits for local steps.

    Attributes:
      has_more: the inbox holds more: what one turn did not take, or what a run sent another.
      outbox: what goes out after a commit.
      agenda: what the coordinator tells its own runs in a turn to come.
      limits: what is granted, and who waits.
    """

    def __init__(
        self,
        *,
        namespace: str,
        lease: Lease,
        clock: Clock,
        store: Store,
        inbox: Inbox,
        reports: Reports,
        publisher: Publisher,
        rules: Rules,
        builder: Builder,
        runs: LiveRuns,
        timers: Timers,
        local: LocalSteps,
        parking: Parking,
        only: set[str] | None = None,
        observers: Iterable[Observer] = (),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lease = lease
        self._clock = clock
        self._store = store
        self._inbox = inbox
        self._reports = reports
        self._rules = rules
        self._runs = runs
        self._timers = timers
        self._local = local
        self._parking = parking
        self._only = only
        self._observers = list(observers)
        self._held = Held()
        self._loader = Loader(store, runs, self._held)
        self._letters = Letters(store, self._held)
        self._window = Window(store)
        self.limits = Limits(store, rules.partition_of, lambda run_id: only is None or run_id in only)
        self._pressure = Pressure(monotonic)
        self.agenda = Agenda()
        self.outbox = Outbox(store, publisher, local, lease)
        self.has_more = False
        self._advancing = Advancing(
            namespace=namespace,
            clock=clock,
            rules=rules,
            builder=builder,
            runs=runs,
            loader=self._loader,
            held=self._held,
            local=local,
            parking=parking,
            limits=self.limits,
            agenda=self.agenda,
            monotonic=monotonic,
        )

    def __call__(self, *, look_into_inbox: bool = True) -> bool:
        """Take one turn; gives whether there was anything to do.

        Raises:
          Fenced: some partitions are lost: `hold` the others and take another turn.
          Unreachable: the database or the broker does not answer; nothing is lost, take another turn later.
        """
        now = self._clock.now()
        batch = self.take(now, look_into_inbox=look_into_inbox)
        if batch:
            try:
                advances = self.advance(batch, now)
                self.commit(advances, batch, now)
            except BaseException:
                self._undo(batch)
                raise
        self.outbox.send()
        self.acknowledge(batch)
        # In this order: with nobody looking any more, whoever reports wakes the coordinator.
        return not self._local.rest() or bool(batch)

    def take(self, now: datetime, *, look_into_inbox: bool = True) -> Batch:
        """What has arrived: requests, reports, what is due."""
        batch = Batch()
        partitions = self._lease.epochs.keys()
        self.outbox.resolve_doubts(partitions)
        self._window.follow(self._lease.epochs)
        self.limits.follow(self._lease.epochs, now)
        self._timers.load(partitions, now)
        if look_into_inbox:
            requests = self._loader.addressed(self._requests(partitions, now))
            for request in requests:
                if request.kind in FOR_LIMITS:
                    batch.asked.append(request)
                else:
                    self._add(batch, request.run_id, request.partition, request)
        reports = self._reports.take(BATCH)
        batch.reports = len(reports)
        for report in reports:
            if isinstance(report, DeadLetter):
                batch.letters.append(report)
            else:
                self._add(batch, report.run_id, report.partition, report)
        for report in self._local.take():
            self._add(batch, report.run_id, report.partition, report)
        self._take_own(batch, now)
        for item in self._timers.take(now, BATCH):
            self._add(batch, item.run_id, item.partition, item)
        return batch

    def advance(self, batch: Batch, now: datetime) -> list[Advance]:
        """Apply the messages to their runs."""
        self._loader.load(batch, self._lease.epochs, now)
        lasting = self._advancing(batch, now)
        for advance in lasting:
            advance.publishes = self._window.admit(advance.writes, advance.publishes)
        return lasting

    def commit(self, advances: Sequence[Advance], batch: Batch, now: datetime) -> None:
        """Write what happened, in one transaction where the database takes it."""
        self._letters.put_aside(batch, self._lease, now)
        if batch.for_others:
            self._inbox.put(batch.for_others)
        self._parking.show()
        self.outbox.prepare(advances)
        if advances:
            self._commit_or_split(list(advances), batch, now)
        self._commit_limits(batch, now)

    def acknowledge(self, batch: Batch) -> None:
        """Forget what is recorded."""
        if batch.reports:
            self._reports.acknowledge(batch.reports)
        self._letters.forget()
        self._window.turned()
        self.limits.turned()
        self._pressure.note(
            has_more_reports=batch.reports >= BATCH, runs=len(batch.messages), loaded=self._loader.take_count()
        )
        if self._rules.replay_every_turn:
            self._runs.drop_all()
        self._runs.shrink()

    @property
    def leaves_work(self) -> bool:
        """Whether this turn left something to the next one, so that nobody is to wait until something arrives."""
        return (
            self.has_more
            or bool(self.agenda)
            or self._window.may_call
            or self.limits.may_call
            # In this order: with nobody looking any more, whoever reports wakes the coordinator.
            or not self._local.rest()
        )

    def look_at_parked(self) -> None:
        """Try parked runs again, where others than before are there."""
        for run_id in self._parking.look():
            self._held.release(run_id)
            self._timers.forget()
            self._window.forget()
            self.limits.forget()
            self.has_more = True
        if not self._parking:
            self.agenda.begin_left()

    def hold(self, lease: Lease) -> None:
        """Go on with these partitions; what is in memory of others is dropped, without a trace."""
        gone = {number for number, epoch in self._lease.epochs.items() if lease.epochs.get(number) != epoch}
        self._lease = lease
        self._runs.drop_in(gone)
        self._timers.forget()
        self._held.clear()
        self._local.give_up(gone)
        self.agenda.hold(gone)
        self.outbox.hold(lease, gone)
        self._parking.hold(lease.epochs)

    # Parts.

    def _requests(self, partitions: Collection[int], now: datetime) -> Sequence[Request]:
        most = self._pressure.most_starts(BATCH)
        requests = self._inbox.take(partitions, most or BATCH, self._held.now(now), starts=most > 0)
        # Starts that wait for quieter times rang when they came: nobody rings for them again.
        self.has_more = len(requests) >= most
        return requests

    def _take_own(self, batch: Batch, now: datetime) -> None:
        """The messages of this coordinator to itself."""
        granted, batch.limits = self.limits.call(BATCH, now)
        for grant in granted:
            self._add(batch, grant.ticket.run_id, grant.partition, grant)
        for each in self._window.call(BATCH):
            self._add(batch, each.run_id, each.partition, each)
        for run_id, partition, message in self.agenda.take(BATCH):
            self._add(batch, run_id, partition, message)

    def _add(self, batch: Batch, run_id: str, partition: int, message: Message) -> None:
        if self._only is None or run_id in self._only or is_started_by(self._only, message):
            batch.add(run_id, partition, message)
        elif isinstance(message, Request):
            self._held.add(run_id, [message.arrival], ALWAYS)

    def _commit_or_split(self, advances: list[Advance], batch: Batch, now: datetime) -> None:
        try:
            self._store.commit([advance.writes for advance in advances], self._lease, now)
        except Refused as refused:
            if len(advances) > 1:
                middle = len(advances) // 2
                self._commit_or_split(advances[:middle], batch, now)
                self._commit_or_split(advances[middle:], batch, now)
            else:
                self._refuse(advances[0], batch, now, refused)
        except Fenced:
            raise
        except BaseException:
            # It may be written all the same.
            self.outbox.doubt(advances)
            raise
        else:
            self._committed(advances)

    def _commit_limits(self, batch: Batch, now: datetime) -> None:
        """What is between limits here and runs elsewhere, in a transaction of its own."""
        writes = [*batch.limits, *self.limits.take(batch.asked, now)]
        if not writes:
            return
        self._store.commit(writes, self._lease, now)
        for each in writes:
            self.limits.committed(each)
            self.has_more = self.has_more or bool(each.sends)
        self._tell(writes)

    def _committed(self, advances: Sequence[Advance]) -> None:
        """What follows from a commit, whatever becomes of the rest of the turn."""
        writes = [advance.writes for advance in advances]
        for each in writes:
            self._timers.note(each.work)
            self._window.committed(each)
            self.limits.committed(each)
            self._held.forget(each.run_id, each.arrivals)
            # What had happened so far was not enough for what waits in the inbox; more has happened now.
            has_released = bool(each.events) and self._held.release(each.run_id)
            self.has_more = self.has_more or bool(each.sends) or has_released
            run = self._runs.get(each.run_id)
            if run is not None:
                self._local.committed(run.state)
            if each.is_closed or (run is not None and run.state.number == 0):
                self._runs.drop([each.run_id])
        for advance in advances:
            self.outbox.committed(advance)
        self._tell(writes)

    def _tell(self, writes: Sequence[RunWrites]) -> None:
        for observer in self._observers:
            try:
                observer(writes)
            except Exception:
                logger.exception("an observer failed")

    def _refuse(self, advance: Advance, batch: Batch, now: datetime, refused: Refused) -> None:
        run_id = advance.writes.run_id
        logger.error("the database refuses what run %s is to record: %s", run_id, refused)
        blocked = e.RunBlocked("refused", f"the database refuses what this run is to record: {refused}"[:2000])
        reason = f"the database refuses it: {refused}"[:2000]
        messages = batch.messages[run_id]
        for each in (blocked, None):
            instead = self._advancing.set_aside(run_id, messages, batch, now, reason, each)
            try:
                self._store.commit([instead.writes], self._lease, now)
            except Refused as again:
                logger.error("the database refuses even that run %s is blocked: %s", run_id, again)
            else:
                self._committed([instead])
                return
        self._runs.drop([run_id])
        self._held.add(run_id, [each.arrival for each in messages if isinstance(each, Request)], ALWAYS)

    def _undo(self, batch: Batch) -> None:
        """A turn that did not commit, or may not have: the store alone knows what is true."""
        self._runs.drop(batch.messages)
        self._timers.forget()
        self._window.forget()
        self.limits.forget()
        self._local.not_committed(batch.messages)
        for run_id, messages in batch.messages.items():
            self.agenda.not_committed(run_id, batch.partitions[run_id], messages)
