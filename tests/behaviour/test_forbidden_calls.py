"""What a replay could not repeat is refused with advice, and fails the run, visibly."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from dramaturg import WorkflowFailed, sleep, workflow
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import types_of


async def threaded_work() -> None:
    await asyncio.to_thread(print)


async def executor_work() -> None:
    await asyncio.get_running_loop().run_in_executor(None, print)


async def connection() -> None:
    await asyncio.open_connection("localhost", 1)


async def server() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...

    await asyncio.start_server(serve, "localhost", 1)


async def look_up() -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 1)


async def from_another_thread() -> None:
    asyncio.get_running_loop().call_soon_threadsafe(print)


async def subprocess() -> None:
    await asyncio.create_subprocess_exec("true")


async def shell() -> None:
    await asyncio.create_subprocess_shell("true")


async def reader() -> None:
    asyncio.get_running_loop().add_reader(0, print)


async def signal_handler() -> None:
    asyncio.get_running_loop().add_signal_handler(2, print)


async def stopped_loop() -> None:
    asyncio.get_running_loop().stop()


@pytest.mark.parametrize(
    ("call", "advice"),
    [
        (threaded_work, "put the work into a step"),
        (executor_work, "put the work into a step"),
        (connection, "into a step"),
        (server, "into a step"),
        (look_up, "put the look-up into a step"),
        (from_another_thread, "a workflow has no threads"),
        (subprocess, "into a step"),
        (shell, "into a step"),
        (reader, "into a step"),
        (signal_handler, "into a step"),
        (stopped_loop, "return from the workflow instead"),
    ],
)
def test_it_fails_the_run_with_advice(
    env: WorkflowEnv, call: Callable[[], Coroutine[Any, Any, None]], advice: str
) -> None:
    @workflow
    async def flow() -> None:
        await call()

    with pytest.raises(WorkflowFailed, match=advice) as caught:
        env.run(flow)

    assert caught.value.error_type == "dramaturg_protocol.errors.NonDeterminismError"
    assert call.__name__ in caught.value.traceback


def test_a_loop_inside_the_loop_fails_the_run(env: WorkflowEnv) -> None:
    async def nothing() -> None: ...

    @workflow
    async def flow() -> None:
        inner = nothing()
        try:
            asyncio.run(inner)  # dramaturg: ok
        finally:
            inner.close()

    with pytest.raises(WorkflowFailed, match=r"asyncio.run\(\) cannot be called"):
        env.run(flow)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_an_error_that_would_end_a_process_fails_this_run_only(env: WorkflowEnv, error: type[BaseException]) -> None:
    @workflow
    async def flow() -> None:
        await sleep(1)
        raise error("enough")

    @workflow
    async def other() -> str:
        await sleep(2)
        return "fine"

    beside = env.start(other)

    with pytest.raises(WorkflowFailed) as caught:
        env.run(flow)
    assert caught.value.error_type == error.__name__
    assert beside.result() == "fine"


def test_sys_exit_in_a_task_is_seen_by_who_awaits_it(env: WorkflowEnv) -> None:
    async def leave() -> None:
        sys.exit(3)

    @workflow
    async def flow() -> str:
        task = asyncio.create_task(leave())
        try:
            await task
        except SystemExit as error:
            return f"exit {error.code}"
        return "nothing"

    assert env.run(flow) == "exit 3"


def test_endless_recursion_fails_the_run(env: WorkflowEnv) -> None:
    def deeper(level: int) -> int:
        return deeper(level + 1)

    @workflow
    async def flow() -> int:
        return deeper(0)

    with pytest.raises(WorkflowFailed, match="recursion"):
        env.run(flow)


def test_a_cancelled_error_that_nobody_asked_for_fails_the_run(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        task = asyncio.create_task(sleep("1d"))
        task.cancel()
        await task

    handle = env.start(flow)

    with pytest.raises(WorkflowFailed, match="CancelledError"):
        handle.result()
    assert types_of(handle)[-1] == "run.failed"
