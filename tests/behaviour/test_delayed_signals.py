"""Signals that are sent later: kept until they are due, and given to whoever the run is by then."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from dramaturg import Handle, WorkflowFailed, WrongState, continue_as_new, now, sleep, step, wait_signal, workflow
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of, has_gapless_numbers


def prune_before(env: WorkflowEnv, moment: datetime) -> int:
    """Delete the runs that were closed before a moment of the virtual clock, whatever the server's says."""
    return env.database.prune.closed_runs(env.database.reads.time() - moment)


def given(handle: Handle[Any]) -> list[Any]:
    return [event["payload"] for event in events_of(handle, "signal.received")]


@workflow
async def hears_one() -> list[str]:
    payload = await wait_signal("remind")
    return [payload, now().isoformat()]


@pytest.mark.selection
@pytest.mark.parametrize("as_moment", [False, True])
def test_a_delayed_signal_is_there_when_it_is_due_and_not_before(env: WorkflowEnv, as_moment: bool) -> None:
    handle = env.start(hears_one)
    due = env.now + timedelta(days=400)
    handle.signal("remind", "now", delay=due if as_moment else "400d", by="ada", reason="it is time")
    env.advance("399d")
    env.crash()
    assert handle.describe().status == "WAITING"
    assert given(handle) == []

    assert handle.result() == ["now", due.isoformat()]
    (event,) = events_of(handle, "signal.received")
    assert (event["by"], event["reason"]) == ("ada", "it is time")


def test_several_come_in_the_order_in_which_they_are_due(env: WorkflowEnv) -> None:
    @workflow
    async def hears_three() -> list[Any]:
        return [await wait_signal("go") for _ in range(3)]

    handle = env.start(hears_three)
    handle.signal("go", "late", delay="2h")
    handle.signal("go", "soon", delay="1h")
    handle.signal("go", "at once", delay=0)

    assert handle.result() == ["at once", "soon", "late"]
    assert has_gapless_numbers(handle)


def test_the_same_key_counts_once_whether_put_off_or_not(env: WorkflowEnv) -> None:
    @workflow
    async def hears_for_a_day() -> list[Any]:
        await sleep("1d")
        return [await wait_signal("go"), await wait_signal("go")]

    handle = env.start(hears_for_a_day)
    handle.signal("go", 1, "k", "1h")
    handle.signal("go", 2, "k", "2h")
    handle.signal("go", 3, "k", "3h")
    env.advance("5h")
    handle.signal("go", 4, "k")
    handle.signal("go", 5, "k", delay="1h")
    handle.signal("go", 6, delay="1h")

    assert handle.result() == [1, 6]
    assert given(handle) == [1, 6]


def test_a_run_that_continues_has_it_at_the_end_of_its_chain(env: WorkflowEnv) -> None:
    @workflow
    async def continues_three_times(number: int) -> list[Any]:
        if number < 3:
            await sleep("1d")
            continue_as_new(number + 1)
        return [number, await wait_signal("remind")]

    handle = env.start(continues_three_times, 0)
    env.run_until_idle()
    first = env.client.handle(handle.run_id)
    first.signal("remind", "x", delay="10d")
    env.advance("4d")
    assert prune_before(env, env.now - timedelta(days=1, hours=1)) == 2

    assert env.client.handle(handle.workflow_id).result(timeout="30d") == [3, "x"]


def test_a_run_that_went_on_is_told_in_the_caller_s_transaction_too(env: WorkflowEnv) -> None:
    @workflow
    async def continues_once(number: int) -> list[Any]:
        if number == 0:
            continue_as_new(1)
        return [await wait_signal("go"), await wait_signal("go")]

    handle = env.start(continues_once, 0)
    env.run_until_idle()
    first = env.client.handle(handle.run_id)
    with env.database.engine.begin() as connection:
        first.signal("go", "at once", connection=connection)
        first.signal("go", "later", delay="1d", connection=connection)

    assert handle.result() == ["at once", "later"]


def test_one_that_is_closed_by_then_has_no_more_of_it(env: WorkflowEnv) -> None:
    @workflow
    async def ends_at_once() -> int:
        await sleep("1h")
        return 1

    handle = env.start(ends_at_once)
    env.run_until_idle()
    handle.signal("remind", "x", delay="1d")
    assert handle.result() == 1
    env.advance("2d")

    assert given(handle) == []
    assert env.client.dead_letters.list() == []
    with pytest.raises(WrongState, match=r"COMPLETED.*no signal 'remind'"):
        handle.signal("remind", "y", delay="1d")
    prune_before(env, env.now)
    assert env.database.postponed.next_due(env.database.partitions, datetime.max.replace(tzinfo=env.now.tzinfo)) is None


def test_a_run_that_goes_on_after_its_failure_has_what_came_due_meanwhile(env: WorkflowEnv) -> None:
    broken = [True]

    @step(name="fails_before_reminder", retries=0)
    def fails() -> int:
        if broken[0]:
            raise ValueError("broken")
        return 1

    @workflow
    async def fails_then_hears() -> list[Any]:
        return [await fails(), await wait_signal("remind"), await wait_signal("remind")]

    handle = env.start(fails_then_hears)
    handle.signal("remind", "while it was failed", delay="1d")
    handle.signal("remind", "later", delay="9d")
    with pytest.raises(WorkflowFailed):
        handle.result()
    env.advance("2d")
    env.crash()
    broken[0] = False

    handle.retry()

    assert handle.result() == [1, "while it was failed", "later"]


def test_what_a_crash_left_of_a_retry_is_found_by_the_next_coordinator(env: WorkflowEnv) -> None:
    @workflow
    async def hears_it() -> Any:
        return await wait_signal("remind", timeout="30d")

    handle = env.start(hears_it)
    handle.signal("remind", "kept", delay="1d")
    handle.terminate()
    env.advance("2d")
    handle.reset(to_event=1)
    env.crash()

    assert handle.result() == "kept"


def test_one_for_a_run_that_nobody_has_taken_yet_waits_for_it(env: WorkflowEnv) -> None:
    handle = env.client.start(hears_one, id="cart-7", delay="3d")
    env.client.handle("cart-7").signal("remind", "early", delay="1h")

    payload, _ = handle.result()
    assert payload == "early"


@pytest.mark.parametrize("delay", ["soon", datetime(2030, 1, 1), "-5m", object()])  # noqa: DTZ001 - that is what is refused
def test_a_delay_that_cannot_be_meant_is_refused_where_it_is_given(env: WorkflowEnv, delay: Any) -> None:
    handle = env.start(hears_one)
    with pytest.raises((ValueError, TypeError)):
        handle.signal("remind", "x", delay=delay)
    handle.signal("remind", "y")
    assert handle.result()[0] == "y"


def test_the_async_handle_puts_off_too(env: WorkflowEnv) -> None:
    due = env.now + timedelta(hours=5)

    async def puts_off() -> list[str]:
        handle = await env.async_client.start(hears_one)
        await handle.signal("remind", "x", delay="5h")
        return await handle

    assert asyncio.run(puts_off()) == ["x", due.isoformat()]
