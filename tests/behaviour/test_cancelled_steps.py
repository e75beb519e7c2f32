"""A cancel reaches the steps: those that run are told to stop, those that wait in a queue never begin."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dramaturg import Handle, StepCancelled, StepFunction, current_step, step, workflow
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import types_of

WAIT = 60.0

Stop = Callable[[Handle[Any]], None]


def cancel(handle: Handle[Any]) -> None:
    handle.cancel()


def terminate(handle: Handle[Any]) -> None:
    handle.terminate()


STOPS = pytest.mark.parametrize("stop", [cancel, terminate])


def rest() -> None:
    threading.Event().wait(0.001)


class Seen:
    """What a step did, for the test to wait for."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.ended = threading.Event()
        self.how = ""

    def end(self, how: str) -> None:
        self.how = how
        self.ended.set()


def begin(env: WorkflowEnv, work: StepFunction[[], Any], seen: Seen) -> Handle[Any]:
    """A run whose one step is running."""

    @workflow(name="one_step")
    async def flow() -> Any:
        return await work()

    handle = env.start(flow)
    while "step.scheduled" not in types_of(handle):
        env.turn()
    assert seen.began.wait(WAIT)
    return handle


@STOPS
@pytest.mark.selection
def test_a_step_on_a_thread_is_interrupted(env: WorkflowEnv, stop: Stop) -> None:
    seen = Seen()

    @step
    def spin() -> None:
        seen.began.set()
        try:
            while True:
                rest()
        except StepCancelled:
            about = current_step()
            assert about is not None
            seen.end(f"{type(about.interrupted).__name__}, cancelled {about.cancelled}")
            raise

    handle = begin(env, spin, seen)
    stop(handle)
    env.run_until_idle()

    assert seen.ended.wait(WAIT)
    assert seen.how == "StepCancelled, cancelled True"
    assert handle.describe().status in ("CANCELLED", "TERMINATED")


@STOPS
def test_an_async_step_gets_a_cancelled_error(env: WorkflowEnv, stop: Stop) -> None:
    seen = Seen()

    @step
    async def wait() -> None:
        seen.began.set()
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            about = current_step()
            assert about is not None
            seen.end(type(about.interrupted).__name__)
            raise

    stop(begin(env, wait, seen))
    env.run_until_idle()

    assert seen.ended.wait(WAIT)
    assert seen.how == "StepCancelled"


def test_a_step_that_looks_stops_where_it_likes(env: WorkflowEnv) -> None:
    seen = Seen()

    @step
    def look() -> None:
        about = current_step()
        assert about is not None
        about.raise_if_cancelled()
        assert not about.cancelled
        seen.began.set()
        while True:
            try:
                rest()
            except StepCancelled:
                break
        try:
            about.raise_if_cancelled()
        except StepCancelled as error:
            seen.end(str(error))

    cancel(begin(env, look, seen))
    env.run_until_idle()

    assert seen.ended.wait(WAIT)
    assert "nobody waits for this step any more" in seen.how


@STOPS
@pytest.mark.selection
def test_a_step_that_waits_in_its_queue_never_begins(make_env: Callable[..., WorkflowEnv], stop: Stop) -> None:
    release, began, ran = threading.Event(), threading.Event(), list[int]()

    @step
    def hold() -> None:
        began.set()
        release.wait(WAIT)

    @step
    def queued(number: int) -> None:
        ran.append(number)

    @workflow
    async def holder() -> None:
        await hold()

    @workflow
    async def flow() -> None:
        await asyncio.gather(*(queued(number) for number in range(5)))

    @workflow
    async def last() -> None:
        await queued(99)

    with make_env(threads=1) as env:
        holding = env.start(holder)
        while not began.is_set():
            env.turn()
        handle = env.start(flow)
        while "step.scheduled" not in types_of(handle):
            env.turn()
        stop(handle)
        while handle.describe().status not in ("CANCELLED", "TERMINATED"):
            env.turn()
        after = env.start(last)
        env.turn()
        release.set()
        holding.result()
        after.result()

    assert ran == [99]


def test_a_step_that_its_workflow_lets_go_of_is_interrupted(env: WorkflowEnv) -> None:
    seen = Seen()

    @step
    def slow() -> None:
        seen.began.set()
        try:
            while True:
                rest()
        except StepCancelled:
            seen.end("cancelled")
            raise

    @step
    def quick() -> str:
        assert seen.began.wait(WAIT)
        return "first"

    @workflow
    async def flow() -> str:
        tasks = [asyncio.create_task(slow()), asyncio.create_task(quick())]
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for each in others:
            each.cancel()
        return "first" if done == {tasks[1]} else "wrong"

    assert env.run(flow) == "first"
    assert seen.ended.wait(WAIT)


def test_what_a_cancelled_step_returns_all_the_same_is_nobodys(env: WorkflowEnv) -> None:
    seen = Seen()

    @step
    def stubborn() -> str:
        seen.began.set()
        try:
            while True:
                rest()
        except StepCancelled:
            seen.end("swallowed")
            return "done all the same"

    handle = begin(env, stubborn, seen)
    cancel(handle)
    env.run_until_idle()

    assert seen.ended.wait(WAIT)
    env.run_until_idle()
    assert handle.describe().status == "CANCELLED"
    assert [kind for kind in types_of(handle) if kind.startswith("step")][-1] == "step.cancelled"


def test_other_steps_are_left_alone(env: WorkflowEnv) -> None:
    seen, release = Seen(), threading.Event()

    @step
    def other() -> str:
        seen.began.set()
        for _ in range(10_000):
            if release.wait(0.01):
                break
        return "undisturbed"

    @step
    def quick() -> None:
        pass

    @workflow
    async def cancelled() -> None:
        await asyncio.sleep(1000)

    handle = begin(env, other, seen)
    victim = env.start(cancelled)
    victim.cancel()
    while victim.describe().status != "CANCELLED":
        env.turn()
    release.set()

    assert handle.result() == "undisturbed"
