"""One run, one turn: messages in, events and work out. Nothing leaves this object before the turn commits it."""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cached_property

from dramaturg_coordinator.clocks import no_earlier
from dramaturg_coordinator.core import decide, history_limits, tries
from dramaturg_coordinator.core.commands import Command
from dramaturg_coordinator.core.dead_letters import ABOUT_LETTERS, closed_by, letters_of
from dramaturg_coordinator.core.evolve import evolve, fold, is_void
from dramaturg_coordinator.core.forks import fork_of
from dramaturg_coordinator.core.refusal import Refusal
from dramaturg_coordinator.core.revoking import endangered_by, revoked_by_life, revoked_of
from dramaturg_coordinator.core.states import CLOSED, CLOSING, RunPhase
from dramaturg_coordinator.family import ClaimId, Family
from dramaturg_coordinator.limits import Granted, Limits
from dramaturg_coordinator.listeners import starts_for
from dramaturg_coordinator.live import Builder, LiveRun
from dramaturg_coordinator.open_rows import OpenRows
from dramaturg_coordinator.own_messages import CutOff, Mend, Message, TryAgain, letter_about
from dramaturg_coordinator.parking import Parking
from dramaturg_coordinator.reception import Reception
from dramaturg_coordinator.reuse import ReadKept, Reuse
from dramaturg_coordinator.rules import Rules
from dramaturg_coordinator.run_code import ReadHistory, RunCode
from dramaturg_coordinator.run_limits import RunLimits
from dramaturg_coordinator.run_record import record_of
from dramaturg_coordinator.window import Admitted
from dramaturg_protocol import events as e
from dramaturg_protocol.messages import Request, StepReport, StepTask
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import RunWrites, WorkItem, WorkKind
from dramaturg_protocol.request_bodies import StartBody

logger = logging.getLogger("dramaturg.coordinator")


_CLOSING = e.kinds_of(*CLOSING)


class Advance:
    """What a turn does to one run.

    Parameters:
      parking: whether a run is left to other code.
      read_history: the stored history of a run, for one whose code is needed and not in memory.
      claim_id: claims a workflow id for a child.
      limits: lets attempts begin.
      read_kept: results that steps gave before.

    Attributes:
      writes: what the turn commits.
      publishes: what it sends after that.
      begins: local steps that begin after that.
      is_finished: nothing more is taken.
      is_parked: it is left to other code, and there is nothing to write.
    """

    def __init__(
        self,
        run: LiveRun,
        *,
        namespace: str,
        rules: Rules,
        builder: Builder,
        parking: Parking,
        read_history: ReadHistory,
        claim_id: ClaimId,
        limits: Limits,
        read_kept: ReadKept,
        now: datetime,
    ) -> None:
        self._run = run
        self._namespace = namespace
        self._rules = rules
        self._parking = parking
        self._now = now
        self._was_new = run.state.phase is RunPhase.NEW
        self._number_before = run.state.number
        # Code that is in memory was let in.
        self._deadly = builder.deadly(run.state.run_id) if run.execution is None else None
        self.writes = RunWrites(run.state.run_id)
        self._limits = RunLimits(run, limits, self.writes, now)
        self._rows = OpenRows(run, rules, self._limits, begins_local=self._deadly is None)
        self._to_check: deque[int] = deque()
        self._reported: StepReport | None = None
        self._family = Family(run, rules, self.writes, claim_id)
        self._code = RunCode(run, builder, parking, read_history, self.writes.events)
        self._builder = builder
        self._read_kept = read_kept
        self.publishes = self._rows.publishes
        self.begins = self._rows.begins
        self.is_finished = self.is_parked = False

    @property
    def later(self) -> Sequence[int]:
        """Arrivals of requests that stay in the inbox until more has happened to the run."""
        return self._reception.later if "_reception" in self.__dict__ else ()

    # Made where they are needed: most turns of a run are about nothing but a step's outcome.

    @cached_property
    def _reception(self) -> Reception:
        return Reception(self._run, self._rules, self._code, self._builder, self._family, self.writes, self)

    @cached_property
    def _reuse(self) -> Reuse:
        return Reuse(self._run, self._rules, self.writes, self._read_kept, self._namespace, self._now)

    def take_all(self, messages: Iterable[Message]) -> None:
        """Apply messages, in order."""
        for message in messages:
            self.take(message)

    def take(self, message: Message) -> None:
        """Apply one message; `Parked` is raised where it needs code that is elsewhere."""
        match message:
            case Request():
                self._now = no_earlier(self._now, message.sent_at)
                self._reception.take(message, self._now)
            case StepReport():
                self._take_report(message)
            case WorkItem():
                self._take_due(message)
            case TryAgain():
                self._try_again()
            case CutOff():
                self._begin_again(message.item)
            case Mend():
                self._rows.mend()
                self.apply(self._limits.ask_again())
                self._family.ask_again()
            case Admitted():
                self._send_now(message)
            case Granted():
                self.take_grant(message)

    def go_on(self, report: StepReport, now: datetime) -> None:
        """Apply what became of a local step that began in this turn."""
        self._now = max(self._now, now)
        self._take_report(report)

    def take_local(self) -> list[StepTask]:
        """The local steps that may begin before the commit."""
        return self._rows.take_local()

    def leave(self) -> None:
        """Leave the run to other code: nothing that happened here counts."""
        self.is_finished = self.is_parked = True
        self.writes = RunWrites(self._run.state.run_id)
        self._rows.leave()

    def finish(self) -> None:
        """Turn what happened into rows."""
        if self.is_finished:
            return
        self.is_finished = True
        state = self._run.state
        for body in history_limits.due(state, self._number_before, self._rules.max_history):
            logger.warning("run %s: %s", state.run_id, getattr(body, "message", "") or getattr(body, "reason", ""))
            self._append(body)
        self._rows.write(self.writes)
        if self._run.execution is not None:
            self._run.waits = self._run.execution.scope.dialogue.waits()
        if self.writes.events or (self._limits.has_moved and not state.is_closed):
            self._note_letters()
            if self._rules.registry.listeners:
                new = self.writes.events[self.writes.copied :]
                self.writes.sends += starts_for(state, new, self._rules.registry, self._rules.partition_of)
            # What was read when the run was loaded ends before these: whoever needs the code next reads it again.
            self._run.history = None
            self.writes.is_new = self._was_new
            self.writes.is_closed = state.is_closed
            self.writes.record = record_of(state, self._namespace, self._now, self._run.waits, self._run.limited)

    def _note_letters(self) -> None:
        """What a person is to look at, and what is dealt with."""
        state, copied = self._run.state, self.writes.copied
        events = [event for event in self.writes.events[copied:] if type(event.body) in ABOUT_LETTERS]
        if not events:
            return
        self.writes.letters_closed.extend(closed_by(events))
        self.writes.dead_letters.extend(letters_of(state, events, self._now))

    def put_aside(self, message: Message, reason: str) -> None:
        """Keep a message that cannot be applied where an operator sees it."""
        if isinstance(message, Request):
            self.writes.arrivals.append(message.arrival)
        self.writes.dead_letters.append(letter_about(message, reason, self._run.state, self._now))

    def block(self, blocked: e.RunBlocked) -> None:
        """The run cannot go on with the code that is there."""
        self._run.drop_code()
        if self._run.state.phase is RunPhase.OPEN:
            self._append(blocked)

    # Messages.

    def _take_report(self, report: StepReport) -> None:
        state = self._run.state
        self.writes.revoked += revoked_by_life(state, report)
        step = state.steps.get(report.seq)
        if step is not None:
            self._rows.hear(step, report, self._now)
            self._reported = report
            options, has_begun = self._rows.options_of(report.seq), self._run.has_begun(step)
            self.apply(decide.on_report(state, report, options, self._now, has_begun=has_begun))
            self._reported = None

    def _take_due(self, item: WorkItem) -> None:
        state = self._run.state
        if item.kind is WorkKind.NEXT_TRY:
            if tries.is_due(state, self._now):
                self.apply((tries.again(state, self._code.history(), self._now),))
            return
        options = self._rows.options_of(item.seq) if item.seq in state.steps else None
        if item.kind is WorkKind.RETRY and decide.is_retry_due(state, item, options, self._now):
            self._begin_attempt(item.generation, item.seq)
            return
        if self._rows.is_begun_again(item.seq):
            return
        self.apply(decide.on_due(state, item, options, self._now, self._rows.sign_of(item.seq)))

    def _begin_again(self, item: WorkItem) -> None:
        if decide.is_cut_off(self._run.state, item):
            self._begin_attempt(item.generation, item.seq)

    def take_grant(self, grant: Granted | Request) -> None:
        """A limit lets executions through."""
        for generation, seq in self._limits.take(grant):
            self._begin_attempt(generation, seq)
        self.apply(self._limits.take_place(grant))

    def _begin_attempt(self, generation: int, seq: int) -> None:
        if self._deadly is not None and self._rows.options_of(seq).local:
            self.block(self._deadly)
        else:
            self._rows.begin_attempt(generation, seq)

    def _send_now(self, each: Admitted) -> None:
        if decide.is_to_send(self._run.state, each.generation, each.seq, each.attempt, self._now):
            self._rows.begin_attempt(each.generation, each.seq)

    def _try_again(self) -> None:
        state = self._run.state
        if state.phase is not RunPhase.BLOCKED:
            return
        commands = self._code.rebuild(self._code.history())
        if isinstance(commands, e.RunBlocked):
            self._still_blocked(commands)
            return
        execution = self._run.execution
        assert execution is not None
        version = execution.scope.info().version
        told = self._append(self._rules.unblocked(self._run.state, version))
        self._record(commands)
        self._tell(told)

    def _still_blocked(self, blocked: e.RunBlocked) -> None:
        before = self._run.state.blocked
        assert before is not None
        if self._parking.can_wait(blocked):
            return
        # What it asks for may differ each time, and so may the line in which it is stuck.
        is_elsewhere = blocked.event is not None and blocked.line != before.line
        if is_elsewhere or (before.reason, before.event) != (blocked.reason, blocked.event):
            self._append(_unrecorded(blocked) if before.unrecorded else blocked)

    # Events.

    def apply(self, bodies: Iterable[e.EventBody]) -> None:
        """Have these happen."""
        for body in bodies:
            match body:
                case e.RunRetried() | e.RunReset():
                    self._cut(body)
                case e.RunResumed():
                    self._resume(body)
                case _:
                    if isinstance(body, e.WAKES):
                        self.need_code()
                    self._tell(self._append(body))

    def _cut(self, body: e.RunRetried | e.RunReset) -> None:
        """Go on from an earlier point: the state is folded anew, the code is built anew."""
        run = self._run
        if run.state.is_closed:
            self._family.keep_id()
        before, children = run.state.open_keys, run.state.children
        self._rows.note_limits()
        event = e.HistoryEvent(run.state.number + 1, self._time_of_next(), body)
        history = (*self._code.history(), event)
        run.drop_code()
        endangered = endangered_by(run.state, body, None, self._now)
        run.state = fold(run.state.run_id, run.state.partition, history)
        self.writes.events.append(event)
        self.writes.revoked += revoked_of(run.state, endangered)
        self._family.cut(children, history)
        self._go_on_from(history, before, self._code.rebuild(history))

    def _go_on_from(
        self,
        history: Sequence[e.HistoryEvent],
        before: set[tuple[int, int]],
        commands: Sequence[Command] | e.RunBlocked,
    ) -> None:
        """Begin again what was open at the cut that ends a history, and record what the code asks for beyond it."""
        body = history[-1].body
        assert isinstance(body, e.Cut)
        self._rows.cut(before)
        self._limits.go_on()
        for seq, _ in body.again:
            self._rows.begin(seq)
        if isinstance(commands, e.RunBlocked):
            self._parking.refuse(commands)
            self.block(_unrecorded(commands))
            return
        self._record(commands)
        self._tell(())

    def fork(self, request: Request, body: StartBody) -> None:
        """Begin with what another run has recorded, and go on from there."""
        run = self._run
        assert body.fork is not None
        new = run.state
        history = fork_of(self._code.history_of(body.fork.run_id), body.fork, body, request, self._now)
        run.state = fold(new.run_id, new.partition, history)
        commands = self._code.rebuild(history)
        if isinstance(commands, e.RunBlocked) and commands.reason == "nondeterminism":
            run.drop_code()
            run.state = new
            raise Refusal(f"run {body.fork.run_id} cannot be forked there: {commands.message}")
        self.writes.copied = len(history) - 1
        self.writes.events.extend(history)
        self._family.cut({}, history)
        self._go_on_from(history, set(), commands)

    def _resume(self, body: e.RunResumed) -> None:
        """Go on with a paused run: its code has to stand where it stood before it is told what had arrived."""
        problem = self._code.build()
        told = self._append(body)
        if problem is not None:
            self.block(_unrecorded(problem))
        else:
            self._tell(told)

    def _tell(self, told: Sequence[e.HistoryEvent]) -> None:
        self._tell_each(told)
        # One after the other, each told before the next is recorded: a replay tells them in this order.
        while self._to_check:
            seq = self._to_check.popleft()
            for body in self._limits.at_once(seq) or self._reuse.at_once(seq, self._to_check):
                self._tell_each(self._append(body))

    def _tell_each(self, told: Sequence[e.HistoryEvent]) -> None:
        todo = deque(told)
        while todo and self._run.state.phase is RunPhase.OPEN:
            commands = self._code.tell(todo.popleft())
            if commands is None:
                return
            if isinstance(commands, e.RunBlocked):
                self.block(_unrecorded(commands))
                return
            self._record(commands)

    def _record(self, commands: Sequence[Command]) -> None:
        """Append what the code asked for."""
        state = self._run.state
        for command in commands:
            if state.is_closed or state.next_try is not None:
                break
            if is_void(state, command.body):
                continue
            self._append(self._tried_again(command.body))
            self._asked(command.body)
        if state.is_closed or state.next_try is not None:
            self._run.drop_code()

    def _asked(self, body: e.EventBody) -> None:
        """The code asked for this just now: what follows besides the event."""
        self._rows.asked(body)
        if isinstance(body, e.StepScheduled):
            if self._rows.options_of(body.seq).cache is not None:
                self._to_check.append(body.seq)
        elif isinstance(body, e.RunQueued):
            self._to_check.append(body.seq)
        elif isinstance(body, e.UpdateCompleted):
            self._reception.asked(body)
        else:
            self._family.asked(body)

    def _tried_again(self, body: e.EventBody) -> e.EventBody:
        """What is recorded of a run whose code has failed."""
        execution, state = self._run.execution, self._run.state
        if not isinstance(body, e.RunFailed) or execution is None:
            return body
        return tries.after(state, body, execution.cause, self._rules.retries_of(state), self._now)

    def _append(self, body: e.EventBody) -> Sequence[e.HistoryEvent]:
        state = self._run.state
        event = e.HistoryEvent(state.number + 1, self._time_of_next(), body)
        self._rows.touch(body)
        if isinstance(body, e.StepCompleted) and self._rows.keeps_result_of(body.seq):
            self._reuse.note(body)
        endangered = endangered_by(state, body, self._reported, self._now)
        children, updates = state.children, state.updates
        if type(body) in _CLOSING:
            # The state forgets them as it closes.
            children = dict(children)
        told = evolve(state, event)
        self.writes.events.append(event)
        if endangered:
            self.writes.revoked += revoked_of(state, endangered)
        if state.phase in CLOSED:
            self._family.closed(children)
            self._reception.closed(updates)
        if isinstance(body, e.RunPaused | e.RunResumed):
            self._rows.touch_tries()
        return told

    def _time_of_next(self) -> datetime:
        time = self._run.state.time
        return self._now if time is None else max(self._now, time)

    def check(self, seq: int, payload: Payload) -> None:
        """Have the code look at what it would be given; `PayloadError` where it does not take that."""
        self.need_code()
        problem = self._code.check(seq, payload)
        if problem is not None:
            self.block(problem)

    def need_code(self) -> None:
        """Have the code in memory, replayed up to here, or block the run."""
        if self._run.state.phase is not RunPhase.OPEN or self._run.state.next_try is not None:
            return
        problem = self._code.build()
        if problem is not None:
            self.block(problem)


def _unrecorded(blocked: e.RunBlocked) -> e.RunBlocked:
    return dataclasses.replace(blocked, unrecorded=True)
