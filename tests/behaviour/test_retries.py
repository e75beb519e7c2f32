"""Retries by policy: how often, when, after which errors, and where the defaults come from."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from dramaturg import (
    FatalError,
    RetryableError,
    RetryPolicy,
    Settings,
    StepFailed,
    StepFunction,
    WorkflowFailed,
    now,
    step,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.definitions import registry
from tests.behaviour.histories import events_of


class Flaky(ConnectionError):
    """A class of its own, with bases."""


def attempts_of(env: WorkflowEnv, function: StepFunction[..., Any]) -> tuple[list[datetime], StepFailed | None]:
    """Run a step in a workflow; when each attempt but the first was due, and how it failed."""
    failures: list[StepFailed] = []

    @workflow(name=f"run_{function.name}")
    async def flow() -> datetime:
        try:
            await function()
        except StepFailed as error:
            failures.append(error)
        return now()

    handle = env.start(flow)
    start = env.now
    handle.result()
    due = [datetime.fromisoformat(data["retry_at"]) for data in events_of(handle, "step.retrying")]
    return [start, *due], failures[-1] if failures else None


def pauses_of(moments: list[datetime]) -> list[float]:
    return [(after - before).total_seconds() for before, after in pairwise(moments)]


def failing(error: BaseException | None = None, **options: Any) -> StepFunction[[], None]:
    @step(name="fail", **options)
    def fail() -> None:
        raise error or ValueError("no")

    return fail


def test_by_default_there_are_eight_attempts_in_about_ten_minutes(env: WorkflowEnv) -> None:
    moments, failure = attempts_of(env, failing())

    assert failure is not None
    assert failure.attempts == len(moments) == 8
    for pause, full in zip(pauses_of(moments), [1, 3, 9, 27, 81, 243, 300], strict=True):
        assert full / 2 <= pause <= full
    assert len({round(pause / full, 6) for pause, full in zip(pauses_of(moments), [1, 3, 9, 27], strict=False)}) == 4


@pytest.mark.parametrize(
    ("policy", "pauses"),
    [
        (RetryPolicy(max_attempts=4, jitter=False), [1, 3, 9]),
        (RetryPolicy(max_attempts=4, jitter=False, backoff="linear", initial="2s"), [2, 4, 6]),
        (RetryPolicy(max_attempts=4, jitter=False, backoff="fixed", initial="1m"), [60, 60, 60]),
        (RetryPolicy(max_attempts=4, jitter=False, multiplier=10, maximum="50s"), [1, 10, 50]),
        (RetryPolicy(max_attempts=3, jitter=False, backoff=lambda attempt: timedelta(hours=attempt)), [300, 300]),
        (RetryPolicy(max_attempts=3, jitter=False, maximum="1d", backoff=lambda attempt: attempt * 7), [7, 14]),
        (RetryPolicy(max_attempts=1), []),
    ],
)  # fmt: skip
def test_pauses_follow_the_policy(env: WorkflowEnv, policy: RetryPolicy, pauses: list[float]) -> None:
    moments, _ = attempts_of(env, failing(retries=policy))

    assert pauses_of(moments) == pauses


def test_a_number_of_retries_is_that_many_after_the_first(env: WorkflowEnv) -> None:
    moments, failure = attempts_of(env, failing(retries=2))

    assert len(moments) == 3
    assert failure is not None
    assert failure.attempts == 3


def test_jitter_is_the_same_when_it_is_decided_again(env: WorkflowEnv) -> None:
    function = failing(retries=2)
    first, _ = attempts_of(env, function)
    second, _ = attempts_of(env, function)

    assert pauses_of(first) != pauses_of(second)


@pytest.mark.parametrize(
    ("policy", "attempts"),
    [
        (RetryPolicy(max_attempts=3, retry_on=(ConnectionError,)), 3),
        (RetryPolicy(max_attempts=3, retry_on=(OSError,)), 3),
        (RetryPolicy(max_attempts=3, retry_on=(f"{__name__}.Flaky",)), 3),
        (RetryPolicy(max_attempts=3, retry_on=(ValueError,)), 1),
        (RetryPolicy(max_attempts=3, give_up_on=(OSError,)), 1),
        (RetryPolicy(max_attempts=3, give_up_on=("ConnectionError",), retry_on=(OSError,)), 1),
        (RetryPolicy(max_attempts=3, give_up_on=(ValueError,)), 3),
        (RetryPolicy(max_attempts=3, retry_on=()), 1),
    ],
)
def test_errors_are_compared_by_the_names_of_their_bases(env: WorkflowEnv, policy: RetryPolicy, attempts: int) -> None:
    moments, _ = attempts_of(env, failing(Flaky("no"), retries=policy))

    assert len(moments) == attempts


@pytest.mark.selection
def test_a_retryable_error_says_itself_when(env: WorkflowEnv) -> None:
    moments, _ = attempts_of(env, failing(RetryableError("later", retry_after="2h"), retries=2))

    assert pauses_of(moments) == [7200, 7200]


def test_a_fatal_error_is_never_retried(env: WorkflowEnv) -> None:
    class Refused(FatalError):
        pass

    moments, failure = attempts_of(env, failing(Refused("never"), retries=5))

    assert len(moments) == 1
    assert failure is not None
    assert failure.message == "never"


def test_a_back_off_that_raises_is_named_and_ends_the_retries(env: WorkflowEnv) -> None:
    def broken(attempt: int) -> float:
        raise ZeroDivisionError("oops")

    moments, failure = attempts_of(env, failing(retries=RetryPolicy(backoff=broken)))

    assert len(moments) == 1
    assert failure is not None
    assert failure.error_type == "ValueError"
    assert "back-off function of its retry policy raised ZeroDivisionError: oops" in failure.message


@pytest.mark.parametrize("value", ["soon", None, -5, object(), float("nan")])
def test_a_back_off_that_gives_nonsense_ends_the_retries(env: WorkflowEnv, value: Any) -> None:
    moments, failure = attempts_of(env, failing(retries=RetryPolicy(backoff=lambda _: value)))

    assert len(moments) == 1
    assert failure is not None
    assert "back-off function" in failure.message


def test_a_call_may_have_options_of_its_own(env: WorkflowEnv) -> None:
    function = failing(retries=5)

    moments, _ = attempts_of(env, function.options(retries=RetryPolicy(max_attempts=2, backoff="fixed", jitter=False)))
    others, _ = attempts_of(env, function.options(retries=0, queue="other"))

    assert pauses_of(moments) == [1]
    assert len(others) == 1


def test_a_call_cannot_have_a_back_off_function_of_its_own() -> None:
    with pytest.raises(TypeError, match="a function is not data"):
        failing().options(retries=RetryPolicy(backoff=lambda _: 1))


def test_unknown_and_wrong_options_are_errors_where_they_are_given() -> None:
    function = failing()

    with pytest.raises(TypeError, match="no option 'retrys'; did you mean 'retries'"):
        function.options(retrys=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="option retries: retries must not be negative"):
        function.options(retries=-1)
    with pytest.raises(TypeError, match="option timeout"):
        step(timeout=object())  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="option queue"):
        step(queue="not a queue!")
    with pytest.raises(ValueError, match="option timeout: timeout must be longer than zero"):
        step(timeout=0)


def test_defaults_come_from_queue_and_project_and_the_nearest_wins(make_env: Callable[..., WorkflowEnv]) -> None:
    settings = Settings(
        step={"retries": 3, "queue": "everyday"}, queue={"quick": {"retries": 1}, "everyday": {"timeout": "1m"}}
    )

    @step
    def plain() -> None:
        raise ValueError

    @step(queue="quick")
    def quick() -> None:
        raise ValueError

    @step(queue="quick", retries=2)
    def own() -> None:
        raise ValueError

    with make_env(settings=settings) as env:
        assert len(attempts_of(env, plain)[0]) == 4
        assert len(attempts_of(env, quick)[0]) == 2
        assert len(attempts_of(env, own)[0]) == 3
        assert len(attempts_of(env, own.options(retries=0))[0]) == 1
        handle = env.start(plain)
        with pytest.raises(WorkflowFailed):
            handle.result()
        assert events_of(handle, "step.scheduled")[0]["queue"] == "everyday"


def test_changed_options_hold_from_the_next_attempt_on(env: WorkflowEnv) -> None:
    functions: list[StepFunction[[], None]] = []

    @workflow
    async def flow() -> int:
        try:
            await functions[-1]()
        except StepFailed as error:
            return error.attempts
        return 0

    functions.append(failing(retries=RetryPolicy(backoff="fixed", initial="1h", maximum="1d")))
    handle = env.start(flow)
    env.run_until_idle()
    registry.steps.pop("fail")
    functions.append(failing(retries=1))
    env.restart()

    assert handle.result() == 2
