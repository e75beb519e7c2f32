"""A run that goes on as a new one: without its history, with all else that it had."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest

from dramaturg import (
    WorkflowCancelled,
    WorkflowFailed,
    WrongState,
    child,
    continue_as_new,
    info,
    on_update,
    sleep,
    start_child,
    step,
    wait_signal,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.messages import Request, RequestKind, encode_message
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import Lease, RunWrites
from dramaturg_protocol.talk_messages import SignalBody

LOG: list[Any] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    LOG.clear()


@step
def count(number: int) -> int:
    LOG.append(number)
    return number + 1


@workflow
async def counting(number: int, until: int) -> int:
    number = await count(number)
    if number >= until:
        return number
    continue_as_new(number, until)


def types_of(env: WorkflowEnv, run_id: str) -> list[str]:
    return [event.type for event in env.client.handle(run_id, run_id).events()]


@pytest.mark.selection
def test_a_run_goes_on_as_a_new_one(env: WorkflowEnv) -> None:
    handle = env.start(counting, 0, 3)
    assert handle.result() == 3
    assert LOG == [0, 1, 2]
    assert types_of(env, handle.run_id)[-1] == "run.continued"
    assert sorted(run.status for run in env.client.runs()) == ["COMPLETED", "CONTINUED", "CONTINUED"]


@pytest.mark.selection
def test_the_chain_is_seen_from_any_of_its_runs(env: WorkflowEnv) -> None:
    first = env.start(counting, 0, 3)
    first.result()
    chain = [first.describe()]
    while (following := chain[-1].continued_to) is not None:
        chain.append(env.client.handle(first.workflow_id, following).describe())
    assert [about.status for about in chain] == ["CONTINUED", "CONTINUED", "COMPLETED"]
    assert {about.workflow_id for about in chain} == {first.workflow_id}
    assert [about.continued_from for about in chain] == [None, chain[0].run_id, chain[1].run_id]
    assert env.client.handle(first.workflow_id).run_id == chain[2].run_id
    assert {run.continued_from for run in env.client.runs()} == {None, chain[0].run_id, chain[1].run_id}


@workflow
async def keeps_all(number: int) -> dict[str, Any]:
    about = info()
    if number:
        return {"tags": about.tags, "context": about.context, "workflow_id": about.workflow_id}
    continue_as_new(number=1)


def test_id_tags_and_context_go_on(env: WorkflowEnv) -> None:
    handle = env.client.start(keeps_all.options(id="mine", tags={"tenant": "a"}, context={"trace": 7}), 0)
    assert handle.result() == {"tags": {"tenant": "a"}, "context": {"trace": 7}, "workflow_id": "mine"}
    again = env.client.start(keeps_all.options(id="mine"), 1)
    assert again.result()["workflow_id"] == "mine"


@workflow
async def collects(seen: list[str]) -> list[str]:
    seen = [*seen, await wait_signal("item")]
    if len(seen) == 4:
        return seen
    continue_as_new(seen)


@pytest.mark.selection
def test_signals_that_were_not_taken_go_on_in_order(env: WorkflowEnv) -> None:
    handle = env.start(collects, [])
    for item in "abcd":
        handle.signal("item", item)
    assert handle.result() == ["a", "b", "c", "d"]


def test_what_is_sent_to_a_run_that_went_on_reaches_the_newest(env: WorkflowEnv) -> None:
    handle = env.start(collects, [])
    for item in "abcd":
        handle.signal("item", item)
        env.run_until_idle()
        env.crash()
    assert handle.result() == ["a", "b", "c", "d"]


@workflow
async def collects_then_waits(seen: list[str]) -> list[str]:
    seen = [*seen, await wait_signal("item")]
    if len(seen) == 2:
        return seen
    continue_as_new(seen)


@pytest.mark.selection
@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_signal_sent_again_under_its_key_counts_once_in_the_chain(env: WorkflowEnv, crashes: bool) -> None:
    handle = env.start(collects_then_waits, [])
    handle.signal("item", "a", idempotency_key="first")
    env.run_until_idle()
    if crashes:
        env.crash()
    handle.signal("item", "a", idempotency_key="first")
    handle.signal("item", "b", idempotency_key="second")
    assert handle.result() == ["a", "b"]


class SentAgain:
    """The store: just before a run's end is committed, what was asked of it comes once more."""

    def __init__(self, port: Any, inbox: Callable[[], Any]) -> None:
        self._port = port
        self._inbox = inbox
        self.again: list[Request] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def commit(self, writes: Sequence[RunWrites], lease: Lease, now: datetime) -> None:
        if self.again and any(each.is_closed for each in writes):
            self._inbox().put(self.again)
            self.again = []
        self._port.commit(writes, lease, now)


def test_a_signal_that_comes_again_while_its_run_hands_it_on_is_not_lost(make_env: Callable[..., WorkflowEnv]) -> None:
    stores: list[SentAgain] = []

    def wrap(port: Any) -> SentAgain:
        stores.append(SentAgain(port, lambda: env.database.inbox))
        return stores[-1]

    @workflow
    async def goes_on_when_told(number: int) -> str:
        if number:
            return str(await wait_signal("item"))
        await wait_signal("go on")
        continue_as_new(1)

    with make_env(wrap={"store": wrap}) as env:
        handle = env.start(goes_on_when_told, 0)
        handle.signal("item", "a")
        (received,) = (event for event in handle.events() if event.type == "signal.received")
        body = encode_message(SignalBody("item", Payload('"a"')))
        partition = env.database.partition_of(handle.run_id)
        stores[-1].again = [
            Request(received.data["message_id"], RequestKind.SIGNAL, handle.run_id, partition, body, reply=True)
        ]
        handle.signal("go on")

        assert handle.result() == "a"


@workflow
async def adds_up(number: int) -> int:
    total = 0

    @on_update
    async def add(value: int) -> int:
        nonlocal total
        LOG.append(value)
        total += value
        return total

    await wait_signal("go on")
    if number:
        return total
    continue_as_new(number + 1)


@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_an_update_sent_again_under_its_key_is_answered_as_before_in_the_chain(env: WorkflowEnv, crashes: bool) -> None:
    handle = env.start(adds_up, 0)
    assert handle.update("add", 5, idempotency_key="five") == 5
    handle.signal("go on")
    env.run_until_idle()
    if crashes:
        env.crash()
    assert handle.update("add", 5, idempotency_key="five") == 5
    handle.signal("go on")
    assert handle.result() == 0


@workflow
async def for_ever(number: int) -> None:
    await sleep("1d")
    continue_as_new(number + 1)


def test_a_cancel_reaches_the_newest(env: WorkflowEnv) -> None:
    handle = env.start(for_ever, 0)
    env.advance("10d")
    assert handle.describe().status == "CONTINUED"
    handle.cancel()
    with pytest.raises(WorkflowCancelled):
        handle.result()
    assert env.client.count(status="CONTINUED") == 10


def test_a_wait_says_for_which_run_it_waits(env: WorkflowEnv) -> None:
    handle = env.start(for_ever, 0)
    env.advance("2d")
    with pytest.raises(TimeoutError, match="timer"):
        handle.result(timeout="1h")


@workflow
async def follows(until: int) -> int:
    return await child(counting, 0, until)


def test_a_child_that_goes_on_is_waited_for_to_the_end(env: WorkflowEnv) -> None:
    handle = env.start(follows, 4)
    assert handle.result() == 4
    assert {run.parent for run in env.client.runs(workflow="counting")} == {handle.run_id}


@workflow
async def waits_for_one_that_goes_on() -> None:
    await child(for_ever, 0)


def test_a_cancelled_parent_cancels_the_newest_of_its_childs_chain(env: WorkflowEnv) -> None:
    handle = env.start(waits_for_one_that_goes_on)
    env.advance("3d")
    handle.cancel()
    env.run_until_idle()
    statuses = sorted(run.status for run in env.client.runs(workflow="for_ever"))
    assert statuses == ["CANCELLED", "CONTINUED", "CONTINUED", "CONTINUED"]


@workflow
async def cleans_up(number: int) -> str:
    if number:
        return "next"
    waiting = asyncio.ensure_future(sleep("1d"))
    try:
        await asyncio.sleep(0)
        continue_as_new(1)
    except Exception:
        await count(100)
        raise
    finally:
        waiting.cancel()
        await count(300)


def test_clean_up_after_it_has_no_effects(env: WorkflowEnv) -> None:
    handle = env.start(cleans_up, 0)
    assert handle.result() == "next"
    assert LOG == []
    assert types_of(env, handle.run_id) == ["run.started", "timer.started", "run.continued"]


@workflow
async def in_a_task(number: int) -> str:
    if number:
        return "next"

    async def go_on() -> None:
        await count(1)
        continue_as_new(1)

    await asyncio.gather(go_on(), sleep("1d"))
    return "never"


def test_any_task_of_the_run_may_go_on(env: WorkflowEnv) -> None:
    assert env.run(in_a_task, 0) == "next"


@workflow
async def leaves_child(number: int) -> str:
    if number:
        return "next"
    start_child(for_ever, 0)
    await count(1)
    continue_as_new(1)


def test_children_are_left_by_their_policy(env: WorkflowEnv) -> None:
    assert env.run(leaves_child, 0) == "next"
    env.run_until_idle()
    assert [run.status for run in env.client.runs(workflow="for_ever")] == ["CANCELLED"]


@workflow
async def wrong_arguments() -> str:
    continue_as_new(1, 2, 3)


def test_arguments_that_do_not_fit_are_refused_where_they_are_given(env: WorkflowEnv) -> None:
    with pytest.raises(WorkflowFailed, match="TypeError"):
        env.run(wrong_arguments)


def test_a_run_that_went_on_is_not_set_back(env: WorkflowEnv) -> None:
    handle = env.start(counting, 0, 2)
    handle.result()
    with pytest.raises(WrongState, match="went on as run"):
        handle.reset(1)
    with pytest.raises(WrongState):
        handle.retry()


def test_it_works_inside_a_workflow_only() -> None:
    with pytest.raises(RuntimeError, match="inside a workflow"):
        continue_as_new(1)
