"""Cancel and terminate: code hears of a cancel once and may clean up; a terminated run just ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from dramaturg import (
    Handle,
    NotFound,
    StepFunction,
    WorkflowCancelled,
    WorkflowTerminated,
    logger,
    sleep,
    step,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of, outcomes_of, types_of

release: threading.Event
slow: StepFunction[[], str]
note: StepFunction[[str], None]
noted: list[str] = []


@pytest.fixture(autouse=True)
def _steps() -> Any:
    @step(name="slow")
    def slow_() -> str:
        release.wait(10)
        return "late"

    @step(name="note")
    def note_(text: str) -> None:
        noted.append(text)

    global release, slow, note
    release, slow, note = threading.Event(), slow_, note_
    noted.clear()
    yield
    release.set()


async def waits_for_a_timer() -> None:
    await sleep("30d")


async def waits_for_a_queue() -> None:
    await asyncio.Queue[int]().get()


async def waits_for_tasks() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(sleep("1d"))
        group.create_task(asyncio.sleep(1000))


async def waits_under_a_timeout() -> None:
    async with asyncio.timeout(1000):
        await asyncio.wait_for(asyncio.Event().wait(), 500)


async def waits_for_the_first() -> None:
    tasks = [asyncio.create_task(sleep("1d")), asyncio.create_task(sleep("2d"))]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


@pytest.mark.parametrize(
    "waits", [waits_for_a_timer, waits_for_a_queue, waits_for_tasks, waits_under_a_timeout, waits_for_the_first]
)
@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_run_that_waits_is_cancelled(
    env: WorkflowEnv, waits: Callable[[], Coroutine[Any, Any, None]], crashes: bool
) -> None:
    handle = env.start(workflow(waits))
    env.run_until_idle()
    if crashes:
        env.crash()

    handle.cancel(by="ada", reason="changed her mind")

    with pytest.raises(WorkflowCancelled):
        handle.result()
    assert handle.describe().status == "CANCELLED"
    assert handle.describe().open == []
    (request,) = events_of(handle, "run.cancel_requested")
    assert (request["by"], request["reason"]) == ("ada", "changed her mind")


def wait_until_started(env: WorkflowEnv, handle: Handle[Any]) -> None:
    while "step.scheduled" not in types_of(handle):
        env.turn()


def test_a_run_that_waits_for_a_step_is_cancelled_and_its_late_outcome_changes_nothing(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        try:
            return await slow()
        finally:
            await sleep("1h")

    handle = env.start(flow)
    wait_until_started(env, handle)
    handle.cancel()
    release.set()

    with pytest.raises(WorkflowCancelled):
        handle.result()
    env.run_until_idle()
    assert [kind for kind in types_of(handle) if kind.startswith(("step", "run"))] == [
        "run.started", "step.scheduled", "run.cancel_requested", "step.cancelled", "run.cancelled"
    ]  # fmt: skip
    assert set(outcomes_of(handle).values()) == {1}


@pytest.mark.selection
def test_the_code_hears_of_a_cancel_once_and_cleans_up_with_steps(env: WorkflowEnv) -> None:
    heard: list[str] = []

    @workflow
    async def flow() -> None:
        try:
            await sleep("30d")
        except asyncio.CancelledError:
            logger.warning("cancelled")
            heard.append("cancelled")
            await note("refund")
            await sleep("1h")
            await note("mail")
            raise

    handle = env.start(flow)
    env.run_until_idle()
    handle.cancel()
    env.run_until_idle()
    assert handle.describe().status == "WAITING"
    env.crash()

    with pytest.raises(WorkflowCancelled):
        handle.result()
    assert noted == ["refund", "mail"]
    assert [data["message"] for data in events_of(handle, "log")] == ["cancelled"]
    assert types_of(handle)[-1] == "run.cancelled"


def test_code_may_swallow_a_cancel_and_go_on(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        with suppress(asyncio.CancelledError):
            await sleep("30d")
        await sleep("1d")
        return "finished all the same"

    handle = env.start(flow)
    env.run_until_idle()
    handle.cancel()

    assert handle.result() == "finished all the same"
    assert handle.describe().status == "COMPLETED"


def test_a_second_cancel_changes_nothing(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        try:
            await sleep("30d")
        except asyncio.CancelledError:
            await sleep("1d")
        return "cleaned up"

    handle = env.start(flow)
    env.run_until_idle()
    handle.cancel()
    handle.cancel()

    assert handle.result() == "cleaned up"
    assert len(events_of(handle, "run.cancel_requested")) == 1


def cancel(handle: Handle[Any]) -> None:
    handle.cancel()


def terminate(handle: Handle[Any]) -> None:
    handle.terminate()


@pytest.mark.parametrize("verb", [cancel, terminate])
def test_a_closed_run_stays_as_it_is(env: WorkflowEnv, verb: Callable[[Handle[Any]], None]) -> None:
    @workflow
    async def flow() -> str:
        return "done"

    handle = env.start(flow)
    handle.result()
    before = list(handle.events())

    verb(handle)

    assert list(handle.events()) == before
    assert handle.result() == "done"


def test_a_run_that_has_not_begun_is_cancelled_before_its_first_step(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        await note("first")
        await sleep("1d")

    handle = env.start(flow)
    handle.cancel()

    assert handle.describe().status == "CANCELLED"
    env.run_until_idle()
    assert noted == []


def test_a_shielded_part_goes_on_through_a_cancel(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        part = asyncio.ensure_future(note("to the end"))
        try:
            await asyncio.shield(sleep("1d"))
        finally:
            await part

    handle = env.start(flow)
    env.run_until_idle()
    handle.cancel()

    assert handle.describe().status == "CANCELLED"
    assert noted == ["to the end"]


@pytest.mark.selection
def test_terminate_ends_a_run_without_its_clean_up(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        try:
            await sleep("30d")
        finally:
            logger.error("cleaning up")
            await note("never")

    handle = env.start(flow)
    env.run_until_idle()
    handle.terminate(by="ops", reason="wrong input")
    env.advance("60d")

    with pytest.raises(WorkflowTerminated):
        handle.result()
    assert noted == []
    assert types_of(handle) == ["run.started", "timer.started", "run.terminated"]
    assert events_of(handle, "run.terminated")[0]["reason"] == "wrong input"


def test_an_unknown_run_cannot_be_cancelled(env: WorkflowEnv) -> None:
    with pytest.raises(NotFound):
        env.client.handle("no such run").cancel()


def test_a_cancel_cancels_every_step_that_a_gather_waits_for(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        await asyncio.gather(slow(), slow(), sleep("1d"))

    handle = env.start(flow)
    wait_until_started(env, handle)
    handle.cancel()

    assert handle.describe().status == "CANCELLED"
    assert len(events_of(handle, "step.cancelled")) == 2
    assert len(events_of(handle, "timer.cancelled")) == 1
    release.set()
