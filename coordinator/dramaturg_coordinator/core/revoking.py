"""Which attempts workers have for nothing: those that an event ends though their worker did not say so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from dramaturg_coordinator.core.run_state import OpenStep, RunState
from dramaturg_coordinator.core.states import CLOSING, StepPhase
from dramaturg_protocol import events as e
from dramaturg_protocol.ids import attempt_id
from dramaturg_protocol.messages import ReportKind, StepReport
from dramaturg_protocol.records import Revoked

#: The attempts that an event may end.
Endangered = Sequence[tuple[int, int, int, str]]

_OF_ONE_STEP = (e.StepCancelled, e.StepCompleted, e.StepFailed, e.StepTimedOut, e.StepRetrying)
_MAY_END_ATTEMPTS = e.kinds_of(*_OF_ONE_STEP, *CLOSING, e.Cut, e.RunRetrying)


def endangered_by(state: RunState, body: e.EventBody, reported: StepReport | None, now: datetime) -> Endangered:
    """The attempts that workers may have and that an event may end; asked before it is applied.

    Parameters:
      reported: the report that the event follows from; its own attempt has ended by itself.
    """
    if type(body) not in _MAY_END_ATTEMPTS:
        return ()
    steps: Iterable[OpenStep] = state.steps.values()
    if isinstance(body, _OF_ONE_STEP):
        step = state.steps.get(body.seq)
        if step is None or _has_ended(step, reported):
            return ()
        steps = (step,)
    return [(step.generation, step.seq, step.attempt, step.queue) for step in steps if _is_out(step, now)]


def revoked_of(state: RunState, endangered: Endangered) -> list[Revoked]:
    """Those of them that are not open any more; asked after the event was applied."""
    gone: list[Revoked] = []
    for generation, seq, attempt, queue in endangered:
        step = state.steps.get(seq)
        if step is None or (step.generation, step.attempt) != (generation, attempt):
            gone.append(Revoked(attempt_id(state.run_id, generation, seq, attempt), queue))
    return gone


def revoked_by_life(state: RunState, report: StepReport) -> list[Revoked]:
    """The attempt that a worker says it runs, where nobody waits for it: it was not told."""
    if report.kind not in (ReportKind.STARTED, ReportKind.ALIVE):
        return []
    step = state.steps.get(report.seq)
    if step is not None and (step.generation, step.attempt) == (report.generation, report.attempt):
        return []
    return [Revoked(attempt_id(state.run_id, report.generation, report.seq, report.attempt))]


def _has_ended(step: OpenStep, reported: StepReport | None) -> bool:
    return (
        reported is not None
        and reported.kind.is_final
        and (step.generation, step.seq, step.attempt)
        == (
            reported.generation,
            reported.seq,
            reported.attempt,
        )
    )


def _is_out(step: OpenStep, now: datetime) -> bool:
    # One that is due is out until its pick-up is told.
    return step.phase is not StepPhase.RETRYING or step.retry_at is None or step.retry_at <= now
