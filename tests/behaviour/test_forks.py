"""Forks: a new run that shares what another one recorded before a step, and goes on by itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from dramaturg import NotFound, WorkflowFailed, WrongState, current_step, info, now, sleep, step, uuid4, workflow
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of, has_gapless_numbers

ran: Counter[str] = Counter()
keys: set[str] = set()
broken: set[str] = set()


@pytest.fixture
def work() -> Any:
    @step(name="work", retries=0)
    def work_(name: str) -> str:
        context = current_step()
        assert context is not None
        ran[name.split(maxsplit=1)[0]] += 1
        keys.add(context.idempotency_key)
        if name in broken:
            raise ValueError(f"{name} is broken")
        return name.upper()

    ran.clear()
    keys.clear()
    broken.clear()
    return work_


@pytest.mark.selection
@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_fork_shares_what_was_recorded_before_the_step_and_does_the_rest(
    env: WorkflowEnv, work: Any, crashes: bool
) -> None:
    @workflow
    async def flow(first: str) -> list[Any]:
        begun = now()
        one = await work(f"{first} {uuid4()} {begun}")
        await sleep("1h")
        two = await work("b")
        return [one, two, str(uuid4()), await work("c")]

    handle = env.start(flow, "a")
    original = handle.result()
    env.advance("1d")
    if crashes:
        env.crash()
    (_, second, _) = [event["seq"] for event in events_of(handle, "step.scheduled")]

    new = handle.fork(second, by="ada", reason="b was wrong")

    forked = new.result()
    assert new.run_id != handle.run_id
    assert forked[:2] == original[:2]
    assert forked[2] != original[2]
    assert ran == {"a": 1, "b": 2, "c": 2}
    assert len(keys) == 5
    (started,) = events_of(new, "run.started")
    assert (started["forked_from"], started["by"], started["reason"]) == (handle.run_id, "ada", "b was wrong")
    assert has_gapless_numbers(new)
    assert handle.result() == original
    assert new.describe().started_at == env.now

    env.crash()
    third = new.fork([event["seq"] for event in events_of(new, "step.scheduled")][-1])
    assert third.result()[:3] == forked[:3]
    assert ran["c"] == 3


def test_a_fork_with_other_input_does_all_of_it(env: WorkflowEnv, work: Any) -> None:
    @workflow
    async def flow(name: str) -> list[str]:
        return [await work(name), await work("b")]

    handle = env.start(flow, "a")
    handle.result()

    assert handle.fork(1, args=("x",)).result() == ["X", "B"]
    assert handle.fork(1, args={"name": "y"}).result() == ["Y", "B"]
    with pytest.raises(ValueError, match="fork it from step 1"):
        handle.fork(2, args=("x",))
    with pytest.raises(NotFound, match="has no step 9"):
        handle.fork(9)
    assert len(env.client.runs()) == 3


def test_a_failed_run_and_a_retried_one_are_forked_and_open_siblings_run_again(env: WorkflowEnv, work: Any) -> None:
    @workflow
    async def flow() -> list[str]:
        async with asyncio.TaskGroup() as group:
            pair = [group.create_task(work(name)) for name in "ab"]
        return [task.result() for task in pair] + [await work("c")]

    broken.add("c")
    handle = env.start(flow)
    with pytest.raises(WorkflowFailed):
        handle.result()
    handle.retry()
    with pytest.raises(WorkflowFailed):
        handle.result()
    broken.clear()

    new = handle.fork(3)
    assert new.result() == ["A", "B", "C"]
    assert ran == {"a": 1, "b": 1, "c": 3}
    assert [letter.run_id for letter in env.client.dead_letters.list()] == [handle.run_id]
    assert handle.fork(2).result() == ["A", "B", "C"]
    assert ran == {"a": 2, "b": 2, "c": 4}


def test_a_fork_whose_shared_part_would_not_be_the_same_is_refused_and_leaves_nothing(
    env: WorkflowEnv, work: Any
) -> None:
    @workflow
    async def flow() -> list[str]:
        return [await work(info().run_id), await work("b")]

    handle = env.start(flow)
    handle.result()

    with pytest.raises(WrongState, match="cannot be forked there"):
        handle.fork(2)
    assert len(env.client.runs()) == 1
