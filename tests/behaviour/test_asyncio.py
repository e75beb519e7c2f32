"""What asyncio offers works in a workflow, deterministically, with durable timers."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dramaturg import StepFailed, StepFunction, WorkflowFailed, as_completed, now, sleep, step, workflow
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of, types_of

TAG: contextvars.ContextVar[str] = contextvars.ContextVar("TAG", default="none")


@pytest.fixture(autouse=True)
def _steps() -> None:
    @step
    def double(number: int) -> int:
        return number * 2

    @step(retries=0)
    def fail(text: str) -> str:
        raise ValueError(text)

    global double_, fail_
    double_, fail_ = double, fail


double_: StepFunction[[int], int]
fail_: StepFunction[[str], str]


def test_gather_gives_results_in_the_order_of_its_arguments(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[int]:
        results: list[int] = await asyncio.gather(*[double_(number) for number in range(10)])
        return results

    assert env.run(flow) == [number * 2 for number in range(10)]


def test_gather_raises_the_failure_of_a_member(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        try:
            await asyncio.gather(double_(1), fail_("no"), sleep("1d"))
        except StepFailed as error:
            return error.message
        return "nothing was raised"

    assert env.run(flow) == "no"


def test_gather_collects_exceptions_where_asked_to(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[str]:
        results = await asyncio.gather(double_(1), fail_("no"), double_(3), return_exceptions=True)
        return [str(result) for result in results]

    assert env.run(flow) == ["2", "step 'fail' failed after 1 attempt: ValueError: no", "6"]


def test_a_failing_member_of_a_task_group_cancels_the_others(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[str]:
        messages: list[str] = []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(sleep("30d"))
                group.create_task(fail_("first"))
                group.create_task(sleep("40d"))
        except* StepFailed as several:
            messages = [str(error) for error in several.exceptions]
        return messages

    handle = env.start(flow)

    assert handle.result() == ["step 'fail' failed after 1 attempt: ValueError: first"]
    assert [data["seq"] for data in events_of(handle, "timer.cancelled")] == [1, 3]


def test_two_members_of_a_task_group_that_fail_together_are_both_in_its_group(env: WorkflowEnv) -> None:
    async def stumble(text: str) -> None:
        await sleep(1)
        raise ValueError(text)

    @workflow
    async def flow() -> list[str]:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(stumble("one"))
                group.create_task(clean_up())
        except ExceptionGroup as several:
            return sorted(str(error) for error in several.exceptions)
        return []

    async def clean_up() -> None:
        try:
            await sleep("1d")
        finally:
            raise ValueError("two")

    assert env.run(flow) == ["one", "two"]


def test_a_task_group_that_fails_the_run_shows_all_its_members_errors(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail_("in a group"))

    with pytest.raises(WorkflowFailed) as caught:
        env.run(flow)

    assert caught.value.error_type == "ExceptionGroup"
    assert "in a group" in caught.value.traceback


def test_tasks_run_beside_the_workflow(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[int]:
        task = asyncio.create_task(double_(4))
        first = await double_(1)
        return [first, await task]

    assert env.run(flow) == [2, 8]


def test_tasks_have_the_same_names_on_every_replay(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[str]:
        tasks = [asyncio.create_task(sleep(1)) for _ in range(2)]
        tasks.append(asyncio.create_task(sleep(1), name="mine"))
        await asyncio.gather(*tasks)
        await double_(int(tasks[0].get_name().split("-")[-1]))
        return [task.get_name() for task in tasks]

    first, second = env.start(flow), env.start(flow)
    env.run_until_idle()
    env.crash()

    assert first.result() == second.result()
    assert first.result()[2] == "mine"


def test_wait_returns_when_the_first_is_completed(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> tuple[int, int]:
        tasks = [asyncio.create_task(sleep(seconds)) for seconds in (3, 1, 2)]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks.index(done.pop()), len(pending)

    assert env.run(flow) == (1, 2)


def test_wait_returns_when_all_are_completed_or_time_is_over(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[int]:
        tasks = [asyncio.create_task(sleep(seconds)) for seconds in (1, 2, 30)]
        done, pending = await asyncio.wait(tasks, timeout=10)
        late, none = await asyncio.wait(pending)
        return [len(done), len(pending), len(late), len(none)]

    assert env.run(flow) == [2, 1, 1, 0]
    assert env.now == datetime(2030, 1, 1, 0, 0, 30, tzinfo=UTC)


def test_wait_gives_sets_whose_order_is_the_same_on_replay(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[int]:
        tasks = {asyncio.create_task(sleep(1)): number for number in range(20)}
        done, _ = await asyncio.wait(tasks)
        order = [tasks[task] for task in done]
        for number in order:
            await double_(number)
            await sleep(1)
        return order

    handle = env.start(flow)
    for _ in range(5):
        env.advance(1)
        env.crash()

    assert sorted(handle.result()) == list(range(20))


@pytest.mark.parametrize("complete", [asyncio.as_completed, as_completed], ids=["asyncio's", "ours"])
def test_as_completed_over_steps_asks_for_them_in_the_same_order_on_replay(env: WorkflowEnv, complete: Any) -> None:
    @workflow
    async def flow() -> list[int]:
        calls = [double_(number) for number in range(12)]
        return sorted([await each for each in complete(calls)])  # dramaturg: ok

    handle = env.start(flow)
    env.turn()
    for _ in range(3):
        env.crash()
        env.turn()

    assert handle.result() == [number * 2 for number in range(12)]
    assert "run.blocked" not in [event.type for event in handle.events()]


def test_as_completed_over_sleeps_asks_for_them_in_the_same_order_on_replay(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[int]:
        order: list[int] = []

        async def nap(seconds: int) -> None:
            await sleep(seconds)
            order.append(seconds)

        for each in as_completed([nap(seconds) for seconds in (5, 3, 8, 1)]):
            await each
            await double_(order[-1])
        return order

    handle = env.start(flow)
    for _ in range(9):
        env.advance(1)
        env.crash()

    assert handle.result() == [1, 3, 5, 8]


def test_asyncios_as_completed_over_sleeps_is_the_same_on_replay(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        for each in asyncio.as_completed([sleep(seconds) for seconds in range(1, 13)]):  # dramaturg: ok
            await each

    handles = [env.start(flow) for _ in range(2)]
    env.turn()
    dues = [[data["due"] for data in events_of(handle, "timer.started")] for handle in handles]
    for _ in range(3):
        env.crash()

    for handle, due in zip(handles, dues, strict=True):
        handle.result()
        fired = [data["seq"] for data in events_of(handle, "timer.fired")]
        assert fired == sorted(range(1, 13), key=lambda seq: due[seq - 1])


def test_a_timeout_that_is_reached_cancels_the_step_and_raises(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        try:
            async with asyncio.timeout(60):
                await sleep("1h")
        except TimeoutError:
            return f"after {now().minute} minute"
        return "slept"

    handle = env.start(flow)

    assert handle.result() == "after 1 minute"
    assert types_of(handle)[1:] == ["timer.started", "timer.started", "timer.fired", "timer.cancelled", "run.completed"]


def test_a_timeout_that_is_not_reached_cancels_its_timer(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> int:
        async with asyncio.timeout(60):
            return int(await double_(1))

    handle = env.start(flow)

    assert handle.result() == 2
    assert types_of(handle)[1:] == [
        "timer.started", "step.scheduled", "step.completed", "timer.cancelled", "run.completed"
    ]  # fmt: skip


def test_wait_for_gives_the_result_and_cancels_its_timer(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> int:
        return int(await asyncio.wait_for(double_(2), timeout=60))

    handle = env.start(flow)

    assert handle.result() == 4
    assert len(events_of(handle, "timer.cancelled")) == 1


def test_wait_for_that_fires_cancels_what_it_waited_for_once(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        try:
            await asyncio.wait_for(sleep("1h"), timeout=5)
        except TimeoutError:
            await sleep(1)
            return "too late"
        return "in time"

    handle = env.start(flow)

    assert handle.result() == "too late"
    assert len(events_of(handle, "timer.cancelled")) == 1
    assert len(events_of(handle, "timer.fired")) == 2


def test_an_event_wakes_the_task_that_waits_for_it(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[str]:
        ready = asyncio.Event()
        seen: list[str] = []

        async def waiter() -> None:
            await ready.wait()
            seen.append("woken")

        task = asyncio.create_task(waiter())
        await sleep(1)
        seen.append("slept")
        ready.set()
        await task
        return seen

    assert env.run(flow) == ["slept", "woken"]


def test_a_lock_lets_one_task_in_at_a_time_in_order(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[int]:
        lock = asyncio.Lock()
        seen: list[int] = []

        async def worker(number: int) -> None:
            async with lock:
                seen.append(number)
                await double_(number)
                seen.append(number)

        await asyncio.gather(*[worker(number) for number in range(4)])
        return seen

    assert env.run(flow) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_semaphore_limits_how_many_steps_are_under_way(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> int:
        semaphore, running, most = asyncio.Semaphore(2), 0, 0

        async def worker() -> None:
            nonlocal running, most
            async with semaphore:
                running += 1
                most = max(most, running)
                await double_(1)
                running -= 1

        await asyncio.gather(*[worker() for _ in range(6)])
        return most

    assert env.run(flow) == 2


def test_a_queue_connects_a_producer_and_a_consumer(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[int]:
        queue: asyncio.Queue[int | None] = asyncio.Queue(maxsize=1)
        results: list[int] = []

        async def consumer() -> None:
            while (item := await queue.get()) is not None:
                results.append(await double_(item))
                queue.task_done()

        task = asyncio.create_task(consumer())
        for item in (1, 2, 3, None):
            await queue.put(item)
        await task
        return results

    assert env.run(flow) == [2, 4, 6]


def test_a_condition_notifies_tasks_in_the_order_in_which_they_wait(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[int]:
        condition = asyncio.Condition()
        woken: list[int] = []

        async def waiter(number: int) -> None:
            async with condition:
                await condition.wait()
                woken.append(number)

        tasks = [asyncio.create_task(waiter(number)) for number in range(3)]
        await sleep(1)
        async with condition:
            condition.notify_all()
        await asyncio.gather(*tasks)
        return woken

    assert env.run(flow) == [0, 1, 2]


@pytest.mark.parametrize("duration", ["90s", "1m30s", timedelta(seconds=90), 90, 90.0])
def test_sleep_takes_every_form_of_a_duration(env: WorkflowEnv, duration: Any) -> None:
    @workflow
    async def flow() -> datetime:
        await sleep(duration)
        return now()

    assert env.run(flow) == datetime(2030, 1, 1, 0, 1, 30, tzinfo=UTC)


def test_sleep_takes_a_moment(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> datetime:
        await sleep(datetime(2030, 5, 1, tzinfo=UTC))
        return now()

    assert env.run(flow) == datetime(2030, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize("when", [0, datetime(1999, 1, 1, tzinfo=UTC)], ids=["no time", "a moment long past"])
def test_a_sleep_that_is_over_already_goes_on_at_once(env: WorkflowEnv, when: Any) -> None:
    @workflow
    async def flow() -> datetime:
        await sleep(when)
        return now()

    assert env.run(flow) == datetime(2030, 1, 1, tzinfo=UTC)


def test_a_moment_without_a_time_zone_is_refused(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        await sleep(datetime(2030, 5, 1))  # noqa: DTZ001

    with pytest.raises(WorkflowFailed, match="time zone"):
        env.run(flow)


@pytest.mark.selection
def test_asyncio_sleep_is_durable(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        return await asyncio.sleep(86_400, "rested")

    handle = env.start(flow)
    env.run_until_idle()
    env.crash()

    assert handle.result() == "rested"
    assert env.now == datetime(2030, 1, 2, tzinfo=UTC)


def test_asyncio_sleep_of_zero_lets_other_tasks_run_and_leaves_no_event(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[str]:
        seen: list[str] = []

        async def other() -> None:
            seen.append("other")

        task = asyncio.create_task(other())
        await asyncio.sleep(0)
        seen.append("main")
        await task
        return seen

    handle = env.start(flow)

    assert handle.result() == ["other", "main"]
    assert types_of(handle) == ["run.started", "run.completed"]


def test_sleep_can_be_asked_for_now_and_awaited_later(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> datetime:
        nap = sleep("1h")
        await double_(1)
        await nap
        return now()

    assert env.run(flow) == datetime(2030, 1, 1, 1, tzinfo=UTC)


def test_shield_keeps_a_step_when_its_waiter_gives_up(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> int:
        inner = asyncio.ensure_future(double_(21))
        waiter = asyncio.create_task(asyncio.wait_for(asyncio.shield(inner), timeout=30))
        await asyncio.sleep(0)
        waiter.cancel()
        return int(await inner)

    assert env.run(flow) == 42


def test_what_is_still_open_when_the_workflow_returns_is_dropped(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        background = [asyncio.create_task(sleep("30d")), asyncio.create_task(double_(1))]
        await sleep(1)
        return f"{len(background)} left"

    handle = env.start(flow)

    assert handle.result() == "2 left"
    env.advance("60d")
    assert types_of(handle)[-1] == "run.completed"
    assert handle.describe().open == []


def test_nested_coroutines_may_await_steps(env: WorkflowEnv) -> None:
    async def inner(number: int) -> int:
        return int(await double_(number))

    async def outer(number: int) -> int:
        return await inner(await inner(number))

    @workflow
    async def flow() -> int:
        return await outer(1)

    assert env.run(flow) == 4


def test_async_generators_may_await_steps(env: WorkflowEnv) -> None:
    async def doubles() -> AsyncIterator[int]:
        for number in range(3):
            yield await double_(number)

    @workflow
    async def flow() -> list[int]:
        return [number async for number in doubles()]

    assert env.run(flow) == [0, 2, 4]


def test_an_async_generator_that_is_left_early_cleans_up_with_steps(env: WorkflowEnv) -> None:
    cleaned: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(10):
                yield await double_(number)
        finally:
            cleaned.append("begun")
            await double_(100)

    @workflow
    async def flow() -> int:
        number = 0
        async for number in numbers():
            if number == 4:
                break
        await sleep(1)
        return number

    handle = env.start(flow)

    assert handle.result() == 4
    assert [data["input"]["args"] for data in events_of(handle, "step.scheduled")] == [[0], [1], [2], [100]]


def test_an_async_generator_that_is_left_open_when_its_run_is_evicted_leaves_no_trace(env: WorkflowEnv) -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await double_(100)

    @workflow
    async def flow() -> int:
        generator = numbers()
        first = await anext(generator)
        await sleep("1d")
        return first + await anext(generator)

    handle = env.start(flow)
    env.run_until_idle()
    env.crash()
    env.run_until_idle()

    assert types_of(handle) == ["run.started", "timer.started"]
    assert handle.result() == 3


def test_async_context_managers_may_await_steps(env: WorkflowEnv) -> None:
    @asynccontextmanager
    async def account() -> AsyncGenerator[int, None]:
        yield await double_(1)
        await double_(2)

    @workflow
    async def flow() -> int:
        async with account() as number:
            await sleep(1)
            return number

    handle = env.start(flow)

    assert handle.result() == 2
    assert len(events_of(handle, "step.completed")) == 2


def test_context_variables_belong_to_the_task_that_set_them(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[str]:
        async def look(value: str) -> str:
            TAG.set(value)
            await sleep(1)
            return TAG.get()

        TAG.set("main")
        inner = await asyncio.gather(look("a"), look("b"))
        return [*inner, TAG.get()]

    assert env.run(flow) == ["a", "b", "main"]
    assert TAG.get() == "none"
