"""Every way in which a run ends: the table in docs/endings.md, each row a test of its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dramaturg import (
    Handle,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowTerminated,
    WorkflowTimedOut,
    info,
    sleep,
    step,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of, types_of

pytestmark = pytest.mark.behaviour

DOCUMENT = Path(__file__).parents[2] / "docs" / "endings.md"


def _end_of(env: WorkflowEnv, handle: Handle[Any]) -> list[str]:
    """The events at the end, and that nothing outlives it."""
    env.run_until_idle()
    assert not env.database.reads.open_work(handle.run_id)
    return types_of(handle)[-2:]


def test_its_code_returns(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> int:
        return 1

    handle = env.start(flow)

    assert handle.result() == 1
    assert _end_of(env, handle)[-1] == "run.completed"


def test_its_code_raises(env: WorkflowEnv) -> None:
    @step(retries=0)
    def work() -> None:
        raise ValueError("no")

    @workflow
    async def flow() -> None:
        await work()

    handle = env.start(flow)

    with pytest.raises(WorkflowFailed, match="no"):
        handle.result()
    assert _end_of(env, handle)[-1] == "run.failed"
    assert events_of(handle, "run.failed")[0]["positions"] == [1]


def test_its_code_raises_and_it_is_tried_again(env: WorkflowEnv) -> None:
    @workflow(retries=1)
    async def flow() -> int:
        if info().attempt == 1:
            raise ValueError("no")
        return 1

    handle = env.start(flow)

    assert handle.result() == 1
    assert types_of(handle) == ["run.started", "run.retrying", "run.retried", "run.completed"]


def test_its_code_ends_after_a_cancel(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        await sleep("1h")

    handle = env.start(flow)
    env.run_until_idle()
    handle.cancel()

    with pytest.raises(WorkflowCancelled):
        handle.result()
    assert "run.cancel_requested" in types_of(handle)
    assert _end_of(env, handle)[-1] == "run.cancelled"


def test_its_time_is_over(env: WorkflowEnv) -> None:
    @workflow(timeout="1h")
    async def flow() -> None:
        await sleep("2h")

    handle = env.start(flow)

    with pytest.raises(WorkflowTimedOut):
        handle.result()
    assert events_of(handle, "run.cancel_requested")[0]["timed_out"]
    assert _end_of(env, handle)[-1] == "run.timed_out"


def test_it_is_terminated(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        await sleep("2h")

    handle = env.start(flow)
    env.run_until_idle()
    handle.terminate()

    with pytest.raises(WorkflowTerminated):
        handle.result()
    assert _end_of(env, handle)[-1] == "run.terminated"


def test_it_is_cancelled_while_it_waits_for_its_next_try(env: WorkflowEnv) -> None:
    begun: list[int] = []

    @workflow(retries=1)
    async def flow() -> None:
        begun.append(info().attempt)
        raise ValueError("no")

    handle = env.start(flow)
    env.run_until_idle()
    handle.cancel()

    with pytest.raises(WorkflowCancelled):
        handle.result()
    assert _end_of(env, handle) == ["run.cancel_requested", "run.cancelled"]
    assert set(begun) == {1}


def test_one_of_its_compensations_fails_for_good(env: WorkflowEnv) -> None:
    @step(retries=0)
    def undo(_: None) -> None:
        raise ValueError("cannot")

    @step(compensate=undo)
    def book() -> None: ...

    @workflow(retries=1)
    async def flow() -> None:
        await book()
        raise ValueError("no")

    handle = env.start(flow)

    with pytest.raises(WorkflowFailed):
        handle.result()
    assert _end_of(env, handle) == ["compensation.completed", "run.failed"]
    assert events_of(handle, "compensation.completed")[0]["failed"] == [2]


def test_the_table_and_these_tests_name_the_same() -> None:
    text = DOCUMENT.read_text(encoding="utf-8").split("## How a run ends")[1].split("## ")[0]
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")][2:]
    told = {f"test_{re.sub('[^a-z]+', '_', row.lower()).strip('_')}" for row in rows}

    assert told == {name for name in globals() if name.startswith("test_")} - {
        "test_the_table_and_these_tests_name_the_same"
    }
