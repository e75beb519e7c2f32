"""What steps of a process share: entered in order before the first step, exited in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest

from dramaturg_actors.context import current_step
from dramaturg_protocol.errors import ConfigurationError
from dramaturg_protocol.messages import ReportKind
from tests.unit.actors.workshop import Workshop


def test_lifespans_are_entered_in_order_and_exited_in_reverse(workshop: Workshop) -> None:
    told: list[str] = []

    def first() -> Iterator[dict[str, int]]:
        told.append("enter first")
        yield {"a": 1}
        told.append("exit first")

    async def second() -> AsyncIterator[dict[str, int]]:
        told.append("enter second")
        yield {"b": 2}
        told.append("exit second")

    def third() -> Iterator[None]:
        told.append("enter third")
        yield
        told.append("exit third")

    @workshop.step
    def state() -> dict[str, int]:
        told.append("step")
        return the_state()

    for lifespan in (first, second, third):
        workshop.registry.add_lifespan(lifespan)
    workshop.start()

    assert workshop.run("state").result == '{"a":1,"b":2}'
    workshop.stop()
    assert told == [
        "enter first", "enter second", "enter third", "step", "exit third", "exit second", "exit first"
    ]  # fmt: skip


def the_state() -> dict[str, Any]:
    step = current_step()
    assert step is not None
    return dict(step.state)


def test_async_lifespans_and_steps_share_one_loop(workshop: Workshop) -> None:
    async def loop() -> AsyncIterator[dict[str, Any]]:
        async with asyncio.TaskGroup():  # to be left by the task that entered it
            yield {"loop": asyncio.get_running_loop()}

    @workshop.step
    async def same() -> bool:
        return the_state()["loop"] is asyncio.get_running_loop()

    workshop.registry.add_lifespan(loop)
    workshop.start()

    assert workshop.run("same").result == "true"


def test_the_state_cannot_be_changed_by_a_step(workshop: Workshop) -> None:
    def give() -> Iterator[dict[str, int]]:
        yield {"a": 1}

    @workshop.step
    def change() -> None:
        step: Any = current_step()
        step.state["a"] = 2

    workshop.registry.add_lifespan(give)
    workshop.start()

    assert workshop.run("change").error_type == "TypeError"


@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_a_lifespan_that_raises_ends_the_start_and_no_step_is_taken(workshop: Workshop, kind: str) -> None:
    told: list[str] = []

    def before() -> Iterator[None]:
        yield
        told.append("before is exited")

    def fail() -> Iterator[None]:
        raise ConnectionError("no database")
        yield

    async def async_fail() -> AsyncIterator[None]:
        raise ConnectionError("no database")
        yield

    @workshop.step
    def ok() -> None:
        told.append("step")

    workshop.registry.add_lifespan(before)
    workshop.registry.add_lifespan(fail if kind == "thread" else async_fail)
    workshop.send("ok")

    with pytest.raises(ConnectionError, match="no database"):
        workshop.start()

    assert told == ["before is exited"]
    assert workshop.reports.empty()
    assert not worker_threads()
    assert not workshop.broker.middleware


def worker_threads() -> list[threading.Thread]:
    return [
        thread for thread in threading.enumerate() if thread.name.startswith("dramaturg-loop") and thread.is_alive()
    ]


def gives_a() -> Iterator[dict[str, int]]:
    yield {"a": 1}


def gives_a_too() -> Iterator[dict[str, int]]:
    yield {"a": 2}


def gives_a_list() -> Iterator[list[int]]:
    yield [1]


def yields_nothing() -> Iterator[None]:
    yield from ()


async def yields_nothing_async() -> AsyncIterator[None]:
    for _ in ():
        yield


def returns() -> None:
    pass


async def returns_async() -> None:
    pass


WRONG: dict[str, tuple[tuple[Any, ...], str]] = {
    "twice": ((gives_a, gives_a_too), "lifespans 'gives_a' and 'gives_a_too' both give 'a'"),
    "list": ((gives_a_list,), "must yield a dict"),
    "nothing": ((yields_nothing,), "without a `yield`"),
    "nothing, async": ((yields_nothing_async,), "without a `yield`"),
    "function": ((returns,), "must be a generator"),
    "coroutine": ((returns_async,), "must be a generator"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_lifespan_that_is_none_is_refused(workshop: Workshop, case: str) -> None:
    lifespans, message = WRONG[case]
    for lifespan in lifespans:
        workshop.registry.add_lifespan(lifespan)

    with pytest.raises(ConfigurationError, match=message):
        workshop.start()


@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_an_exit_that_fails_is_logged_and_the_others_go_on(
    workshop: Workshop, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def first() -> Iterator[None]:
        yield
        told.append("first is exited")

    def fails() -> Iterator[None]:
        yield
        raise ValueError("at the end")

    async def async_fails() -> AsyncIterator[None]:
        yield
        raise ValueError("at the end")

    def twice() -> Iterator[None]:
        yield
        yield

    async def async_twice() -> AsyncIterator[None]:
        yield
        yield

    workshop.registry.add_lifespan(first)
    workshop.registry.add_lifespan(fails if kind == "thread" else async_fails)
    workshop.registry.add_lifespan(twice if kind == "thread" else async_twice)
    workshop.start()
    workshop.stop()

    assert told == ["first is exited"]
    assert sum("failed at its end" in record.message for record in caplog.records) == 2


def test_steps_are_at_their_end_before_the_lifespans_exit(workshop: Workshop) -> None:
    order: queue.Queue[str] = queue.Queue()
    begun = threading.Event()

    @contextlib.contextmanager
    def resource() -> Generator[dict[str, int], None, None]:
        yield {"x": 1}
        order.put("exit")

    def lifespan() -> Iterator[dict[str, int]]:
        with resource() as state:
            yield state

    @workshop.step
    async def work() -> None:
        begun.set()
        await asyncio.sleep(0.05)
        order.put("step")

    workshop.registry.add_lifespan(lifespan)
    workshop.start()
    workshop.send("work")
    begun.wait(10)
    workshop.stop()

    assert [order.get(), order.get()] == ["step", "exit"]
    assert workshop.outcome().kind is ReportKind.COMPLETED
