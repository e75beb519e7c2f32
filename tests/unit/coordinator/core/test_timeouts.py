"""The limits of a step's time, as values: when each is reached, and what follows."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from dramaturg_coordinator.core import decide, timeouts
from dramaturg_coordinator.core.timeouts import SKEW_PAUSE, TIMEOUT_GRACE, Limit
from dramaturg_protocol import events as e
from dramaturg_protocol.definitions import EffectiveOptions
from dramaturg_protocol.messages import ReportKind
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import WorkItem, WorkKind
from dramaturg_protocol.retries import RetryPolicy
from dramaturg_protocol.signs import Sign, decode_sign
from tests.unit.coordinator.core.runs import EPOCH, ERROR, a_report, a_run, happen, scheduled

SCHEDULED_AT = EPOCH + timedelta(seconds=1)


def options(**limits: float) -> EffectiveOptions:
    policy = RetryPolicy(max_attempts=3)
    plain = EffectiveOptions(policy, limits.pop("timeout", None), retry_on_timeout=True)
    return dataclasses.replace(plain, **limits)  # type: ignore[arg-type]


def began(attempt: int = 1) -> e.StepStarted:
    return e.StepStarted(1, "charge", attempt, "worker-1")


def due(attempt: int = 1) -> WorkItem:
    return WorkItem("run-1", 1, 1, 0, WorkKind.STEP, None, attempt)


def test_the_time_in_the_queue_counts_until_the_pick_up() -> None:
    state = a_run(scheduled(1))
    limits = options(queue_timeout=60, timeout=10)
    deadline = SCHEDULED_AT + timedelta(seconds=60)

    assert decide.work_of_step(state, state.steps[1], limits).due == deadline
    assert decide.on_due(state, due(), limits, deadline - timedelta(microseconds=1)) == ()
    (timed_out,) = decide.on_due(state, due(), limits, deadline)
    assert isinstance(timed_out, e.StepTimedOut)
    assert timed_out.limit == Limit.QUEUE

    happen(state, began())
    assert decide.work_of_step(state, state.steps[1], limits).due == EPOCH + timedelta(seconds=10) + TIMEOUT_GRACE


def test_a_message_says_until_when_it_may_be_picked_up_and_one_that_was_is_not_held_to_that() -> None:
    state = a_run(scheduled(1))
    limits = options(queue_timeout=60, total_timeout=600)

    assert decide.task_of(state, state.steps[1], limits).start_by == SCHEDULED_AT + timedelta(seconds=60)
    happen(state, began())
    assert decide.task_of(state, state.steps[1], limits).start_by == SCHEDULED_AT + timedelta(seconds=600)


def test_the_time_in_the_queue_of_a_later_attempt_counts_from_its_own_publication() -> None:
    retry_at = EPOCH + timedelta(hours=1)
    state = a_run(scheduled(1), e.StepRetrying(1, "charge", 1, ERROR, retry_at))
    limits = options(queue_timeout=60)

    assert decide.work_of_step(state, state.steps[1], limits).due == retry_at
    assert decide.work_of_step(state, state.steps[1], limits, is_sent=True).due == retry_at + timedelta(seconds=60)
    assert decide.on_due(state, due(2), limits, retry_at + timedelta(seconds=59)) == ()
    assert len(decide.on_due(state, due(2), limits, retry_at + timedelta(seconds=60))) == 1


def test_what_waited_while_the_run_was_paused_has_its_time_in_the_queue_afterwards() -> None:
    state = a_run(scheduled(1), e.StepRetrying(1, "charge", 1, ERROR, SCHEDULED_AT), e.RunPaused("p"))
    limits = options(queue_timeout=1)

    assert decide.on_due(state, due(2), limits, EPOCH + timedelta(days=1)) == ()
    resumed = e.HistoryEvent(state.number + 1, EPOCH + timedelta(days=1), e.RunResumed("r"))
    from dramaturg_coordinator.core.evolve import evolve

    evolve(state, resumed)
    assert decide.on_due(state, due(2), limits, EPOCH + timedelta(days=1, milliseconds=900)) == ()
    assert len(decide.on_due(state, due(2), limits, EPOCH + timedelta(days=1, seconds=1))) == 1


def test_a_heartbeat_moves_the_deadline_of_its_own_attempt_only() -> None:
    state = a_run(scheduled(1), began())
    limits = options(heartbeat_timeout=30)
    beat_at = EPOCH + timedelta(minutes=10)
    mine, before = Sign(1, beat_at), Sign(0, beat_at)
    over = EPOCH + timedelta(seconds=32) + TIMEOUT_GRACE

    assert (
        decide.work_of_step(state, state.steps[1], limits, mine).due == beat_at + timedelta(seconds=30) + TIMEOUT_GRACE
    )
    assert decide.work_of_step(state, state.steps[1], limits, before).due == over
    assert decide.on_due(state, due(), limits, over, mine) == ()
    (retrying,) = decide.on_due(state, due(), limits, over, before)
    assert isinstance(retrying, e.StepRetrying)
    assert "no heartbeat for 30 s" in retrying.error.message


def test_what_a_step_says_of_itself_outlives_its_attempt_where_the_next_needs_it() -> None:
    state = a_run(scheduled(1), began())
    step = state.steps[1]
    said = a_report(ReportKind.ALIVE, beat=True, heartbeat=Payload("[7]"))
    sign = decide.sign_after(step, said, None, EPOCH)
    assert sign == Sign(1, EPOCH, Payload("[7]"))
    assert decide.on_report(state, said, options(), EPOCH) == ()
    assert decide.sign_after(step, a_report(ReportKind.COMPLETED), sign, EPOCH) is sign

    happen(state, e.StepRetrying(1, "charge", 1, ERROR, EPOCH))
    item = decide.work_of_step(state, step, options(), sign, is_sent=True)

    assert item.task is not None
    assert item.task.heartbeat == "[7]"
    assert item.sign is not None
    assert decode_sign(item.sign) == sign
    assert decide.sign_after(step, said, sign, EPOCH + timedelta(hours=1)) is sign, (
        "the word of an attempt that is over"
    )


def test_the_whole_time_bounds_each_attempt() -> None:
    state = a_run(scheduled(1))
    step = state.steps[1]

    assert timeouts.attempt_limit(step, options(total_timeout=60)) == (60, Limit.TOTAL)
    assert timeouts.attempt_limit(step, options(total_timeout=60, timeout=10)) == (10, Limit.ATTEMPT)
    happen(state, e.StepRetrying(1, "charge", 1, ERROR, SCHEDULED_AT + timedelta(seconds=55)))
    assert timeouts.attempt_limit(step, options(total_timeout=60, timeout=10)) == (5, Limit.TOTAL)


def test_a_retry_that_comes_too_late_is_not_begun() -> None:
    retry_at = SCHEDULED_AT + timedelta(seconds=50)
    state = a_run(scheduled(1), e.StepRetrying(1, "charge", 1, ERROR, retry_at))
    limits = options(total_timeout=60)
    item = WorkItem("run-1", 1, 1, 0, WorkKind.RETRY, retry_at, 2)

    assert decide.is_retry_due(state, item, limits, retry_at)
    assert not decide.is_retry_due(state, item, limits, SCHEDULED_AT + timedelta(seconds=60))
    (timed_out,) = decide.on_due(state, item, limits, SCHEDULED_AT + timedelta(seconds=60))
    assert isinstance(timed_out, e.StepTimedOut)
    assert "last error: ValueError: no" in timed_out.error.message


def test_a_worker_whose_clock_is_ahead_ends_no_step_early() -> None:
    state = a_run(scheduled(1))
    limits = options(queue_timeout=60)
    dropped = a_report(ReportKind.EXPIRED)
    early, late = SCHEDULED_AT + timedelta(seconds=1), SCHEDULED_AT + timedelta(seconds=60)

    (retrying,) = decide.on_report(state, dropped, limits, early)
    assert isinstance(retrying, e.StepRetrying)
    assert (retrying.counts, retrying.retry_at) == (False, early + SKEW_PAUSE)
    (timed_out,) = decide.on_report(state, dropped, limits, late)
    assert isinstance(timed_out, e.StepTimedOut)


def test_a_step_that_was_under_way_for_a_while_before_it_was_told_of_began_then() -> None:
    state = a_run(scheduled(1), e.StepStarted(1, "charge", 1, "w", seconds=2.0))

    assert state.steps[1].started_at == SCHEDULED_AT + timedelta(seconds=1) - timedelta(seconds=2)
    assert state.time == SCHEDULED_AT + timedelta(seconds=1)


def test_the_word_of_an_attempt_that_was_handed_back_is_not_that_of_the_next() -> None:
    state = a_run(scheduled(1), e.StepRetrying(1, "charge", 1, ERROR, EPOCH, "released", counts=False))

    assert decide.on_report(state, a_report(ReportKind.STARTED), options(), EPOCH) == ()
    assert len(decide.on_report(state, a_report(ReportKind.STARTED, release=1), options(), EPOCH)) == 1
