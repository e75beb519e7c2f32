"""Steps with ``on_give_up="pause"``: after their last attempt they are held, and a person says how it goes on."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from dramaturg import (
    FatalError,
    StepFailed,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowTerminated,
    WrongState,
    sleep,
    step,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of, has_gapless_numbers, types_of

ran: Counter[str] = Counter()
broken: set[str] = set()


@pytest.fixture
def work() -> Any:
    @step(name="work", retries=1, on_give_up="pause")
    def work_(name: str) -> str:
        ran[name] += 1
        if name in broken:
            raise ValueError(f"{name} is broken")
        return name.upper()

    ran.clear()
    broken.clear()
    return work_


def held(env: WorkflowEnv, flow: Any, number: int = 1) -> Any:
    """A run of which so many steps are held."""
    handle = env.start(flow)
    env.advance("1h")
    assert len([event for event in events_of(handle, "step.retrying") if event.get("reason") == "held"]) == number
    return handle


@pytest.mark.selection
@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_step_that_gave_up_is_held_and_goes_on_with_all_of_its_attempts_when_the_run_is_retried(
    env: WorkflowEnv, work: Any, crashes: bool
) -> None:
    @workflow
    async def flow() -> list[str]:
        return [await work("a"), await work("b")]

    broken.add("b")
    handle = held(env, flow)
    described = handle.describe()
    assert described.status == "PAUSED"
    assert described.waiting_for == (
        "a person to retry the run, or to settle step work #2, which gave up: ValueError: b is broken"
    )
    (paused,) = events_of(handle, "run.paused")
    assert paused["reason"] == "step work #2 gave up after 2 attempts: ValueError: b is broken"
    assert env.client.runs(status="PAUSED")[0].run_id == handle.run_id
    if crashes:
        env.crash()
    env.advance("30d")
    assert ran == {"a": 1, "b": 2}

    handle.retry(by="ada", reason="mended?")
    env.advance("1h")
    assert ran == {"a": 1, "b": 4}
    assert handle.describe().status == "PAUSED"
    broken.clear()
    handle.retry(by="ada", reason="mended")

    assert handle.result() == ["A", "B"]
    assert ran == {"a": 1, "b": 5}
    assert [event["by"] for event in events_of(handle, "run.resumed")] == ["ada", "ada"]
    assert [event["attempt"] for event in events_of(handle, "step.completed")] == [1, 5]
    assert has_gapless_numbers(handle)


@pytest.mark.parametrize("verb", ["complete", "fail", "retry_now", "resume"])
def test_a_person_says_how_a_held_step_goes_on(env: WorkflowEnv, work: Any, verb: str) -> None:
    @workflow
    async def flow() -> str:
        try:
            return str(await work("a"))
        except StepFailed as error:
            return f"{error.error_type}: {error.message}"

    broken.add("a")
    handle = held(env, flow)
    broken.clear()
    match verb:
        case "complete":
            handle.step(1).complete("by hand", by="ada", reason="done on paper")
        case "fail":
            handle.step(1).fail("never mind", by="ada")
        case "retry_now":
            handle.step(1).retry_now(by="ada")
        case _:
            handle.resume(by="ada")

    expected = {"complete": "by hand", "fail": "Settled: never mind", "retry_now": "A", "resume": "A"}[verb]
    assert handle.result() == expected
    assert events_of(handle, "run.resumed")[0]["by"] == "ada"


def test_several_held_steps_are_settled_one_by_one_and_the_code_goes_on_after_the_last(
    env: WorkflowEnv, work: Any
) -> None:
    @workflow
    async def flow() -> list[str]:
        return list(await asyncio.gather(*[work(name) for name in "abcd"]))

    broken.update("ac")
    handle = held(env, flow, 2)
    assert Counter(types_of(handle))["run.paused"] == 1
    assert len(events_of(handle, "step.completed")) == 2
    broken.clear()

    handle.step(1).retry_now()
    env.advance("1h")
    assert ran["a"] == 3
    assert handle.describe().status == "PAUSED"
    assert handle.describe().waiting_for.count("#") == 1
    env.crash()
    handle.step(3).complete("C by hand")

    assert handle.result() == ["A", "B", "C by hand", "D"]


def test_the_attempts_of_siblings_go_on_while_a_step_is_held_and_the_code_is_told_later(
    env: WorkflowEnv, work: Any
) -> None:
    @step(retries=3)
    def shaky() -> str:
        ran["shaky"] += 1
        if ran["shaky"] < 3:
            raise OSError("not yet")
        return "done"

    @workflow
    async def flow() -> list[str]:
        async def then() -> str:
            result = await shaky()
            return f"{result}{await work('later')}"

        both: list[Any] = [work("a"), then()]
        return [str(each) for each in await asyncio.gather(*both)]

    broken.add("a")
    handle = held(env, flow)
    assert ran == {"a": 2, "shaky": 3}
    broken.clear()

    handle.retry()

    assert handle.result() == ["A", "doneLATER"]


def test_a_held_run_that_is_cancelled_cleans_up(env: WorkflowEnv, work: Any) -> None:
    @workflow
    async def flow() -> None:
        try:
            await work("a")
        finally:
            await work("clean-up")

    broken.add("a")
    handle = held(env, flow)

    handle.cancel(by="ada")

    with pytest.raises(WorkflowCancelled):
        handle.result()
    assert ran == {"a": 2, "clean-up": 1}
    assert "step.cancelled" in types_of(handle)


def test_a_held_run_is_terminated(env: WorkflowEnv, work: Any) -> None:
    @workflow
    async def flow() -> None:
        await work("a")

    broken.add("a")
    handle = held(env, flow)

    handle.terminate(by="ada")

    with pytest.raises(WorkflowTerminated):
        handle.result()


def test_a_run_that_a_person_paused_waits_for_a_person_after_its_held_step_was_settled(
    env: WorkflowEnv, work: Any
) -> None:
    @workflow
    async def flow() -> str:
        return str(await work.options(retries=0)("a"))

    broken.add("a")
    handle = env.start(flow)
    env.turn()
    handle.pause(by="bob")
    env.run_until_idle()
    assert [event["reason"] for event in events_of(handle, "step.retrying")] == ["held"]
    assert types_of(handle).count("run.paused") == 1

    handle.step(1).complete("by hand")
    env.advance("1h")
    assert handle.describe().waiting_for == "somebody to resume it: it is paused"
    handle.resume()

    assert handle.result() == "by hand"


def test_a_fatal_error_and_a_call_that_asks_for_it_hold_too_and_a_timer_that_fires_meanwhile_is_told_later(
    env: WorkflowEnv,
) -> None:
    @step
    def pay() -> str:
        raise FatalError("the card is stolen")

    @workflow
    async def flow() -> list[str]:
        async def nap() -> str:
            await sleep("5m")
            return "slept"

        return list(await asyncio.gather(pay.options(on_give_up="pause")(), nap()))

    handle = held(env, flow)
    assert "timer.fired" in types_of(handle)

    handle.step(1).complete("paid")

    assert handle.result() == ["paid", "slept"]


def test_a_step_without_it_fails_and_a_run_without_held_steps_is_not_retried_while_it_is_open(
    env: WorkflowEnv, work: Any
) -> None:
    @workflow
    async def flow() -> str:
        return str(await work.options(on_give_up="raise")("a"))

    broken.add("a")
    with pytest.raises(WorkflowFailed, match="a is broken"):
        env.run(flow)

    @workflow
    async def long() -> None:
        await sleep("1d")

    handle = env.start(long)
    env.run_until_idle()
    handle.pause()
    with pytest.raises(WrongState, match="PAUSED"):
        handle.retry()
