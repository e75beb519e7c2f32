"""The time of a run as a whole: its code is cancelled, may clean up, and the run ends as timed out."""

from __future__ import annotations

import asyncio

import pytest

from dramaturg import WorkflowTimedOut, shield, sleep, step, workflow
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of, has_gapless_numbers, types_of

pytestmark = pytest.mark.behaviour


@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_run_whose_time_is_over_is_cancelled_and_ends_as_timed_out(env: WorkflowEnv, crashes: bool) -> None:
    cleaned: list[str] = []

    @step
    def clean_up(what: str) -> None:
        cleaned.append(what)

    @workflow(timeout="2h")
    async def flow() -> None:
        try:
            await sleep("3d")
        except asyncio.CancelledError:
            async with shield():
                await clean_up("room")
            raise

    began = env.now
    handle = env.start(flow)
    env.run_until_idle()
    if crashes:
        env.crash()

    with pytest.raises(WorkflowTimedOut):
        handle.result()
    assert (env.now - began).total_seconds() == 2 * 3600
    assert cleaned == ["room"]
    assert handle.describe().status == "TIMED_OUT"
    (asked,) = events_of(handle, "run.cancel_requested")
    assert asked["timed_out"]
    assert "timeout of 7200 s" in asked["reason"]
    assert types_of(handle)[-1] == "run.timed_out"
    assert not env.database.reads.open_work(handle.run_id)


def test_a_run_that_ends_in_time_is_not_touched(env: WorkflowEnv) -> None:
    @workflow(timeout="2h")
    async def flow() -> str:
        await sleep("1h")
        return "done"

    handle = env.start(flow)

    assert handle.result() == "done"
    env.advance("5h")
    assert handle.describe().status == "COMPLETED"
    assert not env.database.reads.open_work(handle.run_id)


def test_a_cancelled_run_is_not_timed_out_while_it_cleans_up(env: WorkflowEnv) -> None:
    @workflow(timeout="1h")
    async def flow() -> str:
        try:
            await sleep("3d")
        except asyncio.CancelledError:
            async with shield():
                await sleep("2h")
        return "cleaned up"

    handle = env.start(flow)
    env.run_until_idle()
    handle.cancel()
    env.advance("3h")

    assert len(events_of(handle, "run.cancel_requested")) == 1
    assert handle.describe().status != "TIMED_OUT"


def test_a_timed_out_run_goes_on_where_it_was_with_a_new_time(env: WorkflowEnv) -> None:
    ran: list[str] = []

    @step
    def work(name: str) -> str:
        ran.append(name)
        return name

    @workflow(timeout="1h")
    async def flow() -> str:
        first = await work("a")
        await sleep("90m")
        return first + await work("b")

    handle = env.start(flow)
    with pytest.raises(WorkflowTimedOut):
        handle.result()

    handle.retry(by="ada")

    assert handle.result() == "ab"
    assert ran == ["a", "b"]
    assert has_gapless_numbers(handle)


def test_a_paused_run_times_out_and_cleans_up(env: WorkflowEnv) -> None:
    @workflow(timeout="1h")
    async def flow() -> None:
        await sleep("3d")

    handle = env.start(flow)
    env.run_until_idle()
    handle.pause()
    env.advance("61m")

    with pytest.raises(WorkflowTimedOut):
        handle.result()
