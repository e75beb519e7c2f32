"""A history that grows without end: a warning, then a pause that loses nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dramaturg import Settings, sleep, step, workflow
from dramaturg.testing import WorkflowEnv

CALLED: list[int] = []


@step
def number_of(number: int) -> int:
    CALLED.append(number)
    return number


@workflow
async def long_loop(rounds: int) -> int:
    found = 0
    for number in range(rounds):
        found += await number_of(number)
    await sleep(1)
    return found


@pytest.fixture
def short_env(make_env: Callable[..., WorkflowEnv]) -> WorkflowEnv:
    CALLED.clear()
    return make_env(settings=Settings(max_history=100))


def test_a_run_is_warned_and_paused_and_goes_on_when_resumed(short_env: WorkflowEnv) -> None:
    with short_env as env:
        handle = env.start(long_loop, 120)
        pauses = 0
        while handle.describe().status != "COMPLETED":
            env.run_until_idle()
            about = handle.describe()
            if about.status != "PAUSED":
                env.advance("2s")
                continue
            pauses += 1
            assert "continue_as_new" in about.waiting_for
            assert "MAX_HISTORY is 100" in about.waiting_for
            env.crash()
            handle.resume(by="ann")
        assert handle.result() == sum(range(120))
        assert pauses == 2
        assert list(range(120)) == CALLED
        warned = [event for event in handle.events() if event.type == "log"]
        assert len(warned) == 1
        assert warned[0].number <= 25
        assert "continue_as_new" in warned[0].data["message"]


def test_one_that_stays_below_is_left_alone(short_env: WorkflowEnv) -> None:
    with short_env as env:
        handle = env.start(long_loop, 5)
        handle.result()
        assert {event.type for event in handle.events()}.isdisjoint({"log", "run.paused"})


def test_a_paused_one_can_be_terminated_and_cancelled(short_env: WorkflowEnv) -> None:
    with short_env as env:
        handle = env.start(long_loop, 200)
        env.run_until_idle()
        assert handle.describe().status == "PAUSED"
        handle.cancel()
        env.run_until_idle()
        assert handle.describe().status == "CANCELLED"
