"""Workflow code that does not come back is interrupted; its run waits for mended code, all others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator

import pytest

from dramaturg import logger, patched, sleep, step, workflow
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.definitions import registry
from tests.behaviour.histories import events_of, outcomes_of, types_of


@pytest.fixture
def impatient(make_env: Callable[..., WorkflowEnv]) -> Generator[WorkflowEnv, None, None]:
    """An engine that lets workflow code compute for a twentieth of a second."""
    with make_env(code_limit=0.05) as env:
        yield env


def compute_for_ever() -> None:
    while True:
        pass


def test_it_is_interrupted_and_blocked_with_its_stack(impatient: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        compute_for_ever()

    handle = impatient.start(flow)
    impatient.run_until_idle()

    (data,) = events_of(handle, "run.blocked")
    assert data["reason"] == "stuck"
    assert "compute_for_ever" in data["message"]
    assert "put the work into a step" in data["message"]
    assert handle.describe().status == "BLOCKED"


def test_other_runs_go_on(impatient: WorkflowEnv) -> None:
    @workflow
    async def stuck() -> None:
        compute_for_ever()

    @workflow
    async def fine() -> str:
        await sleep(1)
        return "fine"

    runs = [impatient.start(fine), impatient.start(stuck), impatient.start(fine)]
    impatient.run_until_idle()

    assert runs[0].result() == runs[2].result() == "fine"
    assert runs[1].describe().status == "BLOCKED"


def test_mended_code_goes_on_where_it_stood(impatient: WorkflowEnv) -> None:
    @step
    def count() -> int:
        return 1

    @workflow(name="flow")
    async def broken() -> int:
        total = await count()
        logger.warning("about to compute")
        compute_for_ever()
        return total

    handle = impatient.start(broken)
    impatient.run_until_idle()
    registry.workflows.pop("flow")

    @workflow(name="flow")
    async def mended() -> int:
        total = await count()
        logger.warning("computed")
        if patched("and more"):
            total += await count()
        return total

    impatient.restart()

    assert handle.result() == 2
    assert set(outcomes_of(handle).values()) == {1}
    assert [data["message"] for data in events_of(handle, "log")] == ["computed"]


def test_code_that_is_still_stuck_after_a_restart_stays_blocked(impatient: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        await sleep(1)
        compute_for_ever()

    handle = impatient.start(flow)
    impatient.advance(1)
    impatient.restart()
    impatient.run_until_idle()

    assert handle.describe().status == "BLOCKED"
    assert len(events_of(handle, "run.blocked")) == 1


def test_an_interrupt_that_the_code_swallows_blocks_it_all_the_same(impatient: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        try:
            compute_for_ever()
        except BaseException:
            await sleep("1d")
        return "as if nothing had been"

    handle = impatient.start(flow)
    impatient.run_until_idle()

    assert handle.describe().status == "BLOCKED"
    assert types_of(handle) == ["run.started"]


def test_code_in_a_task_is_interrupted_too(impatient: WorkflowEnv) -> None:
    async def member() -> None:
        await sleep(1)
        compute_for_ever()

    @workflow
    async def flow() -> None:
        await asyncio.gather(member(), sleep("1d"))

    handle = impatient.start(flow)
    impatient.advance(1)

    assert handle.describe().status == "BLOCKED"
    assert events_of(handle, "run.blocked")[0]["reason"] == "stuck"


def test_outcomes_that_arrive_meanwhile_are_kept(impatient: WorkflowEnv) -> None:
    @step
    def count() -> int:
        return 1

    @workflow(name="flow")
    async def broken() -> int:
        slow = asyncio.create_task(sleep("1h"))
        total = await count()
        compute_for_ever()
        await slow
        return total

    handle = impatient.start(broken)
    impatient.advance("1h")
    registry.workflows.pop("flow")
    assert types_of(handle)[-1] == "timer.fired"

    @workflow(name="flow")
    async def mended() -> int:
        slow = asyncio.create_task(sleep("1h"))
        total = await count()
        await slow
        return total + await count()

    impatient.restart()
    impatient.run_until_idle()
    impatient.crash()

    assert handle.result() == 2
