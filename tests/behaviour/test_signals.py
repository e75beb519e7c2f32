"""Signals: kept in order until the code takes them, none lost, each counted once."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from dramaturg import (
    Handle,
    NotFound,
    PayloadError,
    WorkflowFailed,
    WrongState,
    now,
    shield,
    signals,
    sleep,
    step,
    wait_signal,
    wait_until,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of, has_gapless_numbers, types_of


class Item(BaseModel):
    name: str
    cents: int


def given(handle: Handle[Any]) -> list[Any]:
    return [event["payload"] for event in events_of(handle, "signal.received")]


@pytest.mark.selection
def test_a_signal_wakes_the_code_that_waits_for_it(env: WorkflowEnv) -> None:
    @workflow
    async def waits_for_one() -> Any:
        return await wait_signal("go")

    handle = env.start(waits_for_one)
    env.run_until_idle()
    assert handle.describe().status == "WAITING"

    handle.signal("go", {"speed": 3}, by="ada", reason="she wants to")

    assert handle.result() == {"speed": 3}
    assert types_of(handle) == ["run.started", "signal.received", "run.completed"]
    (event,) = events_of(handle, "signal.received")
    assert (event["by"], event["reason"]) == ("ada", "she wants to")


def test_signals_are_kept_in_order_before_the_code_listens(env: WorkflowEnv) -> None:
    @workflow
    async def listens_late() -> list[Any]:
        await sleep("1h")
        return [await wait_signal("item") for _ in range(3)] + [await wait_signal("other")]

    handle = env.start(listens_late)
    for number in (1, 2):
        handle.signal("item", number)
    handle.signal("other", "x")
    env.crash()
    handle.signal("item", 3)

    assert handle.result() == [1, 2, 3, "x"]


def test_a_signal_that_arrives_before_the_start_is_taken_waits_for_it(env: WorkflowEnv) -> None:
    @workflow
    async def begins_late() -> Any:
        return await wait_signal("go")

    handle = env.start(begins_late)
    handle.signal("go", 1)

    assert handle.result() == 1
    assert has_gapless_numbers(handle)


def test_the_same_idempotency_key_counts_once_for_a_name(env: WorkflowEnv) -> None:
    @workflow
    async def counts() -> list[Any]:
        first = await wait_signal("add")
        await sleep("1h")
        return [first, await wait_signal("add"), await wait_signal("more")]

    handle = env.start(counts)
    handle.signal("add", 1, "k")
    handle.signal("add", 2, "k")
    env.crash()
    handle.signal("add", 3, idempotency_key="k")
    handle.signal("more", 4, "k")
    handle.signal("add", 5)

    assert handle.result() == [1, 5, 4]
    assert given(handle) == [1, 4, 5]
    handle.signal("add", 6, "k")  # it was counted, whatever became of the run


@pytest.mark.parametrize("type_", [Item, TypeAdapter(Item)])
def test_a_payload_becomes_what_the_code_says_it_is(env: WorkflowEnv, type_: Any) -> None:
    @workflow
    async def takes_items() -> int:
        item = await wait_signal("item", type=type_)
        again = await wait_signal("item", type=type_)
        moments = await wait_signal("moments", type=list[datetime])
        return int(item.cents) + int(again.cents) + moments[0].year

    handle = env.start(takes_items)
    handle.signal("item", {"name": "pen", "cents": 100})
    handle.signal("item", Item(name="ink", cents=200))
    handle.signal("moments", [env.now])

    assert handle.result() == 300 + env.now.year


def test_a_payload_that_does_not_fit_fails_at_the_waiter_and_says_what_arrived(env: WorkflowEnv) -> None:
    @workflow
    async def takes_a_number() -> list[Any]:
        try:
            await wait_signal("number", type=int)
        except PayloadError as error:
            return [str(error), await wait_signal("number", type=int)]
        return []

    handle = env.start(takes_a_number)
    handle.signal("number", "many")
    handle.signal("number", 2)

    said, after = handle.result()
    assert "signal 'number'" in said
    assert '"many"' in said
    assert after == 2


def test_a_payload_that_cannot_be_sent_is_refused_where_it_is_given(env: WorkflowEnv) -> None:
    @workflow
    async def waits() -> Any:
        return await wait_signal("go")

    handle = env.start(waits)
    with pytest.raises(PayloadError, match="signal 'go'"):
        handle.signal("go", object())
    with pytest.raises(ValueError, match="name of a signal"):
        handle.signal("")
    with pytest.raises(NotFound):
        env.client.handle("nobody").signal("go")
    handle.signal("go")
    assert handle.result() is None


@pytest.mark.selection
def test_time_ends_a_wait_and_the_next_signal_is_for_the_next_one(env: WorkflowEnv) -> None:
    @workflow
    async def is_patient_for_a_day() -> list[Any]:
        try:
            await wait_signal("go", timeout="1d")
        except TimeoutError as error:
            return [str(error), now().isoformat(), await wait_signal("go", timeout="1d")]
        return []

    handle = env.start(is_patient_for_a_day)
    begin = env.now
    env.advance("25h")
    handle.signal("go", 1)

    said, at, taken = handle.result()
    assert "no signal 'go' came within 1d" in said
    assert at == (begin + timedelta(days=1)).isoformat()
    assert taken == 1
    assert types_of(handle)[-3:] == ["signal.received", "timer.cancelled", "run.completed"]


def test_a_signal_that_is_there_starts_no_timer(env: WorkflowEnv) -> None:
    @workflow
    async def has_it_at_once() -> Any:
        await sleep(1)
        return await wait_signal("go", timeout="1d")

    handle = env.start(has_it_at_once)
    handle.signal("go", 1)

    assert handle.result() == 1
    assert len(events_of(handle, "timer.started")) == 1


def test_those_who_stop_waiting_lose_no_signal(env: WorkflowEnv) -> None:
    @workflow
    async def stops_waiting() -> list[Any]:
        seen: list[Any] = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await wait_signal("go")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait_signal("go"), 60)
        waiting = asyncio.gather(wait_signal("go"), wait_signal("stop"))
        await sleep(60)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        task = asyncio.create_task(wait_signal("go"))
        await sleep(60)
        task.cancel()
        seen.append(await wait_signal("go"))
        seen.append(await wait_signal("go"))
        return seen

    handle = env.start(stops_waiting)
    env.advance("5m")
    handle.signal("go", 1)
    handle.signal("go", 2)

    assert handle.result() == [1, 2]


def test_one_who_is_cancelled_in_the_moment_of_the_signal_gives_it_back(env: WorkflowEnv) -> None:
    @workflow
    async def is_cancelled_just_then() -> list[Any]:
        tasks = [asyncio.create_task(wait_signal("go")) for _ in range(2)]

        async def cancels_the_first() -> Any:
            await wait_signal("before")
            taken = await wait_signal("go", timeout="1h")
            tasks[0].cancel()
            return taken

        own = asyncio.create_task(cancels_the_first())
        await wait_until(lambda: own.done() or tasks[1].done())
        rest = await asyncio.gather(own, *tasks, return_exceptions=True)
        return [each if isinstance(each, int) else type(each).__name__ for each in rest]

    handle = env.start(is_cancelled_just_then)
    env.run_until_idle()
    handle.signal("before")
    for number in (1, 2, 3):
        handle.signal("go", number)

    assert handle.result() == [3, 1, 2]


def test_signals_is_an_iterator_over_what_comes(env: WorkflowEnv) -> None:
    @workflow
    async def adds_up() -> int:
        total = 0
        async for number in signals("add", type=int):
            total += number
            if total > 9:
                break
        return total

    handle = env.start(adds_up)
    for number in (1, 2, 3, 4, 5):
        handle.signal("add", number)
        env.crash()
        if handle.describe().closed_at is not None:
            break

    assert handle.result() == 10


def test_a_condition_is_looked_at_after_everything_that_happens(env: WorkflowEnv) -> None:
    @step(name="counts_for_condition")
    def one() -> int:
        return 1

    @workflow
    async def waits_for_three() -> list[int]:
        seen: list[int] = []

        async def counts() -> None:
            seen.append(await one())
            await sleep("1h")
            seen.append(2)

        async def listens() -> None:
            seen.append(await wait_signal("third"))

        tasks = [asyncio.create_task(counts()), asyncio.create_task(listens())]
        await wait_until(lambda: len(seen) == 3)
        await asyncio.gather(*tasks)
        return seen

    handle = env.start(waits_for_three)
    env.advance("30m")
    handle.signal("third", 3)

    assert handle.result() == [1, 3, 2]


def test_a_condition_may_come_true_by_what_another_one_wakes(env: WorkflowEnv) -> None:
    @workflow
    async def dominoes() -> int:
        fallen = 0

        async def falls_after(number: int) -> None:
            nonlocal fallen
            await wait_until(lambda: fallen >= number)
            fallen += 1

        async with asyncio.TaskGroup() as group:
            for number in (3, 2, 1):
                group.create_task(falls_after(number))
            await wait_signal("push")
            fallen = 1
        return fallen

    handle = env.start(dominoes)
    env.run_until_idle()
    handle.signal("push")

    assert handle.result() == 4


def test_a_condition_has_a_time_limit_and_an_error_of_its_own(env: WorkflowEnv) -> None:
    @workflow
    async def never() -> list[str]:
        said: list[str] = []
        for predicate in (lambda: False, lambda: 1 / len(said) < 1):
            try:
                await wait_until(predicate, timeout="1h")
            except (TimeoutError, ZeroDivisionError) as error:
                said.append(str(error))
        await wait_until(lambda: bool(said), timeout="1h")
        return said

    handle = env.start(never)

    assert "did not come true within 1h" in handle.result()[0]


def test_a_condition_that_asks_for_something_is_an_error(env: WorkflowEnv) -> None:
    @step(name="never_from_condition")
    def never() -> bool:
        return True

    @workflow
    async def asks() -> list[str]:
        said: list[str] = []

        async def coroutine() -> bool:
            return True

        for predicate in (lambda: asyncio.create_task(coroutine_of()), never, coroutine):
            try:
                await wait_until(predicate)
            except Exception as error:
                said.append(str(error))
        return said

    async def coroutine_of() -> None:
        """Nothing."""

    with pytest.warns(RuntimeWarning, match="never awaited"):
        said = env.run(asks)

    assert "only looks" in said[0]
    assert "plain function" in said[1]
    assert "plain function" in said[2]


def test_signals_for_a_paused_or_blocked_run_are_kept(env: WorkflowEnv) -> None:
    @workflow(name="taken_away")
    async def waits() -> list[Any]:
        return [await wait_signal("go"), await wait_signal("go"), await wait_signal("go")]

    handle = env.start(waits)
    handle.pause()
    handle.signal("go", 1)
    assert handle.describe().status == "PAUSED"
    handle.resume()
    env.run_until_idle()
    env.crash()
    handle.pause()
    env.crash()
    handle.signal("go", 2)
    handle.resume()
    handle.signal("go", 3)

    assert handle.result() == [1, 2, 3]


def test_a_closed_run_takes_no_signal_and_says_so(env: WorkflowEnv) -> None:
    @workflow
    async def ends() -> None:
        await wait_signal("go")

    handle = env.start(ends)
    handle.signal("go", 1, "k")
    handle.result()

    with pytest.raises(WrongState, match=r"COMPLETED.*no signal 'go'"):
        handle.signal("go", 2)
    assert given(handle) == [1]


def test_a_retry_and_a_reset_keep_the_signals_that_came_since(env: WorkflowEnv) -> None:
    broken = [True]

    @step(name="fails_for_signals", retries=0)
    def fails() -> int:
        if broken[0]:
            raise ValueError("broken")
        return 1

    @workflow
    async def asks_then_listens() -> list[Any]:
        task = asyncio.create_task(fails())
        await wait_signal("first")
        async with shield():
            await sleep("1h")
        return [await task, await wait_signal("second")]

    handle = env.start(asks_then_listens)
    env.run_until_idle()
    handle.signal("first", 1)
    handle.signal("second", 2)
    with pytest.raises(WorkflowFailed):
        handle.result()
    broken[0] = False

    handle.retry()
    env.crash()
    assert handle.result() == [1, 2]

    handle.reset(to_event=1)
    env.crash()
    assert handle.result() == [1, 2]
    assert given(handle) == [1, 2]
    assert has_gapless_numbers(handle)


def test_people_see_what_is_waited_for_since_when(env: WorkflowEnv) -> None:
    @workflow
    async def waits_for_much() -> None:
        is_done = False
        await asyncio.gather(wait_signal("go", timeout="1d"), wait_until(lambda: is_done))

    handle = env.start(waits_for_much)
    env.run_until_idle()
    env.advance("3h")
    env.crash()

    said = handle.describe().waiting_for
    assert "signal go since 3h, times out in 21h" in said
    assert "condition <lambda> since 3h" in said
    assert "timer" not in said


def test_a_run_that_waits_for_a_signal_is_not_taken_for_stuck(env: WorkflowEnv) -> None:
    @workflow
    async def waits() -> None:
        await wait_signal("go")

    handle = env.start(waits)
    env.run_until_idle()
    partitions = env.database.partitions
    assert [run for each in partitions for run in env.database.store.idle_runs(each, 10)] == []

    handle.signal("go")
    assert handle.result() is None
