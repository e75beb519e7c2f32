"""Queries: answered by the code as it stands, without a trace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from dramaturg import (
    NotFound,
    QueryFailed,
    WorkflowCancelled,
    WrongState,
    now,
    on_query,
    random,
    set_status,
    side_effect,
    signals,
    sleep,
    step,
    uuid4,
    wait_signal,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import types_of


@pytest.mark.selection
def test_a_query_is_answered_by_the_code_as_it_stands(env: WorkflowEnv) -> None:
    @workflow
    async def adds_up_for_queries() -> int:
        numbers: list[int] = []

        @on_query
        def total() -> int:
            return sum(numbers)

        @on_query("last")
        def last_ones(count: int, *, skip: int = 0) -> list[int]:
            return numbers[-count - skip :]

        on_query("count", lambda: len(numbers))
        async for number in signals("add", type=int):
            if number == 0:
                break
            numbers.append(number)
        return sum(numbers)

    handle = env.start(adds_up_for_queries)
    assert handle.query("total") == 0
    handle.signal("add", 3)
    handle.signal("add", 4)
    before = types_of(handle)

    assert handle.query("total") == 7
    env.crash()
    assert handle.query("count") == 2
    assert handle.query("last", 1) == [4]
    assert types_of(handle) == before

    handle.signal("add", 0)
    assert handle.result() == 7
    assert handle.query("total") == 7
    env.crash()
    assert handle.query("last", 2) == [3, 4]


def test_values_of_any_kind_come_back_as_they_were(env: WorkflowEnv) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)

    @workflow
    async def echoes() -> None:
        on_query("echo", lambda value: (value, {1: value}))
        await wait_signal("end")

    handle = env.start(echoes)

    assert handle.query("echo", moment) == (moment, {1: moment})


def test_an_unknown_query_names_those_that_there_are(env: WorkflowEnv) -> None:
    @workflow
    async def answers_two() -> None:
        on_query("one", lambda: 1)
        on_query("two", lambda: 2)
        await wait_signal("end")

    handle = env.start(answers_two)

    with pytest.raises(NotFound, match=r"no query 'three'; it answers: 'one', 'two'"):
        handle.query("three")
    with pytest.raises(NotFound, match="no run"):
        env.client.handle("nobody").query("one")


def test_a_query_that_raises_tells_who_asked_and_nobody_else(env: WorkflowEnv) -> None:
    @workflow
    async def answers_badly() -> str:
        @on_query
        def fails() -> None:
            raise ValueError("no such thing")

        @on_query
        def nonsense() -> object:
            return object()

        await wait_signal("end")
        return "well"

    handle = env.start(answers_badly)

    with pytest.raises(QueryFailed, match="ValueError: no such thing"):
        handle.query("fails")
    with pytest.raises(QueryFailed, match="takes no argument"):
        handle.query("fails", 1)
    with pytest.raises(QueryFailed, match="query 'nonsense'"):
        handle.query("nonsense")
    handle.signal("end")
    assert handle.result() == "well"


@pytest.mark.filterwarnings("ignore:.*never awaited")
def test_a_query_that_asks_for_something_is_refused_and_leaves_no_trace(env: WorkflowEnv) -> None:
    @step(name="never_from_query")
    def never() -> int:
        return 1

    async def runs_never() -> int:
        return await never()

    asking: dict[str, Callable[[], Any]] = {
        "step": lambda: never(),  # noqa: PLW0108
        "task": lambda: asyncio.ensure_future(never()),
        "timer": lambda: asyncio.get_running_loop().call_later(5, print),
        "status": lambda: set_status("changed"),
        "effect": lambda: side_effect(lambda: 1),
        "bind": lambda: on_query("more", lambda: 1),
        "coroutine": lambda: runs_never(),  # noqa: PLW0108
    }

    @workflow
    async def is_asked_too_much() -> str:
        event = asyncio.Event()
        for name, fn in asking.items():
            on_query(name, fn)
        on_query("wake", event.set)
        waits = asyncio.create_task(event.wait())
        await wait_signal("end")
        waits.cancel()
        return str(uuid4())

    handle = env.start(is_asked_too_much)
    env.run_until_idle()
    before = types_of(handle)

    for name in [*asking, "wake"]:
        with pytest.raises(QueryFailed, match=r"only looks|is to be awaited"):
            handle.query(name)

    assert types_of(handle) == before
    env.crash()
    handle.signal("end")
    handle.result()
    assert "run.blocked" not in [event.type for event in handle.events()]


def test_values_that_the_code_derives_do_not_depend_on_queries(env: WorkflowEnv) -> None:
    @workflow
    async def derives() -> list[Any]:
        on_query("derive", lambda: [str(uuid4()), random().random(), now()])
        first = [str(uuid4()), random().random()]
        await wait_signal("end")
        return [*first, str(uuid4()), random().random()]

    plain, asked = env.client.start(derives, id="derives-1"), env.client.start(derives, id="derives-2")
    one, two = asked.query("derive"), asked.query("derive")
    assert one[:2] == two[:2]
    env.crash()
    for handle in (plain, asked):
        handle.signal("end")
        result = handle.result()
        env.crash()
        assert handle.query("derive")[0] not in result[:2]


def test_paused_and_blocked_runs_answer_or_say_why_not(env: WorkflowEnv) -> None:
    is_changed = False

    @step(name="one_for_query")
    def one() -> int:
        return 1

    @workflow
    async def changes() -> None:
        on_query("answer", lambda: 42)
        if not is_changed:
            await one()
        await sleep("1h")

    handle = env.start(changes)
    env.run_until_idle()
    handle.pause()
    assert handle.query("answer") == 42
    handle.resume()

    is_changed = True
    env.crash()
    with pytest.raises(WrongState, match="no longer fits"):
        handle.query("answer")
    env.advance("2h")
    assert handle.describe().status == "BLOCKED"
    with pytest.raises(WrongState, match="BLOCKED"):
        handle.query("answer")


def test_a_run_that_was_cancelled_or_failed_is_asked_as_it_ended(env: WorkflowEnv) -> None:
    @workflow
    async def has_a_state() -> None:
        state = "begun"
        on_query("state", lambda: state)
        try:
            await wait_signal("end")
        finally:
            state = "cleaned up"

    handle = env.start(has_a_state)
    handle.cancel()
    with pytest.raises(WorkflowCancelled):
        handle.result()
    assert handle.query("state") == "cleaned up"

    stopped = env.start(has_a_state)
    env.run_until_idle()
    stopped.terminate()
    assert stopped.query("state") == "begun"


def test_a_query_that_does_not_come_back_is_interrupted(make_env: Callable[..., WorkflowEnv]) -> None:
    @workflow
    async def spins_when_asked() -> str:
        def spin() -> None:
            while True:
                pass

        on_query("spin", spin)
        return str(await wait_signal("end"))

    with make_env(code_limit=0.2) as env:
        handle = env.start(spins_when_asked)
        with pytest.raises(QueryFailed, match="interrupted"):
            handle.query("spin")
        handle.signal("end", "well")
        assert handle.result() == "well"


def test_what_is_bound_is_checked_where_it_is_bound(env: WorkflowEnv) -> None:
    async def answers() -> int:
        return 1

    @workflow
    async def binds_nonsense() -> list[str]:
        said: list[str] = []
        for call in (
            lambda: on_query("a", answers),
            lambda: on_query("", lambda: 1),
            lambda: on_query("a", 3),  # type: ignore[call-overload]
        ):
            try:
                call()
            except (TypeError, ValueError) as error:
                said.append(str(error))
        return said

    said = env.run(binds_nonsense)

    assert "async" in said[0]
    assert "name of a query" in said[1]
    assert "not 3" in said[2]
    with pytest.raises(RuntimeError, match="inside a workflow"):
        on_query("a", lambda: 1)
