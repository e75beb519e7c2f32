"""Which steps a person is to look at, told from the events of a turn: `events → dead letters`, and those that are done.

A step that gave up is one where its run failed of it, or is held for it. Where the workflow's code dealt with the
failure, nobody has to; but a step that killed its workers, or that its queue's workers do not report, is told of anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from pydantic_core import from_json, to_json

from dramaturg_coordinator.core.giving_up import HELD
from dramaturg_coordinator.core.run_state import Failure, OpenStep, RunState
from dramaturg_protocol import events as e
from dramaturg_protocol.records import DeadLetter, LetterKind, LetterOutcome, LettersClosed

#: The events that a person may have to look at, or that say that somebody did; no other has anything to do with letters.
ABOUT_LETTERS = e.kinds_of(
    e.StepRetrying,
    e.StepFailed,
    e.RunFailed,
    e.CompensationCompleted,
    e.RunRetried,
    e.RunReset,
    e.StepSettled,
    e.RunResumed,
    e.RunTerminated,
)
_TOLD_ANYWAY = {"WorkerLost": LetterKind.WORKER_LOST, "NotReported": LetterKind.NOT_REPORTED}


def letters_of(state: RunState, events: Sequence[e.HistoryEvent], now: datetime) -> list[DeadLetter]:
    """Dead letters of the steps that these events say ended badly.

    Parameters:
      state: of the run, after these events.
    """
    return [_letter(kind, step, end, state, now) for event in events for kind, step, end in _ends_of(event.body, state)]


def closed_by(events: Sequence[e.HistoryEvent]) -> Iterator[LettersClosed]:
    """The letters of the run that these events say are dealt with."""
    for event in events:
        body = event.body
        match body:
            case e.RunRetried() | e.RunReset():
                yield LettersClosed(LetterOutcome.RETRIED, by=body.by, reason=body.reason)
            case e.StepSettled():
                yield LettersClosed(LetterOutcome.SETTLED, body.seq, by=body.by, reason=body.reason)
            case e.RunResumed():
                yield LettersClosed(LetterOutcome.RETRIED, kind=LetterKind.HELD, by=body.by, reason=body.reason)
            case e.RunTerminated():
                yield LettersClosed(LetterOutcome.DROPPED, kind=LetterKind.HELD, by=body.by, reason=body.reason)
            case _:
                pass


_End = e.StepFailed | e.StepTimedOut | e.StepRetrying


def _ends_of(body: e.EventBody, state: RunState) -> Iterator[tuple[LetterKind, OpenStep, _End]]:
    match body:
        case e.StepRetrying(reason=reason) if reason == HELD and body.seq in state.steps:
            yield LetterKind.HELD, state.steps[body.seq], body
        case e.StepFailed() if body.error.type in _TOLD_ANYWAY and body.seq in state.failures:
            yield _TOLD_ANYWAY[body.error.type], *state.failures[body.seq]
        case e.RunFailed(positions=positions):
            yield from ((LetterKind.GAVE_UP, *failure) for failure in _failures(state, positions))
        case e.CompensationCompleted(failed=failed):
            yield from ((LetterKind.COMPENSATION, *failure) for failure in _failures(state, failed))
        case _:
            pass


def _failures(state: RunState, positions: Sequence[int]) -> Iterator[Failure]:
    for seq in positions:
        failure = state.failures.get(seq)
        if failure is not None and failure[1].error.type not in _TOLD_ANYWAY:
            yield failure


def _letter(kind: LetterKind, step: OpenStep, end: _End, state: RunState, now: datetime) -> DeadLetter:
    error = end.error
    reason = f"step {end.name} #{end.seq} gave up at attempt {end.attempt}: {error.type}: {error.message}"
    body = {
        "step": end.name,
        "seq": end.seq,
        "attempt": end.attempt,
        "queue": step.queue,
        "input": from_json(step.input),
        "error": {"type": error.type, "message": error.message, "traceback": error.traceback},
    }
    return DeadLetter(
        kind, reason, to_json(body).decode(), state.run_id, state.partition, now, seq=end.seq, step=end.name
    )
