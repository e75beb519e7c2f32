"""Which attempts workers have for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from dramaturg_coordinator.core.evolve import evolve
from dramaturg_coordinator.core.revoking import endangered_by, revoked_by_life, revoked_of
from dramaturg_coordinator.core.run_state import RunState
from dramaturg_protocol import events as e
from dramaturg_protocol.ids import attempt_id
from dramaturg_protocol.messages import ReportKind, StepReport
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import Revoked

NOW = datetime(2030, 1, 1, tzinfo=UTC)
NULL = Payload("null")
ERROR = e.ErrorInfo("ValueError", "no")


def a_run(*bodies: e.EventBody) -> RunState:
    """A run with two steps that are out, on queues ``a`` and ``b``, and what else happened."""
    state = RunState("r", 0)
    begun = (
        e.RunStarted("m", "w", "flow", 1, NULL, {}, "3.11", "f"),
        e.StepScheduled(1, "first", NULL, "a", {}),
        e.StepScheduled(2, "second", NULL, "b", {}),
    )
    for body in (*begun, *bodies):
        evolve(state, e.HistoryEvent(state.number + 1, NOW, body))
    return state


def revoked(state: RunState, body: e.EventBody, reported: StepReport | None = None) -> Sequence[Revoked]:
    endangered = endangered_by(state, body, reported, NOW)
    evolve(state, e.HistoryEvent(state.number + 1, NOW, body))
    return revoked_of(state, endangered)


def a_report(kind: ReportKind, seq: int = 1, attempt: int = 1) -> StepReport:
    return StepReport("r", 1, seq, attempt, 0, kind)


def the(seq: int, queue: str, attempt: int = 1) -> Revoked:
    return Revoked(attempt_id("r", 1, seq, attempt), queue)


def test_a_step_that_the_code_lets_go_of() -> None:
    assert revoked(a_run(), e.StepCancelled(2, "second")) == [the(2, "b")]


@pytest.mark.parametrize(
    "end", [e.RunTerminated("t"), e.RunCancelled(), e.RunCompleted(NULL), e.RunFailed(ERROR)], ids=e.type_of
)
def test_all_that_is_out_when_a_run_ends(end: e.EventBody) -> None:
    assert revoked(a_run(), end) == [the(1, "a"), the(2, "b")]


def test_an_attempt_that_the_coordinator_gives_up() -> None:
    assert revoked(a_run(), e.StepRetrying(1, "first", 1, ERROR, NOW, "timeout")) == [the(1, "a")]


def test_a_step_that_a_person_settles() -> None:
    assert revoked(a_run(), e.StepCompleted(1, "first", 1, NULL, "by ada")) == [the(1, "a")]


@pytest.mark.parametrize(
    "body",
    [
        e.StepCompleted(1, "first", 1, NULL, "worker"),
        e.StepFailed(1, "first", 1, ERROR, "worker"),
        e.StepRetrying(1, "first", 1, ERROR, NOW),
    ],
    ids=e.type_of,
)
def test_an_attempt_that_ended_by_itself_is_not_taken_back(body: e.EventBody) -> None:
    assert revoked(a_run(), body, a_report(ReportKind.COMPLETED)) == []


def test_an_attempt_that_was_handed_back_is_still_wanted() -> None:
    body = e.StepRetrying(1, "first", 1, ERROR, NOW, "released", counts=False)

    assert revoked(a_run(), body) == []


def test_a_step_that_waits_for_its_next_attempt_has_no_message_out() -> None:
    later = e.StepRetrying(1, "first", 1, ERROR, NOW + timedelta(seconds=9))

    assert revoked(a_run(later), e.RunTerminated("t")) == [the(2, "b")]


def test_a_next_attempt_that_is_due_may_be_out() -> None:
    due = e.StepRetrying(1, "first", 1, ERROR, NOW)

    assert revoked(a_run(due), e.StepCancelled(1, "first")) == [the(1, "a", attempt=2)]


def test_what_happens_besides_takes_nothing_back() -> None:
    assert revoked(a_run(), e.StepStarted(1, "first", 1, "worker")) == []
    assert revoked(a_run(), e.RunCancelRequested("c")) == []


def test_a_sign_of_life_that_nobody_waits_for_is_taken_back() -> None:
    state = a_run(e.StepCancelled(1, "first"))

    assert revoked_by_life(state, a_report(ReportKind.STARTED)) == [the(1, "")]
    assert revoked_by_life(state, a_report(ReportKind.STARTED, seq=2)) == []
    assert revoked_by_life(state, a_report(ReportKind.STARTED, seq=2, attempt=2)) == [the(2, "", attempt=2)]
    assert revoked_by_life(state, a_report(ReportKind.ALIVE)) == [the(1, "")]
    assert revoked_by_life(state, a_report(ReportKind.COMPLETED)) == []
