"""Priorities: lower runs first, whoever says it: the call, the decorator, the start, the configuration."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dramaturg import Settings, step, workflow
from dramaturg.testing import WorkflowEnv
from dramaturg_coordinator import window
from tests.behaviour.histories import events_of


@pytest.fixture(autouse=True)
def _one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a queue one message is out at a time, so that its order is that of the coordinator, over any broker."""
    monkeypatch.setattr(window, "BOUND", 1)


@pytest.fixture
def ran() -> list[str]:
    return []


def flow_of(ran: list[str], **options: Any) -> Any:
    @step(**options)
    def work(what: str) -> None:
        ran.append(what)

    @workflow
    async def flow(*calls: tuple[str, int | None]) -> None:
        await asyncio.gather(
            *[work(name) if priority is None else work.options(priority=priority)(name) for name, priority in calls]
        )

    return flow


@pytest.mark.selection
def test_the_priority_of_a_call_decides_who_is_first(env: WorkflowEnv, ran: list[str]) -> None:
    flow = flow_of(ran)

    env.run(flow, ("first", 0), ("late", 7), ("usual", None), ("early", -3))

    assert ran == ["first", "early", "usual", "late"]


@pytest.mark.selection
def test_it_holds_after_a_crash(env: WorkflowEnv, ran: list[str]) -> None:
    flow = flow_of(ran)

    handle = env.start(flow, ("late", 7), ("usual", None), ("early", -3))
    env.turn()
    env.crash()
    handle.result()

    assert list(dict.fromkeys(ran)) == ["late", "early", "usual"]


def test_a_call_goes_before_the_decorator_and_that_before_the_start(env: WorkflowEnv, ran: list[str]) -> None:
    flow = flow_of(ran, priority=2)

    handle = env.client.start(flow.options(priority=-9), ("first", None), ("declared", None), ("said", 1))
    handle.result()

    assert ran == ["first", "said", "declared"]
    assert events_of(handle, "run.started")[0]["priority"] == -9


def test_the_priority_of_a_start_is_that_of_its_steps(env: WorkflowEnv, ran: list[str]) -> None:
    flow = flow_of(ran)

    handles = [
        env.client.start(flow, ("first", None), ("usual", None)),
        env.client.start(flow.options(priority=5), ("low", None)),
        env.client.start(flow.options(priority=-5), ("urgent", None)),
    ]
    for handle in handles:
        handle.result()

    # All of the three run in one partition on SQLite; elsewhere each partition has an order of its own.
    assert ran.index("first") < ran.index("usual")
    if len(env.database.partitions) == 1:
        assert ran == ["first", "urgent", "usual", "low"]


def test_the_configuration_may_say_it(make_env: Any, ran: list[str]) -> None:
    flow = flow_of(ran)

    with make_env(settings=Settings(step={"priority": 4})) as env:
        env.run(flow, ("first", None), ("usual", None), ("said", 3))

    assert ran == ["first", "said", "usual"]


def test_local_steps_wait_in_the_same_order(env: WorkflowEnv, ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    flow = flow_of(ran, local=True)
    monkeypatch.setattr(env._local, "_limit", 0)  # pyright: ignore[reportPrivateUsage]

    handle = env.start(flow, ("usual", None), ("late", 7), ("early", -3))
    env.turn()
    assert ran == []
    monkeypatch.setattr(env._local, "_limit", 1)  # pyright: ignore[reportPrivateUsage]
    more = env.start(flow, ("last", 9))
    more.result()
    handle.result()

    assert ran == ["early", "usual", "late", "last"]


def test_a_priority_that_is_no_number_is_refused_where_it_is_given(env: WorkflowEnv) -> None:
    flow = flow_of([])

    wrong: Any = {"priority": "high"}
    with pytest.raises(TypeError, match="priority must be int"):
        env.client.start(flow, **wrong)
    with pytest.raises(TypeError, match="priority must be int"):
        step(**wrong)
