"""Every open run has a next cause, and one that lost it is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dramaturg_coordinator.core.audit import gaps
from dramaturg_coordinator.core.evolve import fold
from dramaturg_coordinator.core.run_state import RunState
from dramaturg_protocol import events as e
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import WorkItem, WorkKind

AT = datetime(2030, 1, 1, tzinfo=UTC)
LATER = AT + timedelta(hours=1)
STARTED = e.RunStarted("m", "id", "flow", 1, Payload("[]"), {}, "3.11", "f")
STEP = e.StepScheduled(1, "pay", Payload("[]"), "default")
TIMER = e.TimerStarted(2, LATER)
RETRYING = e.StepRetrying(1, "pay", 1, e.ErrorInfo("ValueError", "no"), LATER)
STEP_ROW = WorkItem("run", 1, 1, 1, WorkKind.STEP, None, 1, "{}")
RETRY_ROW = WorkItem("run", 1, 1, 1, WorkKind.RETRY, LATER, 2, "{}")
FAILED_FOR_NOW = e.RunRetrying(e.ErrorInfo("ValueError", "no"), (), 1, LATER)
NEXT_TRY_ROW = WorkItem("run", 0, 1, 1, WorkKind.NEXT_TRY, LATER)
TIMER_ROW = WorkItem("run", 1, 2, 1, WorkKind.TIMER, LATER)
APPROVAL = e.ApprovalRequested(3, "legal", due=LATER)
HOOK = e.HookCreated(4, "paid")
APPROVAL_ROW = WorkItem("run", 1, 3, 1, WorkKind.APPROVAL, LATER, message="{}")
HOOK_ROW = WorkItem("run", 1, 4, 1, WorkKind.HOOK, None, message="{}")


def a_state(*bodies: e.EventBody) -> RunState:
    return fold("run", 1, [e.HistoryEvent(number, AT, body) for number, body in enumerate(bodies, 1)])


def problems(bodies: Sequence[e.EventBody], rows: Sequence[WorkItem] = (), *, has_requests: bool = False) -> list[str]:
    return [gap.problem for gap in gaps(a_state(*bodies), rows, has_requests=has_requests)]


@pytest.mark.parametrize(
    ("bodies", "rows", "has_requests"),
    [
        ([STARTED, STEP, TIMER], [STEP_ROW, TIMER_ROW], False),
        ([STARTED, STEP, RETRYING], [RETRY_ROW], False),
        ([STARTED, STEP, RETRYING], [replace(RETRY_ROW, kind=WorkKind.STEP, due=None)], False),
        ([STARTED, FAILED_FOR_NOW], [NEXT_TRY_ROW], False),
        ([STARTED, APPROVAL], [APPROVAL_ROW], False),
        ([STARTED, HOOK], [HOOK_ROW], False),
        ([STARTED], [], True),
        ([], [], True),
        ([STARTED, e.RunBlocked("stuck", "")], [], False),
        ([STARTED, e.RunCompleted(Payload("1"))], [], False),
    ],
    ids=[
        "in flight",
        "retry waits",
        "retry is out",
        "next try",
        "an approval",
        "a hook",
        "a request waits",
        "a start waits",
        "blocked",
        "closed",
    ],
)
def test_a_run_with_a_next_cause_has_no_gap(
    bodies: Sequence[e.EventBody], rows: Sequence[WorkItem], has_requests: bool
) -> None:
    assert problems(bodies, rows, has_requests=has_requests) == []


@pytest.mark.parametrize(
    ("bodies", "rows", "problem"),
    [
        ([STARTED, FAILED_FOR_NOW], [], "it waits for its next try and has no row of open work: that never begins"),
        ([STARTED, STEP, TIMER], [TIMER_ROW], "step 'pay' is open and has no row"),
        ([STARTED, APPROVAL], [], "approval 'legal' is open and has no row"),
        ([STARTED, HOOK], [replace(HOOK_ROW, due=LATER)], "hook 'paid' is due None, and its row is of kind hook"),
        ([STARTED, STEP, TIMER], [STEP_ROW], "a timer runs and has no row"),
        ([STARTED, TIMER], [replace(TIMER_ROW, due=None)], "cannot fire"),
        ([STARTED, STEP], [replace(STEP_ROW, kind=WorkKind.TIMER)], "has the row of a timer"),
        ([STARTED, STEP, RETRYING], [STEP_ROW], "is at attempt 2, and its row at attempt 1"),
        ([STARTED, STEP, RETRYING], [replace(RETRY_ROW, due=None)], "has no time at which it is due"),
        ([STARTED, STEP], [replace(RETRY_ROW, attempt=1)], "waits for its next attempt"),
        ([STARTED], [], "nothing is under way that could wake it"),
        ([STARTED, STEP], [STEP_ROW, TIMER_ROW], "stands for nothing that is open"),
        ([STARTED, e.RunCompleted(Payload("1"))], [STEP_ROW], "outlived the run"),
        ([], [], "no start waits in the inbox"),
    ],
)
def test_a_run_that_lost_its_next_cause_is_found(
    bodies: Sequence[e.EventBody], rows: Sequence[WorkItem], problem: str
) -> None:
    (found,) = problems(bodies, rows)

    assert problem in found


def test_a_request_does_not_make_up_for_a_lost_row() -> None:
    assert problems([STARTED, STEP], [], has_requests=True)
