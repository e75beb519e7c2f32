"""Approvals and hooks beside everything else: undoing, tries of a run, forks, codecs, continued runs, signals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from dramaturg import (
    Handle,
    NoOpenApproval,
    RetryPolicy,
    Settings,
    TokenExpired,
    WorkflowFailed,
    approval,
    child,
    continue_as_new,
    hook,
    step,
    wait_signal,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of, types_of
from tests.behaviour.test_encryption import stored_text

CANARY = "canary-4711"

ran: list[str] = []


@pytest.fixture(autouse=True)
def _clean() -> None:
    ran.clear()


@step(name="beside_undo")
def undo(result: str, what: str) -> None:
    ran.append(f"undo {what}")


@step(name="beside_book", compensate=undo)
def book(what: str) -> str:
    ran.append(what)
    return what


def waiting(env: WorkflowEnv, handle: Handle[Any]) -> None:
    env.run_until_idle()
    assert handle.describe().status == "WAITING"


@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_run_that_is_undone_waits_for_nobody_any_more(env: WorkflowEnv, crashes: bool) -> None:
    tokens: list[str] = []

    @workflow
    async def flow() -> None:
        await book("room")
        approval("left open")
        tokens.append(hook("left open too").token)
        decision = await approval("legal")
        if not decision.approved:
            raise ValueError("rejected")

    handle = env.start(flow)
    waiting(env, handle)
    if crashes:
        env.crash()
    handle.reject("legal", "ada")

    with pytest.raises(WorkflowFailed, match="rejected"):
        handle.result()
    assert ran == ["room", "undo room"]
    kinds = types_of(handle)
    assert kinds.index("approval.withdrawn") < kinds.index("compensation.started")
    assert "hook.withdrawn" in kinds
    assert env.client.approvals.list() == []
    with pytest.raises(TokenExpired):
        env.client.resume_hook(tokens[0])


def test_a_next_try_of_a_run_asks_anew(env: WorkflowEnv) -> None:
    tries: list[str | None] = []

    @workflow(retries=RetryPolicy(max_attempts=2, initial="1m", jitter=False))
    async def flow() -> str | None:
        other = approval("other")
        decision = await approval("legal")
        tries.append(decision.by)
        if decision.by == "ada":
            raise ValueError("not her")
        del other
        return decision.by

    handle = env.start(flow)
    waiting(env, handle)
    handle.approve("legal", "ada")
    env.run_until_idle()
    with pytest.raises(NoOpenApproval):
        handle.approve("other", "bob")
    assert env.client.approvals.list() == []
    env.advance("2m")
    handle.approve("legal", "bob")

    assert handle.result() == "bob"


def test_a_fork_asks_for_what_was_open_where_it_forks(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[str | None]:
        asked = approval("legal")
        await book("room")
        return [(await asked).by]

    handle = env.start(flow)
    waiting(env, handle)
    fork = handle.fork(2)
    waiting(env, fork)
    handle.approve("legal", "ada")
    fork.approve("legal", "bob")

    assert (handle.result(), fork.result()) == (["ada"], ["bob"])


def test_a_run_that_continues_as_new_waits_for_what_it_asks_then(env: WorkflowEnv) -> None:
    @workflow
    async def flow(round_: int = 1) -> list[Any]:
        approval("forgotten")
        decision = await approval("legal")
        if round_ == 1:
            continue_as_new(2)
        return [round_, decision.by]

    handle = env.client.start(flow.options(id="monthly"))
    waiting(env, handle)
    handle.approve("legal", "ada")
    env.run_until_idle()
    assert len(env.client.approvals.list(name="forgotten")) == 1
    env.client.handle("monthly").approve("legal", "bob")

    assert handle.result() == [2, "bob"]
    assert env.client.approvals.list() == []


def test_what_leads_to_a_run_that_went_on_answers_nothing_of_the_next_one(env: WorkflowEnv) -> None:
    tokens: list[str] = []

    @workflow
    async def flow(round_: int = 1) -> list[Any]:
        asked, called = approval("legal"), hook("paid", int)
        tokens.append(called.token)
        await wait_signal("go on")
        if round_ == 1:
            continue_as_new(2)
        return [(await asked).by, await called]

    handle = env.client.start(flow.options(id="yearly"))
    waiting(env, handle)
    (asked_first,) = env.client.approvals.list()
    handle.signal("go on")
    env.run_until_idle()
    with pytest.raises(NoOpenApproval):
        env.client.approvals.approve(asked_first.id, "ada")
    with pytest.raises(TokenExpired):
        env.client.resume_hook(tokens[0], 1)

    newest = env.client.handle("yearly")
    newest.signal("go on")
    newest.approve("legal", "bob")
    env.client.resume_hook(tokens[-1], 2)
    assert handle.result() == ["bob", 2]


def test_a_child_asks_for_itself(env: WorkflowEnv) -> None:
    @workflow
    async def small(name: str) -> str | None:
        return (await approval(name)).by

    @workflow
    async def large() -> list[str | None]:
        return list(await asyncio.gather(child(small, "a"), child(small, "b")))

    handle = env.start(large)
    env.run_until_idle()
    for each in env.client.approvals.list():
        env.client.approvals.approve(each.id, f"who knows {each.name}")

    assert handle.result() == ["who knows a", "who knows b"]


def test_an_approval_and_a_signal_are_waited_for_at_once(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        asked = asyncio.ensure_future(approval("legal"))
        told = asyncio.ensure_future(wait_signal("stop"))
        await asyncio.wait({asked, told}, return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            asked.cancel()
            return "stopped"
        return "decided"

    stopped, decided = env.start(flow), env.start(flow)
    env.run_until_idle()
    assert stopped.describe().status == "WAITING"
    stopped.signal("stop")
    decided.approve("legal", "ada")

    assert (stopped.result(), decided.result()) == ("stopped", "decided")
    assert "approval.withdrawn" in types_of(stopped)


@pytest.mark.selection
def test_what_people_are_asked_and_say_is_sealed_where_a_codec_is_set(
    make_env: Callable[..., WorkflowEnv],
) -> None:
    settings = Settings(codec="fernet", encryption_keys=[SecretStr(Fernet.generate_key().decode())])
    with make_env(settings=settings) as env:
        got: list[Any] = []

        @workflow
        async def flow() -> None:
            decision = await approval("legal", prompt=f"{CANARY}?", details={"who": CANARY, "key": SecretStr(CANARY)})
            called = hook("paid")
            ran.append(called.token)
            got.extend([decision.comment, await called])

        handle = env.start(flow)
        waiting(env, handle)
        (shown,) = env.client.approvals.list(name="legal")
        assert (shown.prompt, shown.details["who"]) == (f"{CANARY}?", CANARY)
        assert CANARY not in repr(shown.details["key"])
        handle.approve("legal", "ada", f"{CANARY}!")
        env.client.resume_hook(ran[-1], CANARY)

        handle.result()
        assert got[-2:] == [f"{CANARY}!", CANARY]
        assert CANARY not in stored_text(env, None)
        assert CANARY in json.dumps(events_of(handle, "approval.decided"))


def test_runs_are_found_by_what_they_wait_for(env: WorkflowEnv) -> None:
    @workflow(name="beside_asks")
    async def asks() -> None:
        await approval("legal")

    @workflow(name="beside_calls")
    async def calls() -> None:
        await hook("paid")

    for each in (asks, calls):
        env.start(each)
    env.run_until_idle()

    for kind, name in (("approval", "beside_asks"), ("hook", "beside_calls")):
        assert [run.workflow for run in env.client.runs(waiting_on=kind)] == [name]
