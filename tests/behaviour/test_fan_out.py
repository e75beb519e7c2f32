"""One step over many items: in order, so many at a time, and spread over child runs where there are very many."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dramaturg import (
    FatalError,
    Step,
    StepFailed,
    WorkflowCancelled,
    WorkflowFailed,
    fan_out,
    fan_out_spread,
    fanning,
    sleep,
    step,
    workflow,
)
from dramaturg import fan_out as fan_out_function
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import types_of

LOG: list[Any] = []
BAD: set[int] = set()
_LOCK = threading.Lock()
UNDER_WAY = [0, 0]


@pytest.fixture(autouse=True)
def _nothing_happened_yet() -> None:
    LOG.clear()
    BAD.clear()
    UNDER_WAY[:] = [0, 0]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a fan-out of a few dozens is a large one."""
    monkeypatch.setattr(fanning, "FEW", 8)
    monkeypatch.setattr(fan_out_spread, "BLOCK", 5)
    monkeypatch.setattr(fan_out_spread, "LEAST_IN_LANE", 2)


@step(retries=0)
def square(number: int, offset: int = 0) -> int:
    with _LOCK:
        LOG.append(number)
    if number in BAD:
        raise FatalError(f"{number} is bad")
    return number * number + offset


@step
def total(numbers: list[int]) -> int:
    return sum(numbers)


@workflow
async def squares(count: int) -> list[int]:
    return await fan_out(square, range(count), 1)


@pytest.mark.selection
def test_results_are_in_the_order_of_the_items(env: WorkflowEnv) -> None:
    assert env.run(squares, 20) == [number * number + 1 for number in range(20)]


def test_no_items_give_no_results(env: WorkflowEnv) -> None:
    assert env.run(squares, 0) == []


@pytest.mark.selection
def test_a_large_one_is_spread_over_child_runs(env: WorkflowEnv, small_blocks: None) -> None:
    handle = env.start(squares, 23)
    assert handle.result() == [number * number + 1 for number in range(23)]
    blocks = env.client.runs(workflow="fan_out:square")
    assert len(blocks) == 5
    assert {run.parent for run in blocks} == {handle.run_id}
    assert all(not event.type.startswith("step.") for event in handle.events())


@workflow
async def two_at_a_time(count: int) -> list[int]:
    return await fan_out(measured, range(count), concurrency=2)


@step
def measured(number: int) -> int:
    with _LOCK:
        UNDER_WAY[0] += 1
        UNDER_WAY[1] = max(UNDER_WAY)
    with _LOCK:
        UNDER_WAY[0] -= 1
    return number


def test_so_many_are_asked_for_at_a_time(env: WorkflowEnv) -> None:
    handle = env.start(two_at_a_time, 7)
    most = 0
    while handle.describe().status in ("PENDING", "RUNNING"):
        most = max(most, len(handle.describe().open))
        if not env.turn():
            env.run_until_idle()
    assert handle.result() == list(range(7))
    assert most <= 2
    events = [event.type for event in handle.events()]
    opened = 0
    for name in events:
        opened += (name == "step.scheduled") - (name == "step.completed")
        assert opened <= 2


@workflow
async def sums(count: int) -> list[int]:
    return await fan_out(total, range(count), chunk=4)


def test_items_go_in_chunks(env: WorkflowEnv) -> None:
    assert env.run(sums, 10) == [6, 22, 17]


def test_items_of_a_large_one_go_in_chunks(env: WorkflowEnv, small_blocks: None) -> None:
    given: list[int] = env.run(sums, 50)
    assert sum(given) == sum(range(50))
    assert env.client.count(workflow="fan_out:total") == 3


@workflow
async def raising(count: int) -> str:
    try:
        await fan_out(square, range(count), concurrency=3)
    except StepFailed as failed:
        return f"{failed.step} {failed.attempts} {failed.error_type.rpartition('.')[2]}: {failed.message}"
    return "no error"


@pytest.mark.selection
@pytest.mark.parametrize("count", [8, 40])
def test_a_failure_is_raised_and_ends_the_others(env: WorkflowEnv, small_blocks: None, count: int) -> None:
    BAD.add(3)
    assert env.run(raising, count) == "square 1 FatalError: 3 is bad"
    env.run_until_idle()
    # What was under way beside it may have come to its end; nothing is asked for after it.
    for run in env.client.runs():
        names = types_of(env.client.handle(run.run_id, run.run_id))
        failure = next(at for at, name in enumerate(names) if name in ("step.failed", "child.closed"))
        assert not {"step.scheduled", "child.started"} & set(names[failure:])
    assert not env.client.count(status=["RUNNING", "WAITING", "PENDING"])


@workflow
async def collecting(count: int) -> list[Any]:
    given = await fan_out(square, range(count), on_error="collect")
    return [f"{each.step}: {each.message}" if isinstance(each, StepFailed) else each for each in given]


@pytest.mark.parametrize("count", [8, 23])
def test_failures_are_collected_in_their_places(env: WorkflowEnv, small_blocks: None, count: int) -> None:
    BAD.update({2, 7})
    expected: list[Any] = [number * number for number in range(count)]
    expected[2], expected[7] = "square: 2 is bad", "square: 7 is bad"
    assert env.run(collecting, count) == expected


@workflow
async def enough(count: int, least: int) -> int:
    given = await fan_out(square, range(count), min_success=least)
    return sum(isinstance(each, StepFailed) for each in given)


@pytest.mark.parametrize("count", [8, 23])
def test_some_may_fail_where_enough_succeed(env: WorkflowEnv, small_blocks: None, count: int) -> None:
    BAD.update({1, 6})
    assert env.run(enough, count, count - 2) == 2
    with pytest.raises(WorkflowFailed, match="is bad"):
        env.run(enough, count, count - 1)


@workflow
async def needs_all(count: int) -> list[int]:
    return await fan_out(square, range(count))


@pytest.mark.parametrize("count", [8, 23])
def test_a_retry_runs_the_failed_members_again_and_keeps_the_others(
    env: WorkflowEnv, small_blocks: None, count: int
) -> None:
    BAD.add(4)
    handle = env.start(needs_all, count)
    with pytest.raises(WorkflowFailed, match="4 is bad"):
        handle.result()
    env.run_until_idle()
    done = {number for number in LOG if number not in BAD}
    recorded = {
        event.data["seq"]
        for run in env.client.runs()
        for event in env.client.handle(run.run_id, run.run_id).events()
        if event.type == "step.completed"
    }
    assert recorded or not done
    LOG.clear()
    BAD.clear()
    env.crash()
    handle.retry()
    assert handle.result() == [number * number for number in range(count)]
    assert 4 in LOG
    assert len(LOG) <= count - len(recorded)


def test_its_progress_is_that_of_the_run(env: WorkflowEnv, small_blocks: None) -> None:
    BAD.add(2)
    for count in (8, 23):

        @workflow(name=f"progressing_{count}")
        async def progressing(number: int) -> int:
            given = await fan_out(square, range(number), on_error="collect")
            await sleep("1d")
            return len(given)

        handle = env.start(progressing, count)
        env.run_until_idle()
        progress = handle.describe().progress
        assert (progress["done"], progress["failed"], progress["total"]) == (count - 1, 1, count)


class Tripler(Step):
    name = "tripler"

    def run(self, number: int) -> int:
        return number * 3


@workflow
async def with_a_class() -> list[int]:
    return await fan_out(Tripler(), [1, 2, 3])


def test_a_step_class_is_fanned_out_too(env: WorkflowEnv) -> None:
    assert env.run(with_a_class) == [3, 6, 9]


def test_a_cancel_reaches_all_blocks(env: WorkflowEnv, small_blocks: None) -> None:
    handle = env.start(needs_all, 23)
    for _ in range(2):
        env.turn()
    handle.cancel()
    with pytest.raises(WorkflowCancelled):
        handle.result()
    env.run_until_idle()
    assert not env.client.count(status=["RUNNING", "WAITING", "PENDING"])


anything: Any = fan_out_function


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: anything(squares, [1]), "takes a step"),
        (lambda: anything(square, [1], concurrency=0), "concurrency must be at least 1"),
        (lambda: anything(square, [1], concurrency="x"), "concurrency must be an int"),
        (lambda: anything(square, [1], chunk=0), "chunk must be at least 1"),
        (lambda: anything(square, [1], on_error="ignore"), "on_error must be"),
        (lambda: anything(square, [1], min_success=2), "there are 1 items"),
        (lambda: anything(square, [1], 2, 3), "too many positional"),
        (lambda: anything(square, ["x"]), "number"),
    ],
)
def test_a_wrong_one_is_refused_where_it_is_asked_for(env: WorkflowEnv, call: Any, error: str) -> None:
    @workflow
    async def asks_wrong() -> str:
        try:
            call()
        except Exception as problem:
            return str(problem)
        return "no error"

    assert error in env.run(asks_wrong)


def test_it_works_inside_a_workflow_only() -> None:
    with pytest.raises(RuntimeError, match="inside a workflow"):
        anything(square, [1])
