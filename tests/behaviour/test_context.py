"""The context of a run: what a start or the code gives its steps to see, beside their arguments."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from dramaturg import PayloadError, current_step, info, set_step_context, sleep, step, workflow
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of


class Tenant(BaseModel):
    """Who a run is for."""

    name: str
    limits: dict[str, int] = {}


def seen() -> Any:
    context = current_step()
    assert context is not None
    return context.context


look = step(name="look_at_context")(seen)
look_locally = step(name="look_at_context_locally", local=True)(seen)


@workflow
async def looks() -> Any:
    return [info().context, await look(), await look_locally()]


def test_steps_and_code_see_what_the_run_was_started_with(env: WorkflowEnv) -> None:
    handle = env.client.start(looks.options(context={"tenant": "acme", "trace": 7}))

    assert handle.result() == [{"tenant": "acme", "trace": 7}] * 3


def test_without_a_context_there_is_none(env: WorkflowEnv) -> None:
    assert env.run(looks) == [None, None, None]


def test_a_model_is_seen_as_that_model(env: WorkflowEnv) -> None:
    @step
    def limit_of() -> int:
        context = current_step()
        assert context is not None
        assert isinstance(context.context, Tenant)
        return context.context.limits["rps"]

    @workflow
    async def flow() -> int:
        assert isinstance(info().context, Tenant)
        return await limit_of()

    assert env.client.start(flow.options(context=Tenant(name="acme", limits={"rps": 5}))).result() == 5


@pytest.mark.selection
def test_what_the_code_sets_holds_for_later_steps_also_after_a_crash(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[Any]:
        first = await look()
        set_step_context(Tenant(name="acme"))
        second = await look()
        await sleep("1d")
        third = await look_locally()
        set_step_context(None)
        return [first, second, third, await look(), info().context]

    handle = env.client.start(flow.options(context="as started"))
    env.run_until_idle()
    env.crash()

    acme = Tenant(name="acme")
    assert handle.result() == ["as started", acme, acme, None, "as started"]
    assert [marker["kind"] for marker in events_of(handle, "marker.recorded")] == ["context", "context"]


def test_a_step_keeps_the_context_with_which_it_was_asked_for(env: WorkflowEnv) -> None:
    tried: list[Any] = []

    @step(retries=1)
    def twice() -> None:
        tried.append(seen())
        if len(tried) == 1:
            raise ValueError("once more")

    @workflow
    async def asks_before() -> None:
        set_step_context("first")
        task = asyncio.create_task(twice())
        await sleep(0.001)
        set_step_context("second")
        await task

    env.run(asks_before)

    assert tried == ["first", "first"]


def test_what_a_step_does_to_its_context_reaches_nobody(env: WorkflowEnv) -> None:
    @step
    def spoil() -> None:
        context = current_step()
        assert context is not None
        context.context["tenant"] = "somebody else"
        assert context.context == {"tenant": "acme"}

    @workflow
    async def flow() -> Any:
        info().context["tenant"] = "somebody else"
        await spoil()
        return [info().context, await look()]

    handle = env.client.start(flow.options(context={"tenant": "acme"}))

    assert handle.result() == [{"tenant": "acme"}] * 2


def test_a_context_that_cannot_be_encoded_is_refused_where_it_is_given(env: WorkflowEnv) -> None:
    with pytest.raises(PayloadError, match="the context of workflow 'looks'"):
        env.client.start(looks.options(context=object()))

    @workflow
    async def flow() -> str:
        try:
            set_step_context(object())
        except PayloadError as error:
            return str(error)
        return "it was taken"

    assert "set_step_context()" in env.run(flow)


def test_a_retry_of_the_run_keeps_the_context(env: WorkflowEnv) -> None:
    broken = [True]

    @step(retries=0)
    def may_break() -> Any:
        if broken:
            raise ValueError("broken")
        return seen()

    @workflow
    async def flow() -> Any:
        set_step_context("set")
        return await may_break()

    handle = env.client.start(flow)
    env.run_until_idle()
    assert handle.describe().status == "FAILED"
    broken.clear()
    handle.retry()

    assert handle.result() == "set"
