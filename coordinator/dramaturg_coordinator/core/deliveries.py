"""What follows where a worker says that an attempt is under way: once for each time that its message is delivered.

A delivery after the first means that a worker was lost with the step. It is the same attempt, which begins again; but a
step that was begun so often without an outcome, over all its attempts, is taken for what kills its workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from dramaturg_coordinator.core.giving_up import give_up
from dramaturg_coordinator.core.run_state import OpenStep, RunState, lost_with
from dramaturg_coordinator.core.states import StepPhase
from dramaturg_protocol import events as e
from dramaturg_protocol.definitions import EffectiveOptions
from dramaturg_protocol.messages import MOST_LOST, ReportKind, StepReport


def after_word(
    state: RunState, step: OpenStep, report: StepReport, options: EffectiveOptions, now: datetime
) -> Sequence[e.EventBody]:
    """The events that a word from a worker leads to; none where it is known, or older than what is known."""
    began = (report.worker, report.delivery)
    is_open = report.kind is ReportKind.LEFT_OPEN
    is_known = step.phase is StepPhase.STARTED and (step.worker, step.delivery) == began
    if report.kind is ReportKind.ALIVE or (is_known and (step.is_left_open or not is_open)):
        return ()
    if report.delivery < step.delivery:
        return ()
    started = e.StepStarted(step.seq, step.name, step.attempt, *began, report.seconds, is_open)
    if is_known or report.delivery == 1:
        return (started,)
    worker = f"worker {step.worker}" if step.worker else "the worker that had it"
    error = e.ErrorInfo("WorkerLost", f"{worker} was gone or silent before attempt {step.attempt} ended")
    lost = lost_with(step, report.delivery)
    if lost >= MOST_LOST:
        words = f"step {step.name!r} was begun {lost} times whose worker was gone or silent before it ended"
        failed = e.StepFailed(step.seq, step.name, step.attempt, e.ErrorInfo("WorkerLost", words), report.worker)
        return give_up(state, step, failed, options)
    again = e.StepRetrying(
        step.seq, step.name, step.attempt, error, now, "redelivered", counts=False, delivery=report.delivery
    )
    return (again, started)
