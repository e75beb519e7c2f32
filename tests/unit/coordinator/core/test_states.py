"""The state machines and the fold: every event is in a table, and an event that cannot happen is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dramaturg_coordinator.core.evolve import evolve, fold, is_void
from dramaturg_coordinator.core.run_state import RunState
from dramaturg_coordinator.core.states import APPROVAL, CLOSED, HOOK, RUN, STEP, TIMER, RunPhase, StepPhase
from dramaturg_protocol import events as e
from dramaturg_protocol.errors import InternalError
from tests.unit.coordinator.core.runs import (
    EPOCH,
    ERROR,
    STARTED,
    a_history,
    a_run,
    completed,
    happen,
    scheduled,
    timer,
)

BLOCKED = e.RunBlocked("stuck", "it computes")
CANCEL = e.RunCancelRequested("m-2")


def test_every_event_is_in_the_table_of_runs() -> None:
    listed = {body for phase in RUN.values() for body in phase}

    assert listed == set(e.TYPES.values())


def test_every_event_of_a_step_timer_approval_and_hook_is_in_the_table_of_its_kind() -> None:
    for table, prefix in ((STEP, "step."), (TIMER, "timer."), (APPROVAL, "approval."), (HOOK, "hook.")):
        listed = {body for transitions in table.values() for body in transitions}
        assert listed == {body for name, body in e.TYPES.items() if name.startswith(prefix)}


def test_every_phase_can_be_reached_and_closed_ones_are_left_by_a_retry_or_a_reset_only() -> None:
    reached = {RunPhase.NEW} | {after for transitions in RUN.values() for after in transitions.values()}

    assert reached == set(RunPhase)
    assert {phase for phase, after in RUN.items() if set(after) == {e.RunRetried, e.RunReset}} == CLOSED - {
        RunPhase.CONTINUED
    }
    # What it was to do, another run does.
    assert not RUN[RunPhase.CONTINUED]


def test_every_wake_and_command_can_happen_to_an_open_run() -> None:
    possible = set(RUN[RunPhase.OPEN]) | set(RUN[RunPhase.NEW])

    assert set(e.WAKES) | set(e.COMMANDS) <= possible


def chart_of(table: Mapping[Any, Mapping[Any, Any]]) -> set[tuple[str, str, str]]:
    return {
        (str(before), next(name for name, kind in e.TYPES.items() if kind is body), str(after))
        for before, transitions in table.items()
        for body, after in transitions.items()
        if before != after
    }


def test_the_chart_of_a_run() -> None:
    assert chart_of(RUN) == {
        ("NEW", "run.started", "OPEN"),
        ("OPEN", "run.completed", "COMPLETED"),
        ("OPEN", "run.failed", "FAILED"),
        ("OPEN", "run.cancelled", "CANCELLED"),
        ("OPEN", "run.terminated", "TERMINATED"),
        ("OPEN", "run.timed_out", "TIMED_OUT"),
        ("OPEN", "run.continued", "CONTINUED"),
        ("OPEN", "run.blocked", "BLOCKED"),
        ("BLOCKED", "run.unblocked", "OPEN"),
        ("BLOCKED", "run.terminated", "TERMINATED"),
        ("OPEN", "run.paused", "PAUSED"),
        ("PAUSED", "run.resumed", "OPEN"),
        ("PAUSED", "run.terminated", "TERMINATED"),
        *{
            (str(phase), cut, "OPEN")
            for phase in (*(CLOSED - {RunPhase.CONTINUED}), "BLOCKED", "PAUSED")
            for cut in ("run.retried", "run.reset")
        },
    }


def test_the_chart_of_a_timer() -> None:
    assert chart_of(TIMER) == {
        ("False", "timer.started", "True"),
        ("True", "timer.fired", "False"),
        ("True", "timer.cancelled", "False"),
    }


@pytest.mark.parametrize(
    ("before", "body"),
    [
        ([], STARTED),
        ([], completed(1)),
        ([], e.StepStarted(1, "charge", 1)),
        ([], e.StepRetrying(1, "charge", 1, ERROR, EPOCH)),
        ([], e.StepCancelled(1, "charge")),
        ([], e.TimerFired(1)),
        ([], e.TimerCancelled(1)),
        ([], e.RunUnblocked()),
        ([scheduled(1)], scheduled(1)),
        ([scheduled(1), completed(1)], completed(1)),
        ([scheduled(1), completed(1)], e.StepFailed(1, "charge", 1, ERROR)),
        ([timer(1)], timer(1)),
        ([timer(1), e.TimerFired(1)], e.TimerFired(1)),
        ([timer(1)], e.StepCancelled(1, "charge")),
        ([BLOCKED], scheduled(1)),
        ([BLOCKED], e.RunCompleted(completed(1).result)),
        ([e.RunTerminated("m-3")], CANCEL),
        ([e.RunTerminated("m-3")], e.RunTerminated("m-4")),
        ([e.RunCancelled()], e.RunCompleted(completed(1).result)),
    ],
)
def test_an_event_that_cannot_happen_is_refused(before: list[e.EventBody], body: e.EventBody) -> None:
    state = a_run(*before)

    with pytest.raises(InternalError, match=f"cannot take {e.type_of(body)}".replace(".", r"\.")):
        happen(state, body)


def test_an_event_out_of_its_turn_is_refused() -> None:
    state = a_run()

    with pytest.raises(InternalError, match="event 3 cannot follow event 1"):
        evolve(state, e.HistoryEvent(3, EPOCH, CANCEL))


def test_a_new_run_takes_nothing_but_its_start() -> None:
    for body in e.TYPES.values():
        assert (body in RUN[RunPhase.NEW]) == (body is e.RunStarted)


def test_a_step_goes_from_scheduled_over_its_attempts_to_its_outcome() -> None:
    state = a_run(scheduled(1))
    assert state.steps[1].phase is StepPhase.SCHEDULED
    assert state.status == "RUNNING"

    happen(state, e.StepStarted(1, "charge", 1, "worker"))
    assert (state.steps[1].phase, state.steps[1].worker) == (StepPhase.STARTED, "worker")

    happen(state, e.StepRetrying(1, "charge", 1, ERROR, EPOCH))
    assert (state.steps[1].phase, state.steps[1].attempt, state.steps[1].worker) == (StepPhase.RETRYING, 2, "")

    told = happen(state, completed(1))
    assert [event.body for event in told] == [completed(1)]
    assert state.steps == {}
    assert state.status == "WAITING"


def test_a_released_attempt_does_not_count() -> None:
    state = a_run(scheduled(1))

    happen(state, e.StepRetrying(1, "charge", 1, ERROR, EPOCH, "released", counts=False))

    assert state.steps[1].attempt == 1


def test_outcomes_are_held_while_a_run_is_blocked_and_told_in_order_afterwards() -> None:
    state = a_run(scheduled(1), timer(2), BLOCKED)
    assert state.status == "BLOCKED"

    assert happen(state, e.TimerFired(2)) == ()
    assert happen(state, completed(1)) == ()
    assert happen(state, CANCEL) == ()

    told = happen(state, e.RunUnblocked(2))
    assert [type(event.body) for event in told] == [e.TimerFired, e.StepCompleted, e.RunCancelRequested]
    assert state.held == []
    assert state.version == 2


def test_a_closed_run_keeps_nothing_open() -> None:
    state = a_run(scheduled(1), timer(2))

    assert happen(state, e.RunFailed(ERROR)) == ()

    assert state.is_closed
    assert (state.steps, state.timers, state.held) == ({}, {}, [])
    assert state.end == e.RunFailed(ERROR)


def test_a_cancel_of_what_has_its_outcome_is_void() -> None:
    state = a_run(scheduled(1), timer(2))

    assert not is_void(state, e.StepCancelled(1, "charge"))
    assert not is_void(state, e.TimerCancelled(2))
    assert is_void(state, e.StepCancelled(2, "charge"))
    assert is_void(state, e.TimerCancelled(1))
    assert not is_void(state, completed(9))


def test_folding_a_history_gives_the_state_that_its_events_led_to() -> None:
    bodies: list[e.EventBody] = [
        scheduled(1),
        e.StepStarted(1, "charge", 1),
        timer(2),
        completed(1),
        BLOCKED,
        e.TimerFired(2),
    ]

    assert fold("run-1", 0, a_history(STARTED, *bodies)) == a_run(*bodies)
    assert fold("run-1", 0, []) == RunState("run-1", 0)
