"""Waiting is not an exception: workflow code sees real outcomes only, each exactly once, whatever crashes."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from dramaturg import Handle, StepFunction, Workflow, logger, side_effect, sleep, step, workflow
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of, has_gapless_numbers, outcomes_of, types_of

double: StepFunction[[int], int]
fail: StepFunction[[str], str]
effects: list[str] = []


@pytest.fixture(autouse=True)
def _steps() -> None:
    @step(name="double")
    def double_(number: int) -> int:
        return number * 2

    @step(name="fail", retries=0)
    def fail_(text: str) -> str:
        raise ValueError(text)

    global double, fail
    double, fail = double_, fail_
    effects.clear()


async def catches_everything() -> list[Any]:
    seen: list[Any] = []
    for call in (lambda: double(1), lambda: fail("no"), lambda: sleep(60), lambda: double(2)):
        try:
            seen.append(await call())
        except BaseException as error:
            seen.append(type(error).__name__)
    return seen


async def catches_exceptions() -> list[Any]:
    seen: list[Any] = []
    for call in (lambda: double(1), lambda: fail("no"), lambda: sleep(60)):
        try:
            seen.append(await call())
        except Exception as error:
            seen.append(str(error))
    return seen


async def cleans_up_with_steps() -> list[Any]:
    seen: list[Any] = []
    try:
        try:
            seen.append(await double(1))
            await fail("no")
        finally:
            logger.warning("cleaning up")
            seen.append(side_effect(lambda: effects.append("cleaned")))
            seen.append(await double(2))
            await sleep(1)
            seen.append("clean")
    except Exception as error:
        seen.append(str(error))
    return seen


async def uses_context_managers() -> list[Any]:
    seen: list[Any] = []

    @asynccontextmanager
    async def resource(number: int) -> AsyncGenerator[int, None]:
        seen.append(await double(number))
        try:
            yield number
        finally:
            seen.append(await double(-number))

    async with resource(1) as one, resource(2) as two:
        await sleep(one + two)
    return seen


async def collects_exceptions() -> list[Any]:
    results = await asyncio.gather(double(1), fail("a"), sleep(5), fail("b"), double(2), return_exceptions=True)
    return [str(result) for result in results]


async def suppresses_everything() -> list[Any]:
    seen: list[Any] = []
    with suppress(BaseException):
        seen.append(await double(1))
        await sleep(60)
        await fail("no")
        seen.append("never")
    seen.append(await double(2))
    return seen


async def never_lets_go() -> list[Any]:
    seen: list[Any] = []
    while len(seen) < 3:
        try:
            await sleep(1)
            seen.append(await double(len(seen)))
        except BaseException:
            pass
    return seen


async def never_lets_go_under_a_timeout() -> list[Any]:
    seen: list[Any] = []
    while len(seen) < 2:
        try:
            async with asyncio.timeout(600), asyncio.TaskGroup() as group:
                task = group.create_task(double(len(seen)))
                await sleep(1)
            seen.append(task.result())
        except BaseException:
            continue
    return seen


async def asks_for_more_when_it_is_told_to_go() -> list[Any]:
    seen: list[Any] = []
    for number in range(2):
        try:
            await sleep(10)
            seen.append("slept")
        except BaseException:
            logger.error("never logged")
            side_effect(lambda: effects.append("never called"))
            asyncio.create_task(double(1000))  # noqa: RUF006
            seen.append(await double(1001))
        seen.append(await double(number))
    return seen


async def has_members_that_clean_up() -> list[Any]:
    seen: list[Any] = []

    async def member(number: int) -> None:
        try:
            await sleep(number)
            if number == 3:
                await fail("third")
        finally:
            background.append(asyncio.create_task(double(100 + number)))
            seen.append(number)

    background: list[asyncio.Task[int]] = []
    try:
        async with asyncio.TaskGroup() as group:
            for number in (9, 3, 5, 1):
                group.create_task(member(number))
    except* Exception as several:
        seen.append([str(error) for error in several.exceptions])
    return [*seen, await asyncio.gather(*background)]


async def keeps_coroutines_for_later() -> list[Any]:
    async def later(number: int) -> int:
        await sleep(number)
        return int(await double(number))

    one, more, call = later(1), [later(2), later(3)], double(4)
    await sleep(1)
    return [await one, await asyncio.gather(*more), await call]


PROGRAMS: list[Callable[[], Coroutine[Any, Any, list[Any]]]] = [
    catches_everything,
    catches_exceptions,
    cleans_up_with_steps,
    uses_context_managers,
    collects_exceptions,
    suppresses_everything,
    never_lets_go,
    never_lets_go_under_a_timeout,
    asks_for_more_when_it_is_told_to_go,
    has_members_that_clean_up,
    keeps_coroutines_for_later,
]


def facts_of(handle: Handle[Any]) -> list[Any]:
    """What the code asked for: the same whatever happened in between."""
    facts = [
        (event.type, event.data.get("seq"), event.data.get("name"), str(event.data.get("input")))
        for event in handle.events()
        if event.type in ("step.scheduled", "timer.started", "timer.cancelled", "marker.recorded", "log")
    ]
    return sorted(facts, key=str)


def run_with_a_crash(env: WorkflowEnv, wf: Workflow[..., Any], moment: int) -> tuple[Handle[Any], bool]:
    """Run a workflow with a crash after so many turns; whether there were that many."""
    handle: Handle[Any] = env.start(wf)
    turns = 0

    def crash_or_look() -> bool | None:
        nonlocal turns
        turns += 1
        if turns == moment:
            env.crash()
        return True if types_of(handle)[-1:] == ["run.completed"] else None

    env.drive(crash_or_look, None)
    return handle, turns > moment


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_crash_at_any_turn_changes_nothing(
    env: WorkflowEnv, program: Callable[[], Coroutine[Any, Any, list[Any]]], caplog: pytest.LogCaptureFixture
) -> None:
    wf = workflow(program)
    undisturbed = env.start(wf)
    result = undisturbed.result()
    effects_of_one_run, moment, has_crashed = len(effects), 1, True

    while has_crashed:
        handle, has_crashed = run_with_a_crash(env, wf, moment)
        moment += 1

        assert handle.result() == result
        assert facts_of(handle) == facts_of(undisturbed)
        assert set(outcomes_of(handle).values()) <= {1}
        assert has_gapless_numbers(handle)
    assert moment > 4
    assert len(effects) == effects_of_one_run * moment
    assert {record.getMessage() for record in caplog.records if record.name == "dramaturg.workflow"} <= {"cleaning up"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_run_that_is_dropped_for_good_leaves_no_trace(
    env: WorkflowEnv, program: Callable[[], Coroutine[Any, Any, list[Any]]], caplog: pytest.LogCaptureFixture
) -> None:
    handle = env.start(workflow(program))
    env.run_until_idle()
    before = types_of(handle)
    caplog.clear()

    with caplog.at_level(logging.INFO, "dramaturg.workflow"):
        env.crash()
        env.crash()
        gc.collect()
    env.run_until_idle()

    assert types_of(handle) == before
    assert [record for record in caplog.records if record.name in ("dramaturg.workflow", "asyncio")] == []
    assert "never called" not in effects


@pytest.mark.selection
def test_an_outcome_and_a_timer_that_fall_together_are_both_seen(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[str]:
        seen: list[str] = []

        async def note(text: str, what: Coroutine[Any, Any, object]) -> None:
            await what
            seen.append(text)

        await asyncio.gather(note("one", sleep(5)), note("two", sleep(5)), note("three", asyncio.sleep(5)))
        return seen

    handle = env.start(flow)

    assert handle.result() == ["one", "two", "three"]
    assert len(events_of(handle, "timer.fired")) == 3


def test_clean_up_that_does_not_come_back_holds_nobody_up(make_env: Callable[..., WorkflowEnv]) -> None:
    has_ended = False

    @workflow
    async def flow() -> str:
        try:
            await sleep("1h")
        except GeneratorExit:
            while not has_ended:
                pass
        return "slept"

    @workflow
    async def other() -> str:
        await sleep(1)
        return "fine"

    with make_env(code_limit=0.05) as env:
        handle = env.start(flow)
        env.run_until_idle()

        assert env.run(other) == "fine"
        has_ended = True
        assert handle.result() == "slept"
