"""Steps that are left open: no worker has them, and whoever has the token says what came of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from dramatiq.middleware import Middleware

from dramaturg import (
    AsyncClient,
    InvalidToken,
    PayloadError,
    StepFailed,
    StepTimeout,
    TokenExpired,
    WorkflowFailed,
    current_step,
    step,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.records import WorkKind
from tests.behaviour.histories import events_of, has_gapless_numbers
from tests.isolated_steps import isolated_left_open

pytestmark = pytest.mark.behaviour

tokens: list[str] = []


@pytest.fixture
def ask() -> Any:
    tokens.clear()

    @step(name="ask", retries=1)
    def ask_(what: str) -> int:
        context = current_step()
        assert context is not None
        tokens.append(context.complete_later())
        return -1

    return ask_


@pytest.fixture
def flow(ask: Any) -> Any:
    @workflow(name="asking")
    async def flow_(**options: Any) -> str:
        try:
            return f"answer {await ask.options(**options)('x')}"
        except StepTimeout as error:
            return f"timed out: {error.message}"
        except StepFailed as error:
            return f"failed: {error.message}"

    return flow_


@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_step_that_is_left_open_gets_its_result_from_whoever_has_the_token(
    env: WorkflowEnv, flow: Any, crashes: bool
) -> None:
    handle = env.start(flow)
    env.advance("3d")
    assert handle.describe().status == "RUNNING"
    (item,) = handle.describe().open
    assert (item.status, item.name) == ("STARTED", "ask")
    (row,) = env.database.reads.open_work(handle.run_id)
    assert row.kind is WorkKind.LEFT_OPEN
    if crashes:
        env.crash()
        env.run_until_idle()

    env.client.complete_step(tokens[0], 7, by="the lab")

    assert handle.result() == "answer 7"
    assert len(tokens) == 1, "it was not sent again"
    (settled,) = events_of(handle, "step.settled")
    assert settled["by"] == "the lab"
    assert has_gapless_numbers(handle)


def test_the_same_word_counts_once_and_another_is_refused(env: WorkflowEnv, flow: Any) -> None:
    handle = env.start(flow)
    env.run_until_idle()

    env.client.complete_step(tokens[0], 7)
    env.client.complete_step(tokens[0], 7)
    with pytest.raises(TokenExpired, match="step 1 is over"):
        env.client.complete_step(tokens[0], 8)
    with pytest.raises(TokenExpired):
        env.client.fail_step(tokens[0], "no")

    assert handle.result() == "answer 7"
    assert len(events_of(handle, "step.completed")) == 1


def test_a_step_that_is_left_open_can_be_failed(env: WorkflowEnv, flow: Any) -> None:
    handle = env.start(flow)
    env.run_until_idle()

    env.client.fail_step(tokens[0], "the lab burned down")

    assert handle.result() == "failed: the lab burned down"
    assert len(tokens) == 1


def test_its_times_go_on(env: WorkflowEnv, flow: Any) -> None:
    handle = env.start(flow, total_timeout=3600)

    assert "total_timeout" in handle.result()
    with pytest.raises(TokenExpired):
        env.client.complete_step(tokens[0], 7)


def test_the_time_of_its_attempt_goes_on_and_the_next_one_has_the_same_token(env: WorkflowEnv, flow: Any) -> None:
    handle = env.start(flow, timeout=600)
    env.advance("11m")

    assert len(tokens) == 2
    assert tokens[0] == tokens[1]
    env.client.complete_step(tokens[0], 7)
    assert handle.result() == "answer 7"


def test_nobody_has_to_give_heartbeats_for_it(env: WorkflowEnv, flow: Any) -> None:
    handle = env.start(flow, heartbeat_timeout=60)
    env.advance("1d")

    env.client.complete_step(tokens[0], 7)

    assert handle.result() == "answer 7"


@pytest.mark.parametrize("wrong", ["", "x", "a.1.1.x", "a.b.c.d", "....", "é.1.1.é"])
def test_a_token_that_is_none_is_refused(env: WorkflowEnv, wrong: str) -> None:
    with pytest.raises(InvalidToken, match="complete_later"):
        env.client.complete_step(wrong, 1)


def test_a_token_that_was_tampered_with_is_refused(env: WorkflowEnv, flow: Any) -> None:
    env.start(flow)
    env.run_until_idle()
    run_id, generation, seq, seal = tokens[0].rsplit(".", 3)

    for wrong in (f"{run_id}.{generation}.2.{seal}", f"{run_id}.2.{seq}.{seal}", tokens[0][:-1]):
        with pytest.raises(InvalidToken):
            env.client.complete_step(wrong, 1)


def test_a_value_that_the_step_does_not_return_is_refused(env: WorkflowEnv, flow: Any) -> None:
    handle = env.start(flow)
    env.run_until_idle()

    with pytest.raises(PayloadError):
        env.client.complete_step(tokens[0], "many")
    env.client.complete_step(tokens[0], 7)

    assert handle.result() == "answer 7"


def test_a_step_that_raises_was_not_left_open(env: WorkflowEnv) -> None:
    @step(retries=0)
    def work() -> None:
        context = current_step()
        assert context is not None
        context.complete_later()
        raise ValueError("no")

    @workflow
    async def flow() -> None:
        await work()

    with pytest.raises(WorkflowFailed, match="no"):
        env.run(flow)


def test_an_async_and_a_local_step_can_be_left_open_and_an_async_client_completes_them(env: WorkflowEnv) -> None:
    given: list[str] = []

    @step
    async def on_loop() -> int:
        context = current_step()
        assert context is not None
        given.append(context.complete_later())
        return 0

    @step(local=True)
    def beside() -> int:
        context = current_step()
        assert context is not None
        given.append(context.complete_later())
        return 0

    @workflow
    async def flow() -> int:
        return await on_loop() + await beside()

    handle = env.start(flow)
    client = AsyncClient.of(env.client)
    env.run_until_idle()
    asyncio.run(client.complete_step(given[0], 1))
    env.run_until_idle()
    asyncio.run(client.complete_step(given[1], 2))

    assert handle.result() == 3


def test_a_step_in_a_process_of_its_own_can_be_left_open(env: WorkflowEnv, tmp_path: Path) -> None:
    errors: list[BaseException] = []

    class Seen(Middleware):
        def after_process_message(
            self, broker: object, message: object, *, result: object = None, exception: BaseException | None = None
        ) -> None:
            if exception is not None:
                errors.append(exception)

    @workflow
    async def flow(path: str) -> int:
        return await isolated_left_open(path)

    env.broker.add_middleware(Seen())
    handle = env.start(flow, str(tmp_path / "token"))
    env.run_until_idle()

    env.client.complete_step((tmp_path / "token").read_text(), 5)

    assert handle.result() == 5
    assert not errors
