"""``cache``: the result of a step is used again for the same arguments, for a time, over all runs."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from dramaturg import StepFailed, step, workflow
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of, types_of


@pytest.fixture
def ran() -> list[Any]:
    return []


def flow_of(ran: list[Any], **options: Any) -> Any:
    given: Any = {"cache": "1h", **options}

    @step(**given)
    def work(what: Any, scale: int = 1) -> dict[str, Any]:
        ran.append(what)
        return {"what": what, "number": len(ran), "took": timedelta(seconds=3)}

    @workflow
    async def flow(*what: Any) -> list[Any]:
        return [await work(each) for each in what]

    return flow


def test_the_same_arguments_have_the_result_of_another_run(env: WorkflowEnv, ran: list[Any]) -> None:
    flow = flow_of(ran)

    first = env.run(flow, "a", "b")
    handle = env.start(flow, "b", "a", "c")
    second = handle.result()

    assert ran == ["a", "b", "c"]
    assert second[:2] == first[::-1]
    assert [event.get("cached", False) for event in events_of(handle, "step.completed")] == [True, True, False]
    assert types_of(handle)[:3] == ["run.started", "step.scheduled", "step.completed"]


@pytest.mark.selection
def test_a_result_is_used_for_its_time_and_no_longer(env: WorkflowEnv, ran: list[Any]) -> None:
    flow = flow_of(ran)

    env.run(flow, "a")
    env.advance("59m")
    env.run(flow, "a")
    assert ran == ["a"]
    env.advance("1m")
    env.run(flow, "a")

    assert ran == ["a", "a"]


def test_it_outlives_a_crash(env: WorkflowEnv, ran: list[Any]) -> None:
    flow = flow_of(ran)

    env.run(flow, "a")
    env.crash()
    handle = env.start(flow, "a", "a")
    env.turn()
    env.crash()
    handle.result()

    assert ran == ["a"]


def test_how_the_call_is_written_makes_no_difference(env: WorkflowEnv, ran: list[Any]) -> None:
    @step(cache="1h")
    def add(left: int, right: int = 2, **more: int) -> int:
        ran.append(left)
        return left + right

    @workflow
    async def flow() -> list[int]:
        return [
            await add(1, 2),
            await add(right=2, left=1),
            await add(1, b=1, a=2),
            await add(1, a=2, b=1),
        ]

    assert env.run(flow) == [3] * 4
    assert ran == [1, 1]


@pytest.mark.selection
def test_many_are_looked_for_together(env: WorkflowEnv, ran: list[Any]) -> None:
    @step(cache="1h")
    def work(number: int) -> int:
        ran.append(number)
        return number

    @workflow
    async def flow(count: int) -> int:
        return sum(await asyncio.gather(*[work(number) for number in range(count)]))

    env.run(flow, 20)
    assert env.run(flow, 30) == sum(range(30))

    assert sorted(ran) == list(range(30))


def test_a_failure_is_not_kept(env: WorkflowEnv, ran: list[Any]) -> None:
    @step(cache="1h", retries=0)
    def work() -> str:
        ran.append(1)
        if len(ran) == 1:
            raise ValueError("no")
        return "done"

    @workflow
    async def flow() -> str:
        try:
            return await work()
        except StepFailed:
            return "failed"

    assert [env.run(flow), env.run(flow), env.run(flow)] == ["failed", "done", "done"]
    assert len(ran) == 2


def test_a_call_says_how_old_a_result_may_be(env: WorkflowEnv, ran: list[Any]) -> None:
    @step(cache="1h")
    def work() -> int:
        ran.append(1)
        return len(ran)

    @workflow
    async def flow(cache: str | None) -> int:
        return await work.options(cache=cache)()

    assert env.run(flow, "1h") == 1
    env.advance("10m")
    assert env.run(flow, "11m") == 1
    assert env.run(flow, "10m") == 2
    assert env.run(flow, None) == 3
    assert env.run(flow, "1h") == 2


def test_local_steps_have_it_too(env: WorkflowEnv, ran: list[Any]) -> None:
    flow = flow_of(ran, local=True)

    assert env.run(flow, "a") == env.run(flow, "a")
    assert ran == ["a"]


def test_what_a_person_has_done_again_is_done_again(env: WorkflowEnv, ran: list[Any]) -> None:
    flow = flow_of(ran)

    handle = env.start(flow, "a")
    handle.result()
    handle.reset(1)
    handle.result()

    assert ran == ["a", "a"]


def test_a_result_that_may_be_undone_is_not_kept(env: WorkflowEnv) -> None:
    @step
    def undo(result: str) -> None: ...

    with pytest.raises(ValueError, match="cache and compensate do not go together"):

        @step(cache="1h", compensate=undo)
        def work() -> str:
            return ""

    @step(cache="1h")
    def other() -> str:
        return ""

    with pytest.raises(ValueError, match="cache and compensate do not go together"):
        other.options(compensate=undo)


@pytest.mark.selection
def test_what_is_over_is_pruned(env: WorkflowEnv, ran: list[Any]) -> None:
    flow = flow_of(ran)
    env.run(flow, "a")
    env.advance("2h")
    if env.database.engine.dialect.name != "sqlite":
        pytest.skip("a server goes by its own clock, and its tables are those of other tests too")
    env.database.prune.leftovers()

    with env.database.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM dramaturg_kept_results").scalar() == 0
