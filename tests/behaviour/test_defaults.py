"""Options of steps that stand in the configuration: call, decorator, queue, project, built-in, in this order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dramaturg import Settings, StepFailed, StepTimeout, current_step, step, workflow
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of

pytestmark = pytest.mark.behaviour

SETTINGS = Settings(
    step={"retries": 2, "total_timeout": "1h", "on_give_up": "raise"},
    queue={"slow": {"retries": 4, "queue_timeout": "1d"}, "held": {"on_give_up": "pause", "retries": 0}},
)


def attempts() -> int:
    about = current_step()
    assert about is not None
    return about.max_attempts


@pytest.mark.selection
@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_the_nearer_one_comes_first(make_env: Callable[..., WorkflowEnv], crashes: bool) -> None:
    @step
    def plain() -> int:
        return attempts()

    @step(retries=6)
    def declared() -> int:
        return attempts()

    @step(queue="slow")
    def slow() -> int:
        return attempts()

    @step(queue="slow", retries=6)
    def slow_declared() -> int:
        return attempts()

    @workflow
    async def flow() -> list[int]:
        return [
            await plain(),
            await plain.options(queue="slow")(),
            await slow(),
            await declared(),
            await slow_declared(),
            await slow_declared.options(retries=8)(),
            await declared.options(queue="other", retries=8)(),
        ]

    with make_env(settings=SETTINGS) as env:
        handle = env.start(flow)
        if crashes:
            env.turn()
            env.crash()
        assert handle.result() == [3, 5, 5, 7, 7, 9, 9]


def test_without_configuration_the_built_in_ones_hold(env: WorkflowEnv) -> None:
    @step
    def plain() -> int:
        return attempts()

    @workflow
    async def flow() -> int:
        return await plain()

    assert env.run(flow) == 8


def test_a_queue_may_hold_what_gives_up(make_env: Callable[..., WorkflowEnv]) -> None:
    @step
    def fail() -> None:
        raise ValueError("no")

    @workflow
    async def flow(queue: str) -> str:
        try:
            await fail.options(queue=queue, retries=0)()
        except StepFailed:
            return "raised"
        return "done"

    with make_env(settings=SETTINGS) as env:
        assert env.run(flow, "default") == "raised"
        handle = env.start(flow, "held")
        env.run_until_idle()
        assert handle.describe().status == "PAUSED"


def test_the_projects_queue_is_where_steps_go_that_name_none(make_env: Callable[..., WorkflowEnv]) -> None:
    @step
    def plain() -> None: ...

    @workflow
    async def flow() -> None:
        await plain()

    with make_env(settings=Settings(step={"queue": "mine"})) as env:
        handle = env.start(flow)
        handle.result()
        assert [each["queue"] for each in events_of(handle, "step.scheduled")] == ["mine"]


def test_a_time_out_of_the_project_is_obeyed(make_env: Callable[..., WorkflowEnv]) -> None:
    @step(retries=100)
    def fail() -> None:
        raise ValueError("no")

    @workflow
    async def flow() -> Any:
        try:
            await fail()
        except StepTimeout as error:
            return error.message

    with make_env(settings=SETTINGS) as env:
        assert "(total_timeout)" in env.run(flow)
