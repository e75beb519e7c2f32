"""Histories and states made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from dramaturg_coordinator.core.evolve import evolve
from dramaturg_coordinator.core.run_state import RunState
from dramaturg_protocol import events as e
from dramaturg_protocol.messages import ReportKind, StepReport
from dramaturg_protocol.payloads import Payload

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
NO_ARGUMENTS = Payload('{"args":[]}')
ERROR = e.ErrorInfo("ValueError", "no")

STARTED = e.RunStarted("m-1", "wf-1", "flow", 1, NO_ARGUMENTS)


def scheduled(seq: int, name: str = "charge", arguments: str = '{"args":[]}') -> e.StepScheduled:
    return e.StepScheduled(seq, name, Payload(arguments), "default")


def completed(seq: int, result: str = "1") -> e.StepCompleted:
    return e.StepCompleted(seq, "charge", 1, Payload(result))


def timer(seq: int) -> e.TimerStarted:
    return e.TimerStarted(seq, EPOCH + timedelta(hours=1))


def a_history(*bodies: e.EventBody) -> list[e.HistoryEvent]:
    """A history of these, a second apart, from 1."""
    return [e.HistoryEvent(index + 1, EPOCH + timedelta(seconds=index), body) for index, body in enumerate(bodies)]


def a_run(*bodies: e.EventBody) -> RunState:
    """A run that began, and to which this happened."""
    state = RunState("run-1", 0)
    for event in a_history(STARTED, *bodies):
        evolve(state, event)
    return state


def happen(state: RunState, body: e.EventBody) -> Sequence[e.HistoryEvent]:
    """Apply one more event; what the code is told."""
    return evolve(state, e.HistoryEvent(state.number + 1, EPOCH, body))


def a_report(kind: ReportKind = ReportKind.COMPLETED, *, seq: int = 1, attempt: int = 1, **more: object) -> StepReport:
    return StepReport("run-1", 1, seq, attempt, 0, kind, **more)  # type: ignore[arg-type]
