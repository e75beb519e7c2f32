"""Code that no longer fits its history blocks the run, says where, and harms nothing; mended code goes on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from dramaturg import Handle, StepFunction, patched, side_effect, sleep, step, workflow
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.definitions import registry
from tests.behaviour.histories import events_of, has_gapless_numbers, outcomes_of, types_of

Code = Callable[[], Coroutine[Any, Any, Any]]

charge: StepFunction[[str], str]
ship: StepFunction[[str], str]
take_set: StepFunction[[set[str]], int]


@pytest.fixture(autouse=True)
def _steps() -> None:
    @step(name="charge")
    def charge_(order: str) -> str:
        return f"charged {order}"

    @step(name="ship")
    def ship_(order: str) -> str:
        return f"shipped {order}"

    @step(name="take_set")
    def take_set_(items: set[str]) -> int:
        return len(items)

    global charge, ship, take_set
    charge, ship, take_set = charge_, ship_, take_set_


def deploy(env: WorkflowEnv, code: Code | None) -> None:
    """Restart the engine with other code under the name of the workflow; ``None`` takes it away."""
    registry.workflows.pop("flow", None)
    if code is not None:
        workflow(name="flow")(code)
    env.restart()
    env.run_until_idle()


async def original() -> list[str]:
    first = await charge("a")
    await sleep("1d")
    second = await ship("a")
    await sleep("1d")
    return [first, second]


async def with_a_step_before() -> list[str]:
    await ship("b")
    return await original()


async def without_its_first_step() -> list[str]:
    await sleep("1d")
    return [await ship("a")]


async def with_another_step() -> list[str]:
    await ship("a")
    return await original()


async def with_other_arguments() -> list[str]:
    await charge("b")
    return await original()


async def with_a_timer_first() -> list[str]:
    await sleep("1h")
    return await original()


async def returns_at_once() -> list[str]:
    return ["nothing"]


async def raises_at_once() -> list[str]:
    raise LookupError("gone")


async def waits_for_nothing() -> list[str]:
    await asyncio.Event().wait()
    return []


async def asks_from_a_task() -> list[str]:
    await asyncio.gather(ship("a"), sleep(1))
    return []


async def has_a_side_effect() -> list[str]:
    side_effect(int)
    return await original()


@pytest.mark.parametrize(
    ("code", "actual"),
    [
        (with_a_step_before, "step ship #1"),
        (without_its_first_step, "timer #1"),
        (with_another_step, "step ship #1"),
        (with_other_arguments, 'step charge #1 {"args":["b"]'),
        (with_a_timer_first, "timer #1"),
        (returns_at_once, 'return ["nothing"]'),
        (raises_at_once, "raise LookupError: gone"),
        (waits_for_nothing, "nothing more"),
        (asks_from_a_task, "step ship #1"),
        (has_a_side_effect, "side_effect int #1"),
    ],
)
def test_a_changed_workflow_blocks_its_runs_and_goes_on_when_put_back(
    env: WorkflowEnv, code: Code, actual: str
) -> None:
    deploy(env, original)
    handle = env.client.start("flow")
    env.run_until_idle()
    deploy(env, code)

    env.advance("36h")

    blocked = handle.describe()
    assert blocked.status == "BLOCKED"
    assert blocked.error is not None
    assert "event 2 recorded «step charge #1" in blocked.error["message"]
    assert f"now the code asks for «{actual}" in blocked.error["message"]
    assert "test_changed_code.py:" in blocked.error["message"]
    assert "its code to be mended" in blocked.waiting_for
    (data,) = events_of(handle, "run.blocked")
    assert data["reason"] == "nondeterminism"
    assert any(line.startswith("2: step charge #1") for line in data["recorded"])
    assert types_of(handle)[-1] == "timer.fired", "what arrives meanwhile is kept"

    deploy(env, original)

    assert handle.result() == ["charged a", "shipped a"]
    assert set(outcomes_of(handle).values()) == {1}
    assert len(events_of(handle, "run.unblocked")) == 1
    assert has_gapless_numbers(handle)


def test_the_error_names_the_line_that_asks_for_something_else(env: WorkflowEnv) -> None:
    deploy(env, original)
    handle = env.client.start("flow")
    env.run_until_idle()
    deploy(env, with_another_step)
    env.advance("1d")

    (data,) = events_of(handle, "run.blocked")

    line = with_another_step.__code__.co_firstlineno + 1
    assert data["line"].endswith(f"test_changed_code.py:{line}")
    assert data["event"] == 2
    assert data["actual"][0].startswith("step ship #1")


def test_reordered_steps_block(env: WorkflowEnv) -> None:
    async def before() -> list[str]:
        results = await asyncio.gather(charge("a"), ship("a"))
        await sleep("1d")
        return list(results)

    async def after() -> list[str]:
        results = await asyncio.gather(ship("a"), charge("a"))
        await sleep("1d")
        return list(results)

    deploy(env, before)
    handle = env.client.start("flow")
    env.run_until_idle()
    deploy(env, after)
    env.advance("1d")

    assert handle.describe().status == "BLOCKED"
    deploy(env, before)
    assert handle.result() == ["charged a", "shipped a"]


def test_a_change_behind_what_is_recorded_does_not_block(env: WorkflowEnv) -> None:
    async def after() -> list[str]:
        first = await charge("a")
        await sleep("1d")
        return [first, await ship("another")]

    deploy(env, original)
    handle = env.client.start("flow")
    env.run_until_idle()
    deploy(env, after)

    assert handle.result() == ["charged a", "shipped another"]


def test_a_change_where_the_run_waits_is_found_before_its_outcome_is_handed_over(env: WorkflowEnv) -> None:
    deploy(env, original)
    handle = env.client.start("flow")
    env.advance("1d")
    deploy(env, returns_at_once)

    env.advance("1d")

    assert handle.describe().status == "BLOCKED"
    assert "run.completed" not in types_of(handle)


def test_chance_from_the_standard_library_blocks_when_the_run_is_rebuilt(env: WorkflowEnv) -> None:
    calls: list[float] = []

    @step
    def keep(value: float) -> float:
        calls.append(value)
        return value

    @workflow
    async def flow() -> None:
        await keep(random.random())  # noqa: TID251  # dramaturg: ok
        await sleep("1d")
        await keep(random.random())  # noqa: TID251  # dramaturg: ok

    handle = env.start(flow)
    env.run_until_idle()
    env.crash()
    env.advance("1d")

    assert handle.describe().status == "BLOCKED"
    assert len(calls) == 1
    for _ in range(3):
        env.restart()
        env.advance("1d")
    assert len(calls) == 1
    assert len(events_of(handle, "run.blocked")) == 1


def test_a_set_in_another_order_is_the_same_argument(env: WorkflowEnv) -> None:
    words = ["alpha", "beta", "gamma", "delta", "epsilon"]

    async def before() -> int:
        count = await take_set(set(words))
        await sleep("1d")
        return count

    deploy(env, before)
    handle = env.client.start("flow")
    env.run_until_idle()
    (data,) = events_of(handle, "step.scheduled")
    recorded = data["input"]["args"][0]
    words.reverse()
    # A set of the same words with collisions in another order is written in another order.
    grown = {str(number) for number in range(1000)} | set(words)
    grown.intersection_update(words)

    async def after() -> int:
        count = await take_set(grown)
        await sleep("1d")
        return count

    assert sorted(recorded) == sorted(words)
    deploy(env, after)

    assert handle.result() == 5


def test_changed_options_do_not_block(env: WorkflowEnv) -> None:
    async def after() -> list[str]:
        first = await charge.options(retries=2, timeout="9s", queue="other")("a")
        await sleep("1d")
        second = await ship.options(retries=0)("a")
        await sleep("1d")
        return [first, second]

    deploy(env, original)
    handle = env.client.start("flow")
    env.advance("1d")
    deploy(env, after)

    assert handle.result() == ["charged a", "shipped a"]


def test_a_run_of_an_unknown_workflow_waits_until_it_is_registered(env: WorkflowEnv) -> None:
    handle = env.client.start("flow")
    env.run_until_idle()

    blocked = handle.describe()
    assert blocked.status == "BLOCKED"
    assert "'flow' is not registered" in blocked.waiting_for
    deploy(env, original)

    assert handle.result() == ["charged a", "shipped a"]


def test_a_run_whose_workflow_went_away_waits_until_it_is_back(env: WorkflowEnv) -> None:
    deploy(env, original)
    handle = env.client.start("flow")
    env.run_until_idle()
    deploy(env, None)
    env.advance("1d")

    assert handle.describe().status == "BLOCKED"
    deploy(env, original)

    assert handle.result() == ["charged a", "shipped a"]


def test_a_run_stays_on_the_version_that_it_began_with(env: WorkflowEnv) -> None:
    @workflow(name="versioned")
    async def first() -> str:
        await sleep("1d")
        return "first"

    handle = env.start(first)
    env.run_until_idle()

    @workflow(name="versioned", version=2)
    async def second() -> str:
        return "second"

    env.restart()

    assert handle.result() == "first"
    assert env.client.start("versioned").result() == "second"
    assert env.client.start("versioned", version=1).result() == "first"
    assert env.run(second) == "second"


def test_a_run_whose_version_is_missing_is_blocked_until_it_is_there(env: WorkflowEnv) -> None:
    @workflow(name="versioned")
    async def first() -> str:
        return "first"

    handle = env.client.start("versioned", version=2)
    env.run_until_idle()
    assert "version 2" in handle.describe().waiting_for

    @workflow(name="versioned", version=2)
    async def second() -> str:
        return "second"

    env.restart()

    assert handle.result() == "second"
    assert handle.describe().version == 2


@pytest.mark.selection
def test_a_cancel_that_comes_while_a_run_is_blocked_is_heard_afterwards(env: WorkflowEnv) -> None:
    seen: list[str] = []

    async def patient() -> str:
        try:
            await sleep("30d")
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return "slept"

    deploy(env, patient)
    handle = env.client.start("flow")
    env.run_until_idle()
    deploy(env, returns_at_once)

    handle.cancel()
    assert handle.describe().status == "BLOCKED"
    deploy(env, patient)

    assert handle.describe().status == "CANCELLED"
    assert seen[-1:] == ["cancelled"]


def test_a_blocked_run_can_be_terminated(env: WorkflowEnv) -> None:
    handle = env.client.start("flow")
    env.run_until_idle()

    handle.terminate()

    assert handle.describe().status == "TERMINATED"


def test_failures_that_come_while_a_group_is_blocked_reach_it_one_by_one(env: WorkflowEnv) -> None:
    attempts = 0

    @step(retries=1)
    def fail() -> None:
        nonlocal attempts
        attempts += 1
        raise ValueError("no")

    async def group() -> str:
        number = 0
        try:
            async with asyncio.TaskGroup() as members:
                members.create_task(fail())
                members.create_task(fail())
        except* Exception as several:
            number = len(several.exceptions)
        await sleep("1d")
        return f"{number} failed"

    deploy(env, group)
    handle: Handle[str] = env.client.start("flow")
    while attempts < 2:
        env.run_until_idle()
    deploy(env, returns_at_once)
    env.advance("1h")
    assert handle.describe().status == "BLOCKED"
    assert len(events_of(handle, "step.failed")) == 2

    deploy(env, group)
    env.crash()

    assert handle.result() == "1 failed"
    assert set(outcomes_of(handle).values()) == {1}


def test_other_code_may_be_the_reason_after_a_restart(env: WorkflowEnv) -> None:
    deploy(env, original)
    handle = env.client.start("flow")
    env.run_until_idle()
    deploy(env, None)
    env.advance("1d")
    assert "is not registered" in handle.describe().waiting_for

    deploy(env, returns_at_once)

    assert "the code no longer fits the history" in handle.describe().waiting_for
    deploy(env, returns_at_once)
    assert len(events_of(handle, "run.blocked")) == 2
    deploy(env, original)
    assert handle.result() == ["charged a", "shipped a"]


def test_a_removed_patch_blocks_the_runs_that_passed_it(env: WorkflowEnv) -> None:
    async def before() -> str:
        patched("change")
        await sleep("1d")
        return "done"

    async def after() -> str:
        await sleep("1d")
        return "done"

    deploy(env, before)
    handle = env.client.start("flow")
    env.run_until_idle()
    deploy(env, after)
    env.advance("1d")

    assert "recorded «patched change #1»" in handle.describe().waiting_for
