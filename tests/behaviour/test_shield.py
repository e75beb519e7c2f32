"""Clean-up inside a shield is not interrupted, whatever it awaits; what would have interrupted it comes afterwards."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from dramaturg import (
    RunEnded,
    StepFailed,
    StepFunction,
    WorkflowCancelled,
    WorkflowTerminated,
    shield,
    sleep,
    step,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of, outcomes_of, types_of

WAIT = 60.0

noted: list[str] = []
began = threading.Event()
release = threading.Event()
note: StepFunction[[str], str]
hold: StepFunction[[], str]
fail: StepFunction[[], None]


@pytest.fixture(autouse=True)
def _steps() -> Any:
    global note, hold, fail

    @step(name="note")
    def note_(text: str) -> str:
        noted.append(text)
        return text

    @step(name="hold")
    def hold_() -> str:
        began.set()
        release.wait(WAIT)
        return "held"

    @step(name="fail", retries=0)
    def fail_() -> None:
        raise ValueError("no")

    note, hold, fail = note_, hold_, fail_
    noted.clear()
    began.clear()
    release.clear()
    yield
    release.set()


async def a_timer() -> None:
    await sleep("1h")


async def a_step() -> None:
    await note("step")


async def a_task_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(sleep("1h"))
        group.create_task(note("member"))


async def a_gather() -> None:
    await asyncio.gather(note("member"), asyncio.sleep(100))


async def a_task() -> None:
    await asyncio.create_task(a_timer())


async def nested() -> None:
    async with shield():
        await a_timer()
    await sleep("1h")


CLEAN_UPS = pytest.mark.parametrize("clean_up", [a_timer, a_step, a_task_group, a_gather, a_task, nested])


@CLEAN_UPS
@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_cancel_waits_for_the_end_of_the_shield(
    env: WorkflowEnv, clean_up: Callable[[], Coroutine[Any, Any, None]], crashes: bool
) -> None:
    @workflow
    async def flow() -> str:
        async with shield():
            await sleep("1d")
            await clean_up()
            await note("cleaned up")
        return "never"

    handle = env.start(flow)
    env.run_until_idle()
    handle.cancel()
    env.run_until_idle()
    if crashes:
        env.crash()

    with pytest.raises(WorkflowCancelled):
        handle.result()
    assert noted[-1] == "cleaned up"
    assert "step.cancelled" not in types_of(handle)
    assert "timer.cancelled" not in types_of(handle)
    assert set(outcomes_of(handle).values()) == {1}


@CLEAN_UPS
def test_clean_up_after_a_cancel_is_not_cancelled_a_second_time(
    env: WorkflowEnv, clean_up: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    @workflow
    async def flow() -> None:
        async def worker() -> None:
            try:
                await sleep("30d")
            finally:
                async with shield():
                    await sleep("1m")
                    await clean_up()
                    await note("cleaned up")

        task = asyncio.create_task(worker())
        try:
            await asyncio.shield(task)
        finally:
            task.cancel()
            await sleep("1s")
            task.cancel()
            await asyncio.wait([task])

    handle = env.start(flow)
    env.run_until_idle()
    handle.cancel()

    with pytest.raises(WorkflowCancelled):
        handle.result()
    assert noted[-1] == "cleaned up"
    assert "step.cancelled" not in types_of(handle)


def test_a_step_that_runs_inside_a_shield_goes_on(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        async with shield():
            assert await hold() == "held"
            await note("after it")

    handle = env.start(flow)
    while not began.is_set():
        env.turn()
    handle.cancel()
    while "run.cancel_requested" not in types_of(handle):
        env.turn()
    release.set()

    with pytest.raises(WorkflowCancelled):
        handle.result()
    assert noted == ["after it"]
    assert len(events_of(handle, "step.completed")) == 2


def test_the_cancel_is_raised_where_the_shield_ends(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        try:
            async with shield():
                await sleep("1d")
            await note("never")
        except asyncio.CancelledError:
            return "at its end"
        return "never"

    handle = env.start(flow)
    env.run_until_idle()
    handle.cancel()

    assert handle.result() == "at its end"
    assert noted == []


def test_it_is_raised_once(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        try:
            async with shield():
                await sleep("1d")
        except asyncio.CancelledError:
            pass
        await sleep("1d")
        return await note("went on")

    handle = env.start(flow)
    env.run_until_idle()
    handle.cancel()

    assert handle.result() == "went on"


def test_an_inner_shield_leaves_it_to_the_outer_one(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        async with shield():
            async with shield():
                await sleep("1d")
            await note("between")
            await sleep("1d")
            await note("outer")

    handle = env.start(flow)
    env.run_until_idle()
    handle.cancel()

    with pytest.raises(WorkflowCancelled):
        handle.result()
    assert noted == ["between", "outer"]


def test_a_timeout_around_a_shield_waits_for_it(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        try:
            async with asyncio.timeout(60):
                async with shield():
                    await sleep("1h")
                    await note("in time")
        except TimeoutError:
            await sleep("1h")
            return "then it was over"
        return "never"

    assert env.run(flow) == "then it was over"
    assert noted == ["in time"]


async def times_out() -> None:
    async with asyncio.timeout(60):
        await sleep("1d")


async def waits_for_too_long() -> None:
    await asyncio.wait_for(sleep("1d"), 60)


async def has_a_member_that_fails() -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(as_coroutine(fail()))
            await sleep("1d")
    except* StepFailed:
        raise TimeoutError from None


async def as_coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable


@pytest.mark.parametrize("inner", [times_out, waits_for_too_long, has_a_member_that_fails])
def test_timeouts_and_task_groups_inside_a_shield_work(
    env: WorkflowEnv, inner: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    @workflow
    async def flow() -> str:
        async with shield():
            try:
                await inner()
            except TimeoutError:
                return await note("it was interrupted")
        return "never"

    handle = env.start(flow)

    assert handle.result() == "it was interrupted"


def test_a_member_of_a_group_outside_that_fails_waits_for_the_shield(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(as_coroutine(fail()))
                async with shield():
                    await sleep("1d")
                    await note("cleaned up")
                await note("never")
        except* StepFailed:
            pass
        return "the group failed"

    assert env.run(flow) == "the group failed"
    assert noted == ["cleaned up"]


def test_an_error_inside_comes_before_the_cancel(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        try:
            async with shield():
                await sleep("1d")
                await fail()
        except StepFailed:
            return "failed"
        return "never"

    handle = env.start(flow)
    env.run_until_idle()
    handle.cancel()

    # The task is cancelled all the same: it ends, and does not go on.
    with pytest.raises(WorkflowCancelled):
        handle.result()


def test_terminate_ends_a_shielded_run(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        async with shield():
            await sleep("1d")
            await note("never")

    handle = env.start(flow)
    env.run_until_idle()
    handle.terminate()

    with pytest.raises(WorkflowTerminated):
        handle.result()
    env.advance("2d")
    assert noted == []


def test_a_shield_is_entered_once(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        block = shield()
        async with block:
            pass
        try:
            async with block:
                pass
        except RuntimeError as error:
            return str(error)
        return "never"

    assert env.run(flow) == "a shield is entered once: write shield() again"


def test_outside_of_a_workflow_there_is_none() -> None:
    with pytest.raises(RuntimeError, match="inside a workflow only"):
        shield()


@pytest.mark.parametrize("is_cancelled_first", [False, True], ids=["", "after a cancel"])
def test_the_time_out_of_the_run_does_not_interrupt_it(env: WorkflowEnv, is_cancelled_first: bool) -> None:
    @workflow(timeout="1h")
    async def flow() -> None:
        try:
            await sleep("30m")
        finally:
            async with shield():
                await sleep("2h")
                await note("cleaned up")

    handle = env.start(flow)
    env.run_until_idle()
    if is_cancelled_first:
        handle.cancel()

    with pytest.raises(RunEnded):
        handle.result()
    assert noted == ["cleaned up"]
    assert types_of(handle).count("timer.fired") >= 1
