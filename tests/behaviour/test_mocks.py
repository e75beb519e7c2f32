"""`WorkflowEnv` as tests use it: mocks of steps, replaced lifespans, and clients that find it by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from dramaturg import (
    AsyncClient,
    Client,
    StepContext,
    WorkflowFailed,
    current_step,
    lifespan,
    sleep,
    step,
    step_ref,
    workflow,
)
from dramaturg.testing import WorkflowEnv


def here() -> StepContext:
    context = current_step()
    assert context is not None
    return context


def shop(**options: Any) -> tuple[Any, Any]:
    """A step that must not run, and a workflow that asks for it."""

    @step(**options)
    def charge(order: str, cents: int = 100) -> str:
        raise AssertionError("the real one ran")

    @workflow
    async def buy(order: str) -> str:
        return await charge(order)

    return charge, buy


@pytest.mark.selection
def test_a_mock_stands_for_its_step_and_tells_how_it_was_called(env: WorkflowEnv) -> None:
    charge, buy = shop()
    mock = env.mock(charge, return_value="receipt")

    assert env.run(buy, "o-1") == "receipt"

    mock.assert_called_once_with("o-1")
    mock.assert_called_once_with(order="o-1", cents=100)
    mock.assert_any_call("o-1")
    assert [call.args for call in mock.calls] == [("o-1",)]
    assert (mock.called, mock.call_count, mock.call_args) == (True, 1, mock.calls[0])
    with pytest.raises(AssertionError, match=r"not called with call\('o-2'\)"):
        mock.assert_called_once_with("o-2")
    with pytest.raises(AssertionError, match="was called"):
        mock.assert_not_called()


def test_what_a_mock_raises_is_retried_as_the_step_says(env: WorkflowEnv) -> None:
    charge, buy = shop(retries=2)
    mock = env.mock(charge, side_effect=[ConnectionError("away"), ConnectionError("away"), "receipt"])

    assert env.run(buy, "o-1") == "receipt"
    assert len(mock.calls) == 3


def test_a_mock_that_always_raises_fails_the_step(env: WorkflowEnv) -> None:
    charge, buy = shop(retries=1)
    mock = env.mock(charge, side_effect=ValueError("stolen"))

    with pytest.raises(WorkflowFailed, match="stolen"):
        env.run(buy, "o-1")
    assert mock.call_count == 2


@pytest.mark.parametrize("is_async", [False, True])
def test_a_function_may_answer_for_a_step(env: WorkflowEnv, is_async: bool) -> None:
    charge, buy = shop()

    def answer(order: str) -> str:
        return f"{order}, attempt {here().attempt}"

    async def later(order: str) -> str:
        await asyncio.sleep(0)
        return answer(order)

    first = env.mock(charge, later if is_async else answer)
    assert env.run(buy, "o-1") == "o-1, attempt 1"
    env.mock(charge, side_effect=answer)
    assert env.run(buy, "o-2") == "o-2, attempt 1"
    assert first.call_count == 1


def test_a_mock_of_a_local_step_and_of_one_known_by_name_only(env: WorkflowEnv) -> None:
    charge, buy = shop(local=True)
    env.mock(charge, return_value="local")
    far = step_ref("far_away", queue="gpu")
    env.mock("far_away", return_value=7)

    @workflow
    async def flow() -> list[Any]:
        return [await far("x"), await charge("o-1")]

    assert env.run(flow) == [7, "local"]
    assert env.run(buy, "o-2") == "local"


def test_a_mock_stays_over_a_crash_and_goes_with_its_engine(make_env: Callable[..., WorkflowEnv]) -> None:
    @step
    def real() -> str:
        return "real"

    @workflow
    async def flow() -> list[str]:
        first = await real()
        await sleep("1d")
        return [first, await real()]

    with make_env() as env:
        mock = env.mock(real, return_value="mocked")
        handle = env.start(flow)
        env.run_until_idle()
        env.crash()
        assert handle.result() == ["mocked", "mocked"]
        mock.restore()
        assert env.run(flow) == ["real", "real"]
        env.mock(real, return_value="again")
    with make_env() as env:
        assert env.run(flow) == ["real", "real"]


def test_a_mock_is_refused_where_it_makes_no_sense(env: WorkflowEnv) -> None:
    charge, buy = shop()

    with pytest.raises(KeyError, match="there is no step 'nothing'"):
        env.mock("nothing")
    with pytest.raises(TypeError, match="is no step"):
        env.mock(buy)
    with pytest.raises(TypeError, match="a mock has one of"):
        env.mock(charge, return_value=1, side_effect=ValueError)
    with pytest.raises(TypeError, match="is no function"):
        env.mock(charge, "receipt")


def test_entries_of_lifespans_are_replaced(make_env: Callable[..., WorkflowEnv]) -> None:
    entered: list[str] = []

    @lifespan
    def clients() -> Iterator[dict[str, Any]]:
        entered.append("real")
        yield {"http": "real", "db": "real"}

    @step
    def look() -> list[Any]:
        return [here().state.get(name) for name in ("http", "db", "more")]

    @step(local=True)
    def look_locally() -> list[Any]:
        return [here().state.get(name) for name in ("http", "db", "more")]

    @workflow
    async def flow() -> list[Any]:
        return [await look(), await look_locally()]

    with make_env() as env:
        assert env.run(flow) == [["real", "real", None]] * 2
        env.state(http="fake", more=1)
        assert env.run(flow) == [["fake", "real", 1]] * 2
        env.crash()
        assert env.run(flow) == [["fake", "real", 1]] * 2
    entered.clear()
    with make_env(lifespans=False) as env:
        env.state(http="fake")
        assert env.run(flow) == [["fake", None, None]] * 2
    assert entered == []


def test_clients_without_a_configuration_talk_to_the_engine_under_test(make_env: Callable[..., WorkflowEnv]) -> None:
    @workflow
    async def nap() -> str:
        await sleep("30d")
        return "rested"

    async def ask() -> str:
        client = AsyncClient()
        handle = await client.start(nap)
        return await handle

    with make_env() as outer, make_env() as env:
        with Client() as client:
            assert client.start(nap).result() == "rested"
        assert asyncio.run(ask()) == "rested"
        assert env.client.count() == 2
        env.close()
        assert Client().count() == outer.client.count() == 0


def test_it_is_driven_from_inside_an_event_loop_too(env: WorkflowEnv) -> None:
    @workflow
    async def nap(name: str) -> str:
        await sleep("1d")
        return name

    async def test() -> list[Any]:
        handle = await env.async_client.start(nap, "a")
        env.advance("12h")
        assert (await handle.describe()).status == "WAITING"
        both = await asyncio.gather(env.async_client.start(nap, "b"), env.async_client.start(nap, "c"))
        return [env.run(nap, "d"), await handle, *await asyncio.gather(*both)]

    before = env.now
    assert asyncio.run(test()) == ["d", "a", "b", "c"]
    assert env.now - before <= timedelta(days=2, hours=12)


def test_without_auto_advance_nobody_skips_time(make_env: Callable[..., WorkflowEnv]) -> None:
    @workflow
    async def nap() -> str:
        await sleep("1d")
        return "rested"

    with make_env(auto_advance=False) as env:
        handle = env.start(nap)
        with pytest.raises(TimeoutError, match="still open"):
            handle.result(timeout="2d")
        env.advance_to(env.now + timedelta(days=1))
        assert handle.result() == "rested"
