"""Async steps: one loop, no worker thread, and hooks that cannot hurt the loop."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
import time
from typing import Any

import pytest
from dramatiq.middleware import CurrentMessage, Middleware

from dramaturg_actors.context import current_step
from dramaturg_protocol.messages import ReportKind
from tests.unit.actors.workshop import Workshop


def test_async_steps_run_beyond_the_number_of_threads(workshop: Workshop) -> None:
    running = 0
    all_here = asyncio.Event()

    @workshop.step
    async def meet() -> None:
        nonlocal running
        running += 1
        if running == 20:
            all_here.set()
        await all_here.wait()

    workshop.start(threads=1)

    for _ in range(20):
        workshop.send("meet")

    assert {workshop.outcome().kind for _ in range(20)} == {ReportKind.COMPLETED}


def test_no_more_async_steps_run_at_once_than_the_limit(workshop: Workshop) -> None:
    running = 0
    most = 0

    @workshop.step
    async def count() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0.001)
        running -= 1

    workshop.start(async_limit=3)

    for _ in range(20):
        workshop.send("count")
    for _ in range(20):
        workshop.outcome()

    assert most == 3


def test_async_steps_do_not_wait_for_busy_threads(workshop: Workshop) -> None:
    release = threading.Event()

    @workshop.step
    def hold() -> None:
        release.wait(10)

    @workshop.step
    async def quick() -> str:
        return "quick"

    workshop.start(threads=1)

    workshop.send("hold")
    assert workshop.run("quick").result == '"quick"'
    release.set()
    assert workshop.outcome().kind is ReportKind.COMPLETED


def test_steps_of_lower_priority_numbers_begin_first(workshop: Workshop) -> None:
    order: list[str] = []
    loops: queue.Queue[asyncio.AbstractEventLoop] = queue.Queue()
    may_go = asyncio.Event()
    begun = threading.Event()

    @workshop.step
    async def block() -> None:
        loops.put(asyncio.get_running_loop())
        begun.set()
        await may_go.wait()

    @workshop.step_with(priority=10)
    async def late() -> None:
        order.append("late")

    @workshop.step_with(priority=-1)
    async def early() -> None:
        order.append("early")

    @workshop.step
    def go() -> None:
        pass

    workshop.start(async_limit=1)
    workshop.send("block")
    begun.wait(10)
    for name in ("late", "early", "late", "early"):
        workshop.send(name)
    workshop.run("go")  # the consumer took all that was sent before

    loops.get().call_soon_threadsafe(may_go.set)
    for _ in range(5):
        workshop.outcome()

    assert order == ["early", "early", "late", "late"]


@pytest.mark.parametrize("is_async", [False, True])
def test_the_priority_of_a_message_goes_before_that_of_its_step(workshop: Workshop, is_async: bool) -> None:
    order: list[int] = []
    may_go, begun = threading.Event(), threading.Event()

    @workshop.step
    def block() -> None:
        begun.set()
        may_go.wait(10)

    @workshop.step_with(priority=3)
    def note(number: int) -> None:
        order.append(number)

    @workshop.step
    async def block_loop() -> None:
        begun.set()
        await asyncio.to_thread(may_go.wait, 10)

    @workshop.step_with(priority=3)
    async def note_on_loop(number: int) -> None:
        order.append(number)

    @workshop.step
    def go() -> None: ...

    @workshop.step
    async def go_on_loop() -> None: ...

    workshop.start(threads=1, async_limit=1)
    workshop.send("block_loop" if is_async else "block")
    begun.wait(10)
    for number, priority in ((1, None), (2, 7), (3, -2), (4, 0), (5, -2)):
        workshop.send("note_on_loop" if is_async else "note", number, priority=priority)
    workshop.run("go" if is_async else "go_on_loop")  # the consumer took all that was sent before

    may_go.set()
    for _ in range(6):
        workshop.outcome()

    assert order == [3, 5, 4, 1, 2]


def test_tasks_that_a_step_creates_know_their_step(workshop: Workshop) -> None:
    @workshop.step
    async def parent() -> str:
        async def inner() -> str:
            step = current_step()
            return step.name if step else "nobody"

        return await asyncio.create_task(inner())

    workshop.start()

    assert workshop.run("parent").result == '"parent"'


def test_context_variables_of_hooks_reach_the_step_and_its_own_go_nowhere(workshop: Workshop) -> None:
    mark: contextvars.ContextVar[int] = contextvars.ContextVar("mark", default=0)

    @workshop.step
    async def async_look() -> tuple[int, bool]:
        mark.set(mark.get() + 1)
        return mark.get(), CurrentMessage.get_current_message() is not None

    @workshop.step
    def look() -> tuple[int, bool]:
        mark.set(mark.get() + 1)
        return mark.get(), CurrentMessage.get_current_message() is not None

    workshop.broker.add_middleware(CurrentMessage())
    workshop.start(threads=1)

    results = [workshop.run(name).result for name in ("async_look", "async_look", "look", "look")]

    assert results == ["[1,true]"] * 4


@pytest.mark.parametrize("error", [ValueError("hook"), KeyboardInterrupt("hook")])
@pytest.mark.parametrize("hook", ["before_process_message", "after_process_message", "after_ack"])
@pytest.mark.parametrize("name", ["ok", "async_ok"])
def test_a_crashing_hook_costs_at_most_its_own_message(
    workshop: Workshop, hook: str, error: BaseException, name: str
) -> None:
    crashes: queue.Queue[BaseException] = queue.Queue()
    crashes.put(error)

    def crash(self: Any, *args: Any, **kwargs: Any) -> None:
        if not crashes.empty():
            raise crashes.get()

    @workshop.step
    def ok() -> None:
        pass

    @workshop.step
    async def async_ok() -> None:
        pass

    workshop.broker.add_middleware(type("Crash", (Middleware,), {hook: crash})())
    workshop.start(threads=1)

    first = workshop.run(name)

    assert first.kind is ReportKind.COMPLETED or hook == "before_process_message"
    assert [workshop.run(name).kind for _ in range(3)] == [ReportKind.COMPLETED] * 3
    workshop.stop()
    assert workshop.reports.empty()


def test_a_blocking_hook_does_not_stop_the_loop(workshop: Workshop) -> None:
    release = threading.Event()
    blocked = threading.Event()
    ticks: queue.Queue[int] = queue.Queue()

    class Block(Middleware):
        def after_process_message(self, broker: Any, message: Any, **_: Any) -> None:
            if message.actor_name == "ok":
                blocked.set()
                release.wait(10)

    @workshop.step
    async def ok() -> None:
        pass

    @workshop.step
    async def tick() -> None:
        while not release.is_set():
            ticks.put(1)
            await asyncio.sleep(0.001)

    workshop.broker.add_middleware(Block())
    workshop.start()
    workshop.send("tick")
    workshop.send("ok")
    assert blocked.wait(10)

    while not ticks.empty():
        ticks.get()
    assert ticks.get(timeout=10)
    release.set()
    assert {workshop.outcome().kind for _ in range(2)} == {ReportKind.COMPLETED}


def test_a_task_that_exits_does_not_end_the_loop(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    @workshop.step
    async def leave() -> None:
        async def inner() -> None:
            raise SystemExit(1)

        await asyncio.create_task(inner())

    @workshop.step
    async def ok() -> None:
        pass

    workshop.start()

    assert workshop.run("leave").error_type == "SystemExit"
    assert workshop.run("ok").kind is ReportKind.COMPLETED


def test_a_nested_call_runs_inside_the_step(workshop: Workshop) -> None:
    @workshop.step
    async def inner(n: int) -> int:
        step = current_step()
        assert step is not None
        assert step.name == "outer"
        return n + 1

    @workshop.step
    async def outer(n: int) -> int:
        return await inner(n) * 2

    workshop.start()

    assert workshop.run("outer", 3).result == "8"
    workshop.stop()
    assert workshop.reports.empty()


def test_a_cancelled_task_of_the_step_itself_is_a_failure(workshop: Workshop) -> None:
    @workshop.step
    async def cancel_inner() -> None:
        task = asyncio.create_task(asyncio.sleep(10))
        task.cancel()
        await task

    workshop.start()

    report = workshop.run("cancel_inner")

    assert (report.kind, report.error_type) == (ReportKind.FAILED, "asyncio.exceptions.CancelledError")


def test_pick_up_does_not_wait_for_an_idle_poll(workshop: Workshop) -> None:
    @workshop.step
    def ok() -> None:
        pass

    workshop.start()
    workshop.run("ok")

    start = time.monotonic()
    for _ in range(20):
        workshop.run("ok")

    assert time.monotonic() - start < 2
