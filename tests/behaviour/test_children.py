"""A workflow starts others: it waits for them, is told how they ended, and takes them along when it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dramaturg import (
    ChildFailed,
    FatalError,
    WorkflowCancelled,
    WorkflowFailed,
    child,
    info,
    shield,
    sleep,
    start_child,
    step,
    workflow,
)
from dramaturg.testing import WorkflowEnv

LOG: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    LOG.clear()


@step(retries=0)
def double(number: int) -> int:
    LOG.append(f"double {number}")
    if number < 0:
        raise FatalError("negative")
    return number * 2


@step
def note(text: str) -> None:
    LOG.append(text)


@workflow
async def doubling(number: int) -> int:
    return await double(number)


@workflow
async def sleeper(name: str) -> str:
    try:
        await sleep("1h")
    except asyncio.CancelledError:
        async with shield():
            await note(f"{name} cleans up")
        raise
    return name


@workflow
async def one_child(number: int) -> int:
    return await child(doubling, number) + 1


def types_of(env: WorkflowEnv, run_id: str) -> list[str]:
    return [event.type for event in env.client.handle(run_id).events()]


@pytest.mark.selection
def test_a_child_gives_its_result(env: WorkflowEnv) -> None:
    handle = env.start(one_child, 4)
    assert handle.result() == 9
    assert types_of(env, handle.run_id) == ["run.started", "child.started", "child.closed", "run.completed"]


def test_a_child_is_a_run_of_its_own(env: WorkflowEnv) -> None:
    handle = env.start(one_child, 4)
    handle.result()
    runs = {run.workflow: run.run_id for run in env.client.runs()}
    assert runs.keys() == {"one_child", "doubling"}
    started = next(event for event in handle.events() if event.type == "child.started")
    assert started.data["run_id"] == runs["doubling"]
    assert env.client.handle(runs["doubling"]).result() == 8


@workflow
async def several() -> list[int]:
    return list(await asyncio.gather(*(child(doubling, number) for number in range(5))))


def test_several_children_at_once(env: WorkflowEnv) -> None:
    assert env.run(several) == [0, 2, 4, 6, 8]


@workflow
async def failing_child() -> str:
    try:
        await child(doubling, -1)
    except ChildFailed as failed:
        return f"{failed.workflow} {failed.status} {failed.error_type}: {failed.message}"
    return "no error"


def test_a_child_that_fails_raises_with_its_error(env: WorkflowEnv) -> None:
    told = env.run(failing_child)
    assert told.startswith("doubling FAILED dramaturg_protocol.errors.StepFailed: step 'double' failed")


@workflow
async def lets_it_fail() -> int:
    return await child(doubling, -1)


def test_a_failure_that_nobody_catches_fails_the_parent(env: WorkflowEnv) -> None:
    with pytest.raises(WorkflowFailed, match=r"child 'doubling'.*negative"):
        env.run(lets_it_fail)


@workflow
async def waits_in_child(name: str) -> str:
    return await child(sleeper, name)


@workflow
async def waits_two_levels(name: str) -> str:
    return await child(waits_in_child, name)


def test_a_cancel_reaches_all_levels(env: WorkflowEnv) -> None:
    handle = env.start(waits_two_levels, "lowest")
    env.run_until_idle()
    handle.cancel()
    with pytest.raises(WorkflowCancelled):
        handle.result()
    env.run_until_idle()
    assert LOG == ["lowest cleans up"]
    assert {run.workflow: run.status for run in env.client.runs()} == {
        "waits_two_levels": "CANCELLED",
        "waits_in_child": "CANCELLED",
        "sleeper": "CANCELLED",
    }


@workflow
async def cancels_its_child() -> str:
    handle = start_child(sleeper, "child")
    await sleep(10)
    handle.cancel()
    handle.cancel()
    try:
        await handle.result()
    except ChildFailed as failed:
        return failed.status
    return "no error"


def test_code_cancels_a_child(env: WorkflowEnv) -> None:
    handle = env.start(cancels_its_child)
    assert handle.result() == "CANCELLED"
    assert LOG == ["child cleans up"]
    assert types_of(env, handle.run_id).count("cancel.sent") == 1


@workflow
async def gives_up_waiting() -> str:
    try:
        async with asyncio.timeout(60):
            await child(sleeper, "slow")
    except TimeoutError:
        return "too slow"
    return "in time"


def test_the_end_of_the_wait_cancels_the_child(env: WorkflowEnv) -> None:
    assert env.run(gives_up_waiting) == "too slow"
    env.run_until_idle()
    assert LOG == ["slow cleans up"]
    assert {run.status for run in env.client.runs(workflow="sleeper")} == {"CANCELLED"}


@workflow
async def leaves(policy: Any) -> str:
    start_child(sleeper, policy, on_parent_close=policy)
    await sleep(10)
    return "left"


@pytest.mark.parametrize(
    ("policy", "status", "log"),
    [("cancel", "CANCELLED", ["cancel cleans up"]), ("terminate", "TERMINATED", []), ("abandon", "COMPLETED", [])],
)
def test_the_parents_end_decides_over_its_children(env: WorkflowEnv, policy: str, status: str, log: list[str]) -> None:
    env.run(leaves, policy)
    env.advance("2h")
    assert [run.status for run in env.client.runs(workflow="sleeper")] == [status]
    assert log == LOG


def test_the_parents_termination_decides_over_its_children(env: WorkflowEnv) -> None:
    handle = env.start(waits_in_child, "left")
    env.run_until_idle()
    handle.terminate()
    env.run_until_idle()
    assert [run.status for run in env.client.runs(workflow="sleeper")] == ["CANCELLED"]
    assert LOG == ["left cleans up"]


@pytest.mark.selection
def test_children_and_parents_survive_a_crash_anywhere(env: WorkflowEnv) -> None:
    handle = env.start(waits_two_levels, "lowest")
    for _ in range(4):
        env.turn()
        env.crash()
    env.run_until_idle()
    env.advance("30m")
    env.crash()
    assert handle.result() == "lowest"


@workflow
async def with_id(name: str) -> str:
    try:
        return await child(sleeper, "mine", id=name)
    except ChildFailed as failed:
        return f"{failed.status} {failed.error_type}: {failed.message}"


def test_a_child_has_the_id_that_its_parent_chose(env: WorkflowEnv) -> None:
    handle = env.start(with_id, "the-id")
    env.run_until_idle()
    assert env.client.handle("the-id").describe().workflow == "sleeper"
    assert handle.result() == "mine"


@pytest.mark.selection
def test_a_child_whose_id_is_taken_fails(env: WorkflowEnv) -> None:
    holder = env.client.start(sleeper.options(id="taken"), "other")
    env.run_until_idle()
    told = env.run(with_id, "taken")
    assert told == f"FAILED AlreadyStarted: workflow id 'taken' is taken by the open run {holder.run_id}"
    holder.cancel()
    env.run_until_idle()
    assert env.run(with_id, "taken") == "mine"


@workflow
async def looks_at_parent() -> list[str | None]:
    about = info()
    return [about.parent, about.context]


@workflow
async def shows_parent() -> list[str | None]:
    return [info().run_id, *await child(looks_at_parent)]


def test_a_child_knows_its_parent_and_sees_its_context(env: WorkflowEnv) -> None:
    run_id, parent, context = env.client.start(shows_parent.options(context="tenant")).result()
    assert run_id == parent
    assert context == "tenant"


@workflow
async def by_name() -> int:
    found: int = await child("doubling", 21)
    return found


def test_a_child_can_be_named(env: WorkflowEnv) -> None:
    assert env.run(by_name) == 42


@workflow
async def of_nobody() -> int:
    found: int = await child("nobodys_workflow")
    return found


def test_a_child_that_nobody_knows_is_blocked_and_its_parent_waits(env: WorkflowEnv) -> None:
    handle = env.start(of_nobody)
    env.run_until_idle()
    about = handle.describe()
    assert about.status == "RUNNING"
    [item] = about.open
    assert (item.kind, item.name) == ("child", "nobodys_workflow")
    assert env.client.handle(item.run_id).describe().status == "BLOCKED"
    assert "child nobodys_workflow" in about.waiting_for


@workflow
async def asks_twice() -> list[int]:
    handle = start_child(doubling, 2)
    first = await handle.result()
    return [first, await handle.result()]


def test_a_result_can_be_asked_for_again(env: WorkflowEnv) -> None:
    assert env.run(asks_twice) == [4, 4]


anything: Any = child


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: anything(double, 1), "is a step"),
        (lambda: anything(doubling, "x", 2), "too many positional"),
        (lambda: anything(doubling, 1, on_parent_close="wait"), "on_parent_close"),
        (lambda: anything(doubling.options(idempotency_key="k"), 1), "idempotency_key"),
        (lambda: anything(3, 1), "takes a workflow"),
    ],
)
def test_a_wrong_child_is_refused_where_it_is_asked_for(env: WorkflowEnv, call: Any, error: str) -> None:
    @workflow
    async def asks_wrong() -> str:
        try:
            call()
        except (TypeError, ValueError) as problem:
            return str(problem)
        return "no error"

    assert error in env.run(asks_wrong)


def test_a_child_outside_a_workflow_is_refused() -> None:
    with pytest.raises(RuntimeError, match="inside a workflow"):
        anything(doubling, 1)
    with pytest.raises(RuntimeError, match="inside a workflow"):
        start_child(doubling, 1)


@pytest.mark.selection
def test_the_family_is_seen_from_any_member(env: WorkflowEnv) -> None:
    handle = env.start(waits_two_levels, "lowest")
    env.run_until_idle()
    [middle] = handle.describe().children
    about = env.client.handle(middle.run_id).describe()
    assert about.parent == handle.run_id
    [lowest] = about.children
    for run_id in (handle.run_id, middle.run_id, lowest.run_id):
        tree = env.client.handle(run_id).tree()
        assert tree.run.run_id == handle.run_id
        assert [each.run.run_id for each in tree.children] == [middle.run_id]
        assert [each.run for each in tree.children[0].children] == [lowest]
    assert lowest.parent == middle.run_id


FAILS = {"now": True}


@step(retries=0)
def flaky(name: str) -> str:
    LOG.append(name)
    if name == "bad" and FAILS["now"]:
        raise FatalError("not now")
    return name


@workflow
async def two_steps(name: str) -> list[str]:
    return [await flaky(f"before {name}"), await flaky(name)]


@workflow
async def family_that_fails() -> list[list[str]]:
    good = await child(two_steps, "good")
    return [good, await child(two_steps, "bad")]


@pytest.mark.selection
def test_a_retry_goes_on_in_the_child_that_failed(env: WorkflowEnv) -> None:
    FAILS["now"] = True
    handle = env.start(family_that_fails)
    with pytest.raises(WorkflowFailed, match="not now"):
        handle.result()
    env.run_until_idle()
    before = {run.run_id for run in env.client.runs()}
    FAILS["now"] = False
    LOG.clear()
    env.crash()
    handle.retry()
    assert handle.result() == [["before good", "good"], ["before bad", "bad"]]
    assert LOG == ["bad"]
    assert {run.run_id for run in env.client.runs()} == before


@workflow
async def fails_beside_a_sleeper() -> list[object]:
    return list(await asyncio.gather(child(sleeper, "slow"), child(two_steps, "bad")))


def test_a_retry_begins_a_child_anew_that_was_cancelled(env: WorkflowEnv) -> None:
    FAILS["now"] = True
    handle = env.start(fails_beside_a_sleeper)
    with pytest.raises(WorkflowFailed, match="not now"):
        handle.result()
    env.run_until_idle()
    FAILS["now"] = False
    handle.retry()
    assert handle.result() == ["slow", ["before bad", "bad"]]
    assert sorted(run.status for run in env.client.runs(workflow="sleeper")) == ["CANCELLED", "COMPLETED"]


def test_a_reset_begins_children_anew_that_had_ended(env: WorkflowEnv) -> None:
    FAILS["now"] = False
    handle = env.start(family_that_fails)
    handle.result()
    LOG.clear()
    handle.reset(1)
    assert handle.result() == [["before good", "good"], ["before bad", "bad"]]
    assert sorted(LOG) == ["bad", "before bad", "before good", "good"]
    assert env.client.count(workflow="two_steps") == 4


def test_a_fork_has_children_of_its_own(env: WorkflowEnv) -> None:
    @workflow
    async def child_then_step() -> list[Any]:
        waiting = start_child(sleeper, "apart")
        name = await flaky("first")
        return [name, await waiting.result(), waiting.run_id]

    handle = env.start(child_then_step)
    first = handle.result()
    forked = handle.fork(2).result()
    assert forked[:2] == first[:2]
    assert forked[2] != first[2]
    assert env.client.count(workflow="sleeper") == 2
