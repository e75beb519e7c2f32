"""What a run is to undo, and the undoing: one step after the other, the last first.

    step with a compensation: promised ── succeeds ──► on the stack ── the run fails, is cancelled ──► undone

Nothing of this is stored beside the history. What a step promised is in its ``step.scheduled``, the order on the stack
is the order of the outcomes, and what undoes is a step with a position of its own from the counter that all share; so a
replay gives the same.

A step that promised one is never given up while it is under way, whoever stops waiting for it: whether it took place
must be known before a run can end without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json, to_json

from dramaturg_protocol import events as e
from dramaturg_protocol.ambient import StepRequest
from dramaturg_protocol.definitions import StepDefinition
from dramaturg_protocol.errors import PayloadError
from dramaturg_protocol.payloads import Payload


@dataclass(frozen=True, slots=True)
class _Undo:
    """What is on the stack: a step that succeeded with its result, or a call that the code asked for.

    Attributes:
      undoes: position of the step that is undone; 0 where none had succeeded yet.
    """

    undoes: int
    how: e.Compensation
    input: Callable[[], Payload]


@dataclass(slots=True)
class Saga:
    """The compensations of one run.

    Parameters:
      emit: takes what becomes an event of the run.
      next_seq: gives the next position.
      default_queue: of steps that name none.
      steps: the registered ones, by name.

    Attributes:
      failed: what could not be undone in the round that is under way, in order.
      is_active: undoing is under way.
    """

    emit: Callable[[e.EventBody], None]
    next_seq: Callable[[], int]
    default_queue: str
    steps: Mapping[str, StepDefinition]
    failed: list[e.StepFailed | e.StepTimedOut] = field(default_factory=list[e.StepFailed | e.StepTimedOut])
    is_active: bool = False
    _stack: list[_Undo] = field(default_factory=list[_Undo])
    _promised: dict[int, e.StepScheduled] = field(default_factory=dict[int, e.StepScheduled])
    _current: int = 0
    _last_completed: int = 0
    _waits_for_promised: bool = False

    @property
    def has_work(self) -> bool:
        """Whether there is anything to undo, or may be once the steps under way have ended."""
        return bool(self._stack or self._promised or self._current)

    @property
    def has_undos(self) -> bool:
        """Whether anything is on the stack."""
        return bool(self._stack)

    def is_promised(self, seq: int) -> bool:
        """Whether a step that is under way is to be undone if it succeeds."""
        return seq in self._promised

    def promise(self, scheduled: e.StepScheduled) -> None:
        """A step was asked for that has a compensation."""
        self._promised[scheduled.seq] = scheduled

    def push(self, request: StepRequest) -> None:
        """The code asks for a step to be run if it does not end well."""
        how = e.Compensation(request.name, request.queue, request.options)
        self._stack.append(_Undo(self._last_completed, how, lambda: request.input))

    def begin(self, why: str, end: e.RunFailed | None = None) -> None:
        """Undo what is on the stack.

        Parameters:
          why: ``asked``, or how the run ends: then the steps under way are waited for first.
          end: where it ends with an error.
        """
        error, positions = (end.error, end.positions) if end is not None else (None, ())
        self.emit(e.CompensationStarted(why, error, positions))
        self.is_active = True
        self._waits_for_promised = why != e.COMPENSATION_ASKED
        self._go_on()

    def tell(self, body: e.EventBody) -> None:
        """Take note of the outcome of a step."""
        match body:
            case e.StepCompleted():
                self._succeeded(body)
            case e.StepFailed() | e.StepTimedOut():
                self._promised.pop(body.seq, None)
                if body.seq == self._current:
                    self.failed.append(body)
                    self._current = 0
            case _:
                return
        if self.is_active:
            self._go_on()

    def _succeeded(self, body: e.StepCompleted) -> None:
        if body.seq == self._current:
            self._current = 0
            return
        self._last_completed = body.seq
        scheduled = self._promised.pop(body.seq, None)
        if scheduled is not None:
            how = scheduled.compensate
            assert how is not None
            self._stack.append(_Undo(body.seq, how, lambda: self._input_of(scheduled, how, body.result)))

    def _go_on(self) -> None:
        if self._current or (self._waits_for_promised and self._promised):
            return
        if self._stack:
            undo = self._stack.pop()
            self._current = self.next_seq()
            queue = undo.how.queue or self.default_queue
            self.emit(
                e.StepScheduled(self._current, undo.how.name, undo.input(), queue, undo.how.options, undoes=undo.undoes)
            )
            return
        self.is_active = False
        self.emit(e.CompensationCompleted(tuple(each.seq for each in self.failed)))

    def _input_of(self, scheduled: e.StepScheduled, how: e.Compensation, result: Payload) -> Payload:
        """The arguments of a compensation: the result of the step, then its own arguments."""
        step, undoing = self.steps.get(scheduled.name), self.steps.get(how.name)
        if step is not None and undoing is not None:
            try:
                args, kwargs = step.schema.decode_call(scheduled.input)
                return undoing.schema.encode_call((step.schema.decode_result(result), *args), kwargs, limit=None)
            except (PayloadError, TypeError):
                # As it was recorded: where that does not fit, the step says so, and its failure is recorded.
                pass
        call: dict[str, Any] = from_json(scheduled.input)
        call["args"] = [from_json(result), *call.get("args", [])]
        return Payload(to_json(call).decode())


def why_of(end: e.EventBody) -> str | None:
    """In which way a run ends whose steps are undone; ``None`` where they stay."""
    match end:
        case e.RunFailed():
            return "failed"
        case e.RunCancelled():
            return "cancelled"
        case e.RunTimedOut():
            return "timed_out"
        case _:
            return None


def end_after(end: e.EventBody, failed: list[e.StepFailed | e.StepTimedOut]) -> e.EventBody:
    """How a run ends once its steps are undone: as its code did, or FAILED where one could not be undone."""
    if not failed:
        return end
    words = "; ".join(f"step {each.name} #{each.seq}: {each.error.type}: {each.error.message}" for each in failed)
    told = f"{len(failed)} of its compensations failed for good: {words[:4096]}"
    if isinstance(end, e.RunFailed):
        error = e.ErrorInfo(end.error.type, f"{end.error.message} ({told})", end.error.traceback)
        return e.RunFailed(error, end.positions)
    how = "timed out" if isinstance(end, e.RunTimedOut) else "was cancelled"
    return e.RunFailed(e.ErrorInfo("CompensationFailed", f"the run {how}, and {told}"))
