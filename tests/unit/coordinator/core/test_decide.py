"""What follows from a message; what is late, doubled or for something settled changes nothing."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

import pytest

from dramaturg_coordinator.core import decide, timeouts
from dramaturg_coordinator.core.retry import GiveUp, Retry, decide_retry
from dramaturg_coordinator.core.run_state import RunState
from dramaturg_protocol import events as e
from dramaturg_protocol.definitions import EffectiveOptions
from dramaturg_protocol.messages import ReportKind, Request, RequestKind
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import WorkItem, WorkKind
from dramaturg_protocol.request_bodies import ControlBody, StartBody
from dramaturg_protocol.retries import RetryPolicy
from tests.unit.coordinator.core.runs import EPOCH, ERROR, a_report, a_run, completed, happen, scheduled, timer

OPTIONS = EffectiveOptions(RetryPolicy(max_attempts=3, jitter=False), timeout=30.0, retry_on_timeout=True)
NO_RETRY = EffectiveOptions(RetryPolicy(max_attempts=1), timeout=30.0, retry_on_timeout=True)
LATER = EPOCH + timedelta(hours=1)


def a_request(kind: RequestKind) -> Request:
    return Request("m-9", kind, "run-1", 0, "{}")


def started(attempt: int = 1) -> e.StepStarted:
    return e.StepStarted(1, "charge", attempt, "worker")


def retrying(attempt: int, at: datetime) -> e.StepRetrying:
    return e.StepRetrying(1, "charge", attempt, ERROR, at)


@pytest.mark.parametrize("kind", list(ReportKind))
@pytest.mark.parametrize(
    "state",
    [
        a_run(),
        a_run(scheduled(2)),
        a_run(scheduled(1), completed(1)),
        a_run(scheduled(1), e.StepCancelled(1, "charge")),
        a_run(scheduled(1), retrying(1, EPOCH)),
        a_run(scheduled(1), e.RunTerminated("m-3")),
    ],
    ids=["never asked for", "another position", "completed", "cancelled", "an attempt before", "closed"],
)
def test_a_report_that_is_late_or_doubled_changes_nothing(state: RunState, kind: ReportKind) -> None:
    assert decide.on_report(state, a_report(kind), OPTIONS, LATER) == ()


def test_a_report_of_an_attempt_that_is_not_due_yet_changes_nothing() -> None:
    state = a_run(scheduled(1), retrying(1, LATER))

    assert decide.on_report(state, a_report(attempt=2), OPTIONS, EPOCH) == ()
    assert len(decide.on_report(state, a_report(attempt=2), OPTIONS, LATER)) == 1


def test_a_report_of_an_attempt_that_was_sent_counts_also_where_the_clock_was_set_back_since() -> None:
    state = a_run(scheduled(1), retrying(1, LATER))

    (event,) = decide.on_report(state, a_report(attempt=2), OPTIONS, EPOCH, has_begun=True)

    assert isinstance(event, e.StepCompleted)


def test_a_report_of_another_generation_changes_nothing() -> None:
    state = a_run(scheduled(1))
    state.steps[1].generation = 2

    assert decide.on_report(state, a_report(), OPTIONS, LATER) == ()


def test_a_step_starts_once_for_each_worker() -> None:
    state = a_run(scheduled(1))
    report = a_report(ReportKind.STARTED, worker="worker")

    (event,) = decide.on_report(state, report, OPTIONS, LATER)
    happen(state, event)

    assert event == started()
    assert decide.on_report(state, report, OPTIONS, LATER) == ()
    assert decide.on_report(state, a_report(ReportKind.STARTED, worker="other"), OPTIONS, LATER) != ()


def test_an_attempt_that_begins_again_after_its_worker_was_lost_is_seen_in_the_history() -> None:
    state = a_run(scheduled(1), started())
    report = a_report(ReportKind.STARTED, worker="worker", delivery=2)

    lost, event = decide.on_report(state, report, OPTIONS, LATER)
    happen(state, lost)
    happen(state, event)

    assert isinstance(lost, e.StepRetrying)
    assert (lost.attempt, lost.reason, lost.delivery, lost.counts) == (1, "redelivered", 2, False)
    assert lost.error.type == "WorkerLost"
    assert event == e.StepStarted(1, "charge", 1, "worker", delivery=2)
    assert decide.on_report(state, report, OPTIONS, LATER) == ()
    # The one that was lost is heard late.
    assert decide.on_report(state, a_report(ReportKind.STARTED, worker="lost"), OPTIONS, LATER) == ()
    # It is the same attempt, handed back never.
    assert (state.steps[1].attempt, state.steps[1].releases, state.steps[1].lost) == (1, 0, 1)


def test_workers_that_were_lost_are_summed_over_all_attempts() -> None:
    state = a_run(scheduled(1))

    def begin(attempt: int, delivery: int) -> list[e.EventBody]:
        report = a_report(ReportKind.STARTED, attempt=attempt, worker=f"{attempt}.{delivery}", delivery=delivery)
        events = list(decide.on_report(state, report, OPTIONS, LATER))
        for event in events:
            happen(state, event)
        return events

    begin(1, 3)
    assert state.steps[1].lost == 2
    (failed,) = decide.on_report(
        state, a_report(ReportKind.FAILED, error_type="ValueError", bases=("ValueError", "Exception")), OPTIONS, EPOCH
    )
    happen(state, failed)
    assert (state.steps[1].attempt, state.steps[1].delivery) == (2, 1)
    assert decide.task_of(state, state.steps[1], OPTIONS).lost == 2

    begin(2, 1)
    (end,) = begin(2, 2)

    assert isinstance(end, e.StepFailed)
    assert end.error.type == "WorkerLost"
    assert "begun 3 times" in end.error.message


def test_each_time_counts_where_the_broker_does_not_count_beyond_two() -> None:
    state = a_run(scheduled(1))

    for worker in ("a", "b"):
        for event in decide.on_report(state, a_report(ReportKind.STARTED, worker=worker, delivery=2), OPTIONS, LATER):
            happen(state, event)
    (end,) = decide.on_report(state, a_report(ReportKind.STARTED, worker="c", delivery=2), OPTIONS, LATER)

    assert isinstance(end, e.StepFailed)
    assert end.error.type == "WorkerLost"


def test_a_result_completes_a_step_and_nothing_is_null() -> None:
    state = a_run(scheduled(1))

    (event,) = decide.on_report(state, a_report(result=Payload("[1]"), worker="w", seconds=2.0), OPTIONS, LATER)
    (nothing,) = decide.on_report(state, a_report(), OPTIONS, LATER)

    assert event == e.StepCompleted(1, "charge", 1, Payload("[1]"), "w", 2.0)
    assert isinstance(nothing, e.StepCompleted)
    assert nothing.result == "null"


def test_a_released_attempt_is_made_again_at_once() -> None:
    (event,) = decide.on_report(a_run(scheduled(1)), a_report(ReportKind.RELEASED), OPTIONS, LATER)

    assert isinstance(event, e.StepRetrying)
    assert (event.retry_at, event.reason, event.counts) == (LATER, "released", False)


def test_a_failure_is_retried_and_after_the_last_attempt_final() -> None:
    report = a_report(ReportKind.FAILED, error_type="ValueError", bases=("ValueError", "Exception"), message="no")

    (again,) = decide.on_report(a_run(scheduled(1)), report, OPTIONS, EPOCH)
    (final,) = decide.on_report(a_run(scheduled(1)), report, NO_RETRY, EPOCH)

    assert again == e.StepRetrying(1, "charge", 1, ERROR, EPOCH + timedelta(seconds=1))
    assert final == e.StepFailed(1, "charge", 1, ERROR)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (OPTIONS, e.StepRetrying),
        (NO_RETRY, e.StepTimedOut),
        (EffectiveOptions(RetryPolicy(), timeout=30.0, retry_on_timeout=False), e.StepTimedOut),
        (
            EffectiveOptions(RetryPolicy(give_up_on=(TimeoutError,)), timeout=30.0, retry_on_timeout=True),
            e.StepTimedOut,
        ),
    ],
)
def test_a_timeout_is_retried_or_final(options: EffectiveOptions, kind: type[e.EventBody]) -> None:
    (event,) = decide.on_report(a_run(scheduled(1)), a_report(ReportKind.TIMED_OUT), options, LATER)

    assert isinstance(event, kind)
    assert "took longer than 30 s" in event.error.message  # type: ignore[union-attr]


def a_due(kind: WorkKind, attempt: int = 1) -> WorkItem:
    return WorkItem("run-1", 1, 1, 0, kind, EPOCH, attempt)


def test_a_timer_fires_when_it_is_due_and_never_before_or_twice() -> None:
    state = a_run(timer(1))
    due = state.timers[1].due

    assert decide.on_due(state, a_due(WorkKind.TIMER), None, due - timedelta(microseconds=1)) == ()
    assert decide.on_due(state, a_due(WorkKind.TIMER), None, due) == (e.TimerFired(1),)
    happen(state, e.TimerFired(1))
    assert decide.on_due(state, a_due(WorkKind.TIMER), None, due) == ()


def test_the_coordinator_gives_an_attempt_up_after_its_timeout_and_a_grace() -> None:
    state = a_run(scheduled(1), started())
    found = timeouts.deadline_of(state.steps[1], OPTIONS, in_queue=False)
    deadline = found.at if found is not None else None

    assert deadline is not None
    assert decide.on_due(state, a_due(WorkKind.STEP), OPTIONS, deadline - timedelta(seconds=1)) == ()
    assert decide.on_due(state, a_due(WorkKind.STEP, attempt=2), OPTIONS, deadline) == ()
    assert len(decide.on_due(state, a_due(WorkKind.STEP), OPTIONS, deadline)) == 1


def test_an_attempt_that_nobody_picked_up_has_no_deadline() -> None:
    state = a_run(scheduled(1))

    assert timeouts.deadline_of(state.steps[1], OPTIONS, in_queue=True) is None
    assert decide.on_due(state, a_due(WorkKind.STEP), OPTIONS, LATER) == ()


def test_a_retry_is_due_once_for_its_attempt() -> None:
    state = a_run(scheduled(1), retrying(1, LATER))

    assert not decide.is_retry_due(state, a_due(WorkKind.RETRY, 2), OPTIONS, EPOCH)
    assert not decide.is_retry_due(state, a_due(WorkKind.RETRY, 1), OPTIONS, LATER)
    assert decide.is_retry_due(state, a_due(WorkKind.RETRY, 2), OPTIONS, LATER)
    of_before = dataclasses.replace(a_due(WorkKind.RETRY, 2), generation=2)
    assert not decide.is_retry_due(state, of_before, OPTIONS, LATER)
    happen(state, started(2))
    assert not decide.is_retry_due(state, a_due(WorkKind.RETRY, 2), OPTIONS, LATER)


def test_the_work_of_a_step_says_what_is_under_way() -> None:
    state = a_run(scheduled(1))
    step = state.steps[1]

    assert decide.work_of_step(state, step, OPTIONS).kind is WorkKind.STEP
    happen(state, retrying(1, LATER))
    waiting = decide.work_of_step(state, step, OPTIONS)
    sent = decide.work_of_step(state, step, OPTIONS, is_sent=True)

    assert (waiting.kind, waiting.due, waiting.attempt) == (WorkKind.RETRY, LATER, 2)
    assert (sent.kind, sent.due) == (WorkKind.STEP, None)


def test_a_run_starts_once() -> None:
    body = StartBody("flow", "wf-1", Payload('{"args":[]}'), None, {"a": 1})
    request = a_request(RequestKind.START)

    (event,) = decide.on_start(RunState("run-1", 0), request, body, version=2, python="3.12", fingerprint="f")

    assert event == e.RunStarted("m-9", "wf-1", "flow", 2, body.input, {"a": 1}, "3.12", "f")
    assert decide.on_start(a_run(), request, body, version=2, python="3.12", fingerprint="f") == ()


def test_a_cancel_counts_once_and_for_open_runs_only() -> None:
    request, body = a_request(RequestKind.CANCEL), ControlBody("ada", "because")

    (event,) = decide.on_cancel(a_run(), request, body)

    assert event == e.RunCancelRequested("m-9", "ada", "because")
    assert decide.on_cancel(a_run(event), request, body) == ()
    assert decide.on_cancel(a_run(e.RunTerminated("m-3")), request, body) == ()
    assert decide.on_cancel(RunState("run-1", 0), request, body) == ()
    assert decide.on_cancel(a_run(e.RunBlocked("stuck", "")), request, body) != ()


def test_a_terminate_ends_open_runs_only() -> None:
    request, body = a_request(RequestKind.TERMINATE), ControlBody()

    assert decide.on_terminate(a_run(), request, body) == (e.RunTerminated("m-9"),)
    assert decide.on_terminate(a_run(e.RunCancelled()), request, body) == ()
    assert decide.on_terminate(RunState("run-1", 0), request, body) == ()


def broken(attempts: int) -> float:
    raise ZeroDivisionError(attempts)


NAMES = ("app.Flaky", "ConnectionError", "OSError", "Exception")


@pytest.mark.parametrize(
    ("policy", "attempts", "is_fatal", "retry_after", "pause"),
    [
        (RetryPolicy(), 1, False, None, 1.0),
        (RetryPolicy(), 2, False, None, 3.0),
        (RetryPolicy(), 7, False, None, 300.0),
        (RetryPolicy(), 8, False, None, None),
        (RetryPolicy(), 1, True, None, None),
        (RetryPolicy(), 1, True, 5.0, None),
        (RetryPolicy(), 1, False, 5.0, 5.0),
        (RetryPolicy(), 1, False, -5.0, 0.0),
        (RetryPolicy(), 8, False, 5.0, None),
        (RetryPolicy(max_attempts=1), 1, False, None, None),
        (RetryPolicy(backoff="linear"), 4, False, None, 4.0),
        (RetryPolicy(backoff="fixed", initial="9s"), 4, False, None, 9.0),
        (RetryPolicy(backoff=lambda attempts: attempts * 10), 4, False, None, 40.0),
        (RetryPolicy(max_attempts=5000, maximum="1d"), 4000, False, None, 86400.0),
        (RetryPolicy(retry_on=(OSError,)), 1, False, None, 1.0),
        (RetryPolicy(retry_on=("app.Flaky",)), 1, False, None, 1.0),
        (RetryPolicy(retry_on=(ValueError,)), 1, False, None, None),
        (RetryPolicy(retry_on=(ValueError,)), 1, False, 5.0, None),
        (RetryPolicy(give_up_on=(ConnectionError,)), 1, False, None, None),
        (RetryPolicy(give_up_on=(ConnectionError,)), 1, False, 5.0, None),
        (RetryPolicy(give_up_on=("other.Flaky",)), 1, False, None, 1.0),
        (RetryPolicy(backoff=broken), 1, False, None, None),
        (RetryPolicy(backoff=broken), 1, False, 5.0, 5.0),
    ],
)
@pytest.mark.parametrize("jitter", [False, True])
def test_whether_and_when_a_step_is_tried_again(
    policy: RetryPolicy, attempts: int, is_fatal: bool, retry_after: float | None, pause: float | None, jitter: bool
) -> None:
    object.__setattr__(policy, "jitter", jitter)

    decision = decide_retry(
        policy,
        attempts=attempts,
        error_names=NAMES,
        is_fatal=is_fatal,
        retry_after=retry_after,
        now=EPOCH,
        seed="run-1:1:1:1",
    )

    if pause is None:
        assert isinstance(decision, GiveUp)
        return
    assert isinstance(decision, Retry)
    actual = (decision.at - EPOCH).total_seconds()
    is_exact = retry_after is not None or not jitter
    assert actual == pause if is_exact else pause / 2 <= actual < pause


def test_jitter_follows_from_the_attempt() -> None:
    def pause(seed: str) -> datetime:
        decision = decide_retry(
            RetryPolicy(), attempts=1, error_names=NAMES, is_fatal=False, retry_after=None, now=EPOCH, seed=seed
        )
        assert isinstance(decision, Retry)
        return decision.at

    assert pause("a") == pause("a") != pause("b")
