"""Advance the runs of a batch, each by itself: one that fails, or that is left to other code, touches no other."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial

from dramaturg_coordinator.advance import Advance
from dramaturg_coordinator.agenda import Agenda
from dramaturg_coordinator.batch import ALWAYS, Batch, Held
from dramaturg_coordinator.limits import Limits
from dramaturg_coordinator.live import Builder, LiveRun, LiveRuns
from dramaturg_coordinator.loading import Loader
from dramaturg_coordinator.local_steps import SLICE, LocalSteps
from dramaturg_coordinator.own_messages import Message
from dramaturg_coordinator.parking import Parked, Parking, as_request
from dramaturg_coordinator.ports import Clock
from dramaturg_coordinator.rules import Rules
from dramaturg_protocol import events as e
from dramaturg_protocol.faults import Fault
from dramaturg_protocol.messages import Request, StepReport

logger = logging.getLogger("dramaturg.coordinator")


class Advancing:
    """Applies messages to runs in memory.

    Parameters:
      parking: which runs are left to other code.
      local: runs local steps.
      limits: lets attempts begin.
      agenda: keeps what a run that is left to other code was to be told.
      monotonic: the clock of this machine, in seconds; bounds how long a turn waits for local steps.
    """

    def __init__(
        self,
        *,
        namespace: str,
        clock: Clock,
        rules: Rules,
        builder: Builder,
        runs: LiveRuns,
        loader: Loader,
        held: Held,
        local: LocalSteps,
        parking: Parking,
        limits: Limits,
        agenda: Agenda,
        monotonic: Callable[[], float],
    ) -> None:
        self._namespace = namespace
        self._clock = clock
        self._rules = rules
        self._builder = builder
        self._runs = runs
        self._loader = loader
        self._held = held
        self._local = local
        self._parking = parking
        self._limits = limits
        self._agenda = agenda
        self._monotonic = monotonic

    def __call__(self, batch: Batch, now: datetime) -> list[Advance]:
        """Apply a batch to its runs, which are in memory; gives those of which there is something to write."""
        going: dict[str, Advance] = {}
        for run_id, messages in list(batch.messages.items()):
            run = self._runs.get(run_id)
            assert run is not None
            advance = self._new(run, now)
            going[run_id] = self._with(advance, partial(advance.take_all, messages), batch, now)
        self._go_on(going, batch)
        advances = [self._with(advance, advance.finish, batch, now) for advance in going.values()]
        for advance in advances:
            self._held.add(advance.writes.run_id, advance.later, ALWAYS)
        return [advance for advance in advances if not advance.is_parked]

    def set_aside(
        self,
        run_id: str,
        messages: Sequence[Message],
        batch: Batch,
        now: datetime,
        reason: str,
        blocked: e.RunBlocked | None,
    ) -> Advance:
        """Start over with a run: its messages become dead letters, and it is blocked if that is given.

        What is due stays in the open work and comes again.
        """
        advance = self._new(self._loader.reload(run_id, batch.partitions[run_id]), now)
        for message in messages:
            if isinstance(message, Request | StepReport):
                advance.put_aside(message, reason)
        if blocked is not None:
            advance.block(blocked)
        advance.finish()
        return advance

    def _go_on(self, going: dict[str, Advance], batch: Batch) -> None:
        """Let the runs go on with the results of their local steps, for some milliseconds, before all is committed.

        A step that is not so quick is left under way: its outcome comes in a later turn.
        """
        self._begin_local(going.values())
        until = self._monotonic() + SLICE
        while (reports := self._local.wait(until - self._monotonic(), going)) is not None:
            now = self._clock.now()
            touched: dict[str, Advance] = {}
            for report in reports:
                run_id = report.run_id
                batch.add(run_id, report.partition, report)
                advance = going[run_id]
                advance = self._with(advance, partial(advance.go_on, report, now), batch, now)
                going[run_id] = touched[run_id] = advance
            self._begin_local(touched.values())

    def _begin_local(self, advances: Iterable[Advance]) -> None:
        for advance in advances:
            for task in advance.take_local():
                self._local.begin(task)

    def _with(self, advance: Advance, work: Callable[[], None], batch: Batch, now: datetime) -> Advance:
        """Go on with a run's advance; the one that is left where that fails."""
        if advance.is_finished:
            return advance
        run_id = advance.writes.run_id
        try:
            work()
        except Fault:
            raise
        except Parked as parked:
            advance.leave()
            self._park(run_id, batch, parked)
        except Exception:
            logger.exception("run %s could not be advanced; its messages are put aside", run_id)
            return self.set_aside(run_id, batch.messages[run_id], batch, now, traceback.format_exc(limit=-8), None)
        return advance

    def _park(self, run_id: str, batch: Batch, parked: Parked) -> None:
        """Leave a run as it is stored; what came for it waits in the inbox and the open work."""
        messages = batch.messages[run_id]
        self._runs.drop([run_id])
        self._held.add(run_id, [message.arrival for message in messages if isinstance(message, Request)], ALWAYS)
        self._agenda.leave(messages)
        batch.for_others.extend(as_request(message) for message in messages if isinstance(message, StepReport))
        self._parking.add(run_id, batch.partitions[run_id], parked)

    def _new(self, run: LiveRun, now: datetime) -> Advance:
        return Advance(
            run,
            namespace=self._namespace,
            rules=self._rules,
            builder=self._builder,
            parking=self._parking,
            read_history=self._loader.read_history,
            claim_id=self._loader.claim_id,
            limits=self._limits,
            read_kept=self._loader.kept_results,
            now=now,
        )
