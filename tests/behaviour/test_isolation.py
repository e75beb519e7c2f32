"""`isolation="process"`: a step in a process of its own, which a time-out or a cancel really kills."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ByteSize

from dramaturg import Settings, StepFailed, StepFunction, StepTimeout, step, workflow
from dramaturg.testing import WorkflowEnv
from tests import isolated_steps as steps
from tests.behaviour.histories import types_of

WAIT = 120.0

STUCK = pytest.mark.parametrize(
    "stuck",
    [steps.isolated_busy, steps.isolated_c_call, steps.isolated_sleep, steps.isolated_stubborn],
    ids=["busy loop", "C call", "system call", "swallows all"],
)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(int(WAIT / 0.02)):
        if is_so():
            return
        threading.Event().wait(0.02)
    raise AssertionError("it did not come to pass")


@pytest.mark.selection
def test_it_runs_elsewhere_and_its_process_is_used_again(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[tuple[int, int]]:
        return [await steps.isolated_pid() for _ in range(3)]

    (first, _), *_ = places = env.run(flow)

    assert first != os.getpid()
    assert [pid for pid, _ in places] == [first] * 3
    assert [calls for _, calls in places] == [1, 2, 3]


def test_arguments_results_and_context_are_as_on_a_thread(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[Any]:
        return [await steps.isolated_echo({"a": (1, b"2")}), await steps.isolated_context()]

    handle = env.start(flow)

    assert handle.result() == [
        {"a": (1, b"2")},
        {
            "name": "isolated_context",
            "key": f"{handle.run_id}:1:2",
            "attempt": 1,
            "cancelled": False,
            "stopping": False,
        },
    ]


def test_a_large_result_comes_back(make_env: Callable[..., WorkflowEnv]) -> None:
    # More than a pipe holds, less than MariaDB takes in one statement.
    size = 5 * 1024 * 1024

    @workflow
    async def flow() -> int:
        return len(await steps.isolated_large(size))

    with make_env(settings=Settings(max_payload=ByteSize(2 * size))) as env:
        assert env.run(flow) == size


def test_an_error_keeps_its_type_and_its_traceback(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> tuple[str, str, str]:
        try:
            await steps.isolated_error()
        except StepFailed as failure:
            return failure.error_type, failure.message, failure.traceback
        return ("", "", "")

    error_type, message, traceback = env.run(flow)

    assert (error_type, message) == ("LookupError", "nobody there")
    assert "in isolated_error" in traceback
    assert "dramaturg_actors" not in traceback


def test_a_fatal_error_is_not_tried_again(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> int:
        try:
            await steps.isolated_fatal()
        except StepFailed as failure:
            return failure.attempts
        return 0

    assert env.run(flow) == 1


def test_what_it_says_of_itself_is_heard(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[Any]:
        return await steps.isolated_beating()

    assert env.run(flow) == ["row", 7]


def test_silence_kills_it(env: WorkflowEnv, tmp_path: Path) -> None:
    said = tmp_path / "said"

    @workflow
    async def flow() -> str:
        try:
            await steps.isolated_c_call.options(heartbeat_timeout="300ms")(str(said))
        except StepTimeout as error:
            return str(error)
        return "never"

    assert "heartbeat" in env.run(flow)
    for pid in steps.pids_in(said):
        wait_until(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]


@STUCK
def test_a_timeout_kills_it(env: WorkflowEnv, stuck: StepFunction[[str], None], tmp_path: Path) -> None:
    said = tmp_path / "said"

    @workflow
    async def flow() -> str:
        try:
            await stuck.options(timeout="300ms")(str(said))
        except StepTimeout as error:
            return str(error)
        return "never"

    assert "took longer than" in env.run(flow)
    for pid in steps.pids_in(said):
        wait_until(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]


@STUCK
def test_a_cancel_kills_it(env: WorkflowEnv, stuck: StepFunction[[str], None], tmp_path: Path) -> None:
    said = tmp_path / "said"

    @workflow
    async def flow() -> None:
        await stuck(str(said))

    handle = env.start(flow)
    while "step.scheduled" not in types_of(handle):
        env.turn()
    wait_until(lambda: bool(steps.pids_in(said)))
    handle.cancel()
    while handle.describe().status != "CANCELLED":
        env.turn()

    (pid,) = steps.pids_in(said)
    wait_until(lambda: not is_alive(pid))


@pytest.mark.parametrize("how", ["segfault", "exit", "kill"])
def test_what_kills_its_process_is_an_error_that_is_tried_again(env: WorkflowEnv, how: str) -> None:
    @workflow
    async def flow() -> str:
        return await steps.isolated_dies_once("", how)

    handle = env.start(flow)

    assert handle.result() == f"survived {how}"
    (retrying,) = [event.data for event in handle.events() if event.type == "step.retrying"]
    assert retrying["error"]["type"] == "WorkerLost"


@pytest.mark.parametrize(
    ("how", "error_type", "words"),
    [
        ("segfault", "WorkerLost", "ended by SIGSEGV"),
        ("exit", "WorkerLost", "ended itself with exit code 3"),
        ("kill", "WorkerLost", "for want of memory"),
        ("sys.exit", "SystemExit", "bye"),
    ],
)
def test_it_says_how_its_process_ended(env: WorkflowEnv, how: str, error_type: str, words: str) -> None:
    @workflow
    async def flow() -> tuple[str, str]:
        try:
            await steps.isolated_dies(how)
        except StepFailed as failure:
            return failure.error_type, failure.message
        return ("", "")

    found, message = env.run(flow)

    assert found == error_type
    assert words in message


def test_it_costs_nobody_but_itself(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[str]:
        outcomes = await asyncio.gather(
            steps.isolated_dies("segfault"),
            steps.isolated_echo("here"),
            steps.isolated_dies("exit"),
            steps.isolated_echo("there"),
            return_exceptions=True,
        )
        return [each.error_type if isinstance(each, StepFailed) else str(each) for each in outcomes]

    assert env.run(flow) == ["WorkerLost", "here", "WorkerLost", "there"]


def test_a_step_that_is_defined_inside_a_function_says_what_to_do(env: WorkflowEnv) -> None:
    @step(isolation="process")
    def inner() -> None: ...

    @workflow
    async def flow() -> str:
        try:
            await inner()
        except StepFailed as failure:
            return failure.message
        return "never"

    assert "define it at the top level of a module" in env.run(flow)


def test_a_call_may_choose_it(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> tuple[int, int]:
        there, _ = await steps.isolated_pid()
        here, _ = await steps.isolated_pid.options(isolation="thread")()
        return there, here

    there, here = env.run(flow)

    assert there != os.getpid()
    assert here == os.getpid()


def test_a_local_step_may_be_isolated_too(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> int:
        return (await steps.isolated_pid.options(local=True)())[0]

    assert env.run(flow) != os.getpid()


def test_an_async_step_is_refused() -> None:
    with pytest.raises(TypeError, match='isolation="process" is for a `def` step'):

        @step(isolation="process")
        async def wait() -> None: ...


def test_an_async_call_of_it_fails(env: WorkflowEnv) -> None:
    @step
    async def wait() -> None: ...

    @workflow
    async def flow() -> tuple[str, int]:
        try:
            await wait.options(isolation="process")()
        except StepFailed as failure:
            return failure.message, failure.attempts
        return "never", 0

    message, attempts = env.run(flow)

    assert "is for a `def` step" in message
    assert attempts == 1
