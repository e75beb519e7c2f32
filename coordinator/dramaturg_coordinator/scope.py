"""What workflow code can ask for: `Scope` turns it into commands and keeps the futures that wait for the answers.

A command is the event that it becomes. Steps, timers and markers take positions from one counter, in the order in which
the code asks; the counter has nothing to do with the number of futures, which differs between versions of Python.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from dramaturg_coordinator.asking import Asking
from dramaturg_coordinator.call_sites import line_of_caller
from dramaturg_coordinator.children import Children
from dramaturg_coordinator.core.commands import Command
from dramaturg_coordinator.core.onward import Onward
from dramaturg_coordinator.dialogue import Dialogue
from dramaturg_coordinator.failures import clean
from dramaturg_coordinator.loop import WorkflowFuture, WorkflowLoop
from dramaturg_coordinator.markers import Markers
from dramaturg_coordinator.places import ask_for_place
from dramaturg_coordinator.read_only import ReadOnly
from dramaturg_coordinator.saga import Saga
from dramaturg_coordinator.shields import Shield
from dramaturg_coordinator.waiting import AskedFuture, StepFuture, TimerFuture
from dramaturg_protocol import events as e
from dramaturg_protocol.ambient import ChildRequest, ChildTicket, Continued, RunInfo, StepRequest, WorkflowScope
from dramaturg_protocol.asking import ApprovalRequest, AskedApproval, AskedHook, HookRequest
from dramaturg_protocol.definitions import StepDefinition
from dramaturg_protocol.errors import StepFailed, StepTimeout
from dramaturg_protocol.payloads import Payload, decode_value, encode_value
from dramaturg_protocol.signatures import CallSchema


class Scope(WorkflowScope):
    """What one run's code finds around it.

    Parameters:
      markers: recorded values by position, of the history that is about to be replayed.
      patches: change ids that the history recorded.
      recorded_up_to: the highest position in that history.
      context: what the run was started with for its steps.
      seeds: of a fork: up to which generation derived values are those of which run.
      promised: what the steps of that history are undone by, by position.
      steps: the registered ones, by name.
      history: the events that will be told first.
      secret: of the namespace, for tokens.
      public_url: where links lead that are new.
      schema: how the arguments of the workflow are encoded.
    """

    def __init__(
        self,
        info: RunInfo,
        *,
        markers: Mapping[int, e.MarkerRecorded],
        recorded_up_to: int,
        max_payload: int,
        default_queue: str,
        history_log_level: int,
        context: Payload | None = None,
        seeds: Sequence[tuple[int, str]] = (),
        promised: Mapping[int, e.Compensation | None],
        steps: Mapping[str, StepDefinition],
        history: Sequence[e.HistoryEvent],
        secret: str,
        public_url: str,
        schema: CallSchema,
    ) -> None:
        self._schema = schema
        #: Its code ended it, and began another run.
        self.is_continued = False
        self._info = info
        self._started_with = self._context = context
        self._seeds = seeds
        #: Of what the code asks for from now on.
        self.generation = 1
        #: Which try of the run the code is in.
        self.attempt = 1
        self._markers = Markers(
            markers, recorded_up_to, max_payload=max_payload, next_seq=self.next_seq, emit=self.emit
        )
        self._promised = promised
        self._undone: list[asyncio.Future[None]] = []
        self.saga = Saga(self._emit_own, self.next_seq, default_queue, steps)
        self._max_payload = max_payload
        self._default_queue = default_queue
        self._history_log_level = history_log_level
        self._seq = 0
        self._derived = 0
        self._commands: list[Command] = []
        self._onward: Onward | None = None
        #: Who is told of an event that is neither a step's nor a timer's, by its type.
        self.hearers: dict[type[e.EventBody], Callable[[Any], None]] = {}
        self._futures: dict[int, WorkflowFuture[Any]] = {}
        self._now = info.started_at
        self._is_replaying = False
        self._is_muted = False
        # typeshed declares methods abstract that are filled in at the end of loop.py.
        self.loop = WorkflowLoop(  # type: ignore[abstract]
            info.run_id,
            scope=self,
            start_timer=self._start_asyncio_timer,
            cancel_timer=lambda seq: self.emit(e.TimerCancelled(seq)),
            report_problem=self._report_problem,
        )
        self.children = Children(self, info.run_id, history)
        self.hearers[e.ChildClosed] = self.children.tell
        #: In force while code is called that may only look.
        self.read_only = ReadOnly(self.loop, self)
        self.loop.check = self.read_only.check
        self._dialogue = Dialogue(self, self.read_only)
        self.asking = Asking(self, secret, public_url, history)
        self.hearers |= self.asking.hearers

    # What the owner of the run calls.

    def take_commands(self) -> list[Command]:
        """What the code asked for since the last call."""
        commands, self._commands = self._commands, []
        return commands

    def set_now(self, now: datetime) -> None:
        """Let it be this moment."""
        self._now = now
        self.loop.set_time(now.timestamp())

    def go_with(self, onward: Onward | None, go_on: Callable[[e.HistoryEvent], None]) -> None:
        """Call as soon as the code has come to a cut, while it is told of the next event."""
        self._onward, self._go_on = onward, go_on
        self._come_to_cuts()

    def _come_to_cuts(self) -> None:
        for cut in self._onward.cuts() if self._onward is not None else ():
            self._go_on(cut)

    def waiting(self, seq: int) -> WorkflowFuture[Any] | None:
        """The future that waits for a position, taken out; ``None`` where nobody does."""
        future = self._futures.pop(seq, None)
        return None if future is None or future.done() else future

    def mute(self) -> None:
        """From now on nothing that the code does counts."""
        self._is_muted = True
        self._commands.clear()
        self._futures.clear()

    def tell_saga(self, body: e.EventBody) -> None:
        """Let the compensations hear of an outcome, and those who wait for them."""
        self.saga.tell(body)
        if self._undone and not self.saga.is_active:
            failed, self.saga.failed = self.saga.failed, []
            waiting, self._undone = self._undone, []
            for future in waiting:
                if not future.done():
                    _settle_undone(future, failed)

    def end_code(self) -> None:
        """The code has ended, and what it left open is over: but for the steps that are undone if they succeed."""
        self._is_muted = True
        open_timers = {*self.loop.open_timers}
        for seq in sorted(self._futures.keys() | open_timers):
            future = self._futures.get(seq)
            if isinstance(future, StepFuture):
                if not self.saga.is_promised(seq):
                    self._emit_own(e.StepCancelled(seq, future.request.name))
            elif isinstance(future, AskedFuture):
                self._emit_own(future.withdrawn)
            else:
                self._emit_own(e.TimerCancelled(seq))
        self._futures.clear()
        self._undone.clear()

    def emit_end(self, end: e.EventBody) -> None:
        """Note how the run ends."""
        self._emit_own(end)

    def forget(self, seq: int, cancelled: e.EventBody) -> None:
        """The code no longer waits for a position."""
        if self._futures.pop(seq, None) is not None and not self.saga.is_promised(seq):
            self.emit(cancelled)

    # What workflow code calls.

    def start_step(self, request: StepRequest) -> asyncio.Future[Any]:
        """Ask for a step."""
        if self._is_muted:
            return self.loop.create_future()
        seq = self.next_seq()
        queue = request.queue or self._default_queue
        # What was recorded holds, also where another compensation is declared by now.
        undo = self._promised.get(seq, request.compensate)
        scheduled = e.StepScheduled(
            seq, request.name, request.input, queue, request.options, undo, limits=request.limits, group=request.group
        )
        self.emit(scheduled)
        if undo is not None:
            self.saga.promise(scheduled)
        future = self._futures[seq] = StepFuture(self, self.loop, seq, request)
        return future

    def start_child(self, request: ChildRequest) -> ChildTicket:
        """Start a run that belongs to this one."""
        return self.children.start(request)

    @property
    def dialogue(self) -> Dialogue:
        """What it hears from outside and says to it."""
        return self._dialogue

    def create_future(self) -> asyncio.Future[Any]:
        """A future of the run."""
        return self.loop.create_future()

    def begin_fan_out(self, step: str, items: int, chunk: int) -> int:
        """Note that a fan-out begins; its position, which its members bear."""
        if self._is_muted:
            return 0
        seq = self.next_seq()
        about = Payload(f'{{"items":{items},"chunk":{chunk}}}')
        self.emit(e.MarkerRecorded(seq, e.FAN_OUT_MARKER, step, about))
        return seq

    def continue_as_new(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
        """End the run, and begin the next of its chain."""
        given = self._schema.encode_call(args, kwargs, limit=self._max_payload)
        self.read_only.check("continue as new")
        if not self._is_muted:
            untaken = tuple(body.message_id for body in self._dialogue.untaken())
            self.emit(e.RunContinued(self.children.next_run_id, given, untaken))
            self.is_continued = self._is_muted = True
        raise Continued

    def push_compensation(self, request: StepRequest) -> None:
        """Have a step run if the run does not end well."""
        self.read_only.check("push a compensation")
        if not self._is_muted:
            self.saga.push(request)

    def compensate_now(self) -> asyncio.Future[None]:
        """Undo what is on the stack."""
        self.read_only.check("compensate")
        future = self.loop.create_future()
        if self._is_muted:
            return future
        if not self.saga.is_active and not self.saga.has_undos:
            future.set_result(None)
            return future
        self._undone.append(future)
        if not self.saga.is_active:
            self.saga.begin(e.COMPENSATION_ASKED)
        return future

    def request_approval(self, request: ApprovalRequest) -> AskedApproval:
        """Ask people for a decision."""
        return self.asking.approval(request)

    def create_hook(self, request: HookRequest) -> AskedHook:
        """Wait for one call from outside."""
        return self.asking.hook(request)

    def start_timer(self, due: datetime) -> asyncio.Future[None]:
        """Ask to be woken."""
        if self._is_muted:
            return self.loop.create_future()
        seq = self.next_seq()
        self.emit(e.TimerStarted(seq, due))
        future = self._futures[seq] = TimerFuture(self, self.loop, seq)
        return future

    def take_place(self) -> asyncio.Future[None]:
        """Ask for the run's place under the limit of its workflow."""
        return ask_for_place(self.loop, self.next_seq(), self.emit, self.hearers)

    def shield(self) -> Shield:
        """A block in which the task that enters it is not cancelled."""
        return Shield()

    def next_hash(self) -> int:
        """A hash that is the same on every replay."""
        return self.loop.next_hash()

    def side_effect(self, name: str, call: Callable[[], Any], annotation: Any) -> Any:
        """Call once; on replay give what was recorded."""
        return None if self._is_muted else self._markers.side_effect(name, call, annotation)

    def patched(self, change_id: str) -> bool:
        """True where the history has the marker, or where there is no history yet at this point."""
        return self._markers.patched(change_id, is_new=not self.is_replaying)

    def now(self) -> datetime:
        """The time of the event that is being applied."""
        return self._now

    def random(self) -> random.Random:
        """A generator that is the same on replay."""
        return random.Random(self._derive("random"))  # noqa: S311 - it must be repeatable

    def uuid4(self) -> uuid.UUID:
        """A UUID that is the same on replay."""
        value = uuid.uuid5(uuid.NAMESPACE_OID, self._derive("uuid4")).int
        return uuid.UUID(int=value, version=4)

    def info(self) -> RunInfo:
        """About the run."""
        return dataclasses.replace(self._info, attempt=self.attempt, context=_decoded(self._started_with))

    def set_context(self, value: Any) -> None:
        """Let later steps see this as their context."""
        where = "the argument of set_step_context()"
        payload = None if value is None else encode_value(value, Any, where=where, limit=self._max_payload)
        self.read_only.check("set the context of steps")
        if not self._is_muted:
            self._context = payload
            self.emit(e.MarkerRecorded(self.next_seq(), e.CONTEXT_MARKER, "set_step_context", payload))

    @property
    def step_context(self) -> Any:
        """What a step that is asked for now sees as its context."""
        return _decoded(self._context)

    def log(self, level: int, message: str) -> bool:
        """Whether to speak; from the configured level on the record is an event too."""
        if self._is_muted or self.is_replaying:
            return False
        if level >= self._history_log_level and not self.read_only.who:
            self.emit(e.Logged(logging.getLevelName(level), clean(message[:8192])))
        return True

    @property
    def is_replaying(self) -> bool:
        """What the code does now, it did before."""
        return self._is_replaying

    @is_replaying.setter
    def is_replaying(self, value: bool) -> None:
        self._is_replaying = value

    @property
    def max_payload(self) -> int:
        """Bytes that one argument list or result may take."""
        return self._max_payload

    @property
    def counters(self) -> tuple[int, ...]:
        """What values are derived from."""
        return (self._derived,)

    @counters.setter
    def counters(self, counters: tuple[int, ...]) -> None:
        (self._derived,) = counters

    @property
    def is_muted(self) -> bool:
        """Nothing counts any more."""
        return self._is_muted

    def expect(self, future: WorkflowFuture[Any], seq: int) -> None:
        """A future waits for a position."""
        if not self._is_muted:
            self._futures[seq] = future

    def expected(self, seq: int) -> WorkflowFuture[Any] | None:
        """The future that waits for a position, left where it is."""
        return self._futures.get(seq)

    def next_seq(self) -> int:
        """The next position."""
        if self.read_only.who:
            self.read_only.check("ask for steps, timers or recorded values")
        self._seq += 1
        return self._seq

    def _emit_own(self, body: e.EventBody) -> None:
        self._ask(Command(body, ""))

    def _ask(self, command: Command) -> None:
        self._commands.append(command)
        if self._onward is not None:
            self._onward.ask(command.body)
            self._come_to_cuts()

    def emit(self, body: e.EventBody) -> None:
        """Note what the code asks for."""
        if self.read_only.who:
            self.read_only.check("ask for anything that is recorded")
        if not self._is_muted:
            self._ask(Command(body, line_of_caller() if self.is_replaying else ""))

    def _start_asyncio_timer(self, when: float) -> int:
        seq = self.next_seq()
        self.emit(e.TimerStarted(seq, datetime.fromtimestamp(when, UTC)))
        return seq

    def seed_of(self, generation: int) -> str:
        """The run that values of a generation are derived in: what a fork shares with another run was derived there."""
        return next((seed for upto, seed in self._seeds if generation <= upto), self._info.run_id)

    def _derive(self, kind: str) -> str:
        self._derived += 1
        return f"{self.seed_of(self.generation)}:{self.generation}:{self._seq}:{self._derived}:{kind}"

    def _report_problem(self, context: dict[str, Any]) -> None:
        if self._is_muted or self.is_replaying:
            return
        logging.getLogger("dramaturg.workflow").error(
            "run %s: %s", self._info.run_id, context.get("message"), exc_info=context.get("exception")
        )


def _decoded(context: Payload | None) -> Any:
    """A value of its own for each who asks: nobody can change what others see."""
    return None if context is None else decode_value(context, Any, where="the run's context")


def _settle_undone(future: asyncio.Future[None], failed: Sequence[e.StepFailed | e.StepTimedOut]) -> None:
    errors = [
        (StepTimeout if isinstance(each, e.StepTimedOut) else StepFailed)(
            each.name, each.attempt, each.error.type, each.error.message, each.error.traceback, seq=each.seq
        )
        for each in failed
    ]
    if not errors:
        future.set_result(None)
    elif len(errors) == 1:
        future.set_exception(errors[0])
    else:
        future.set_exception(ExceptionGroup("compensations failed", errors))
