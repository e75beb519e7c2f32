"""Limits of whole workflows: who is over it waits, is skipped, or takes the place of the one that runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dramaturg import Handle, Limit, child, sleep, step, workflow
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import has_gapless_numbers, types_of


def slots_of(env: WorkflowEnv) -> list[Any]:
    return list(env.database.store.slots(env.database.partitions, env.now))


def flow_of(limit: Any, ran: list[str]) -> Any:
    @workflow(concurrency=limit)
    async def flow(tenant: str, what: str = "") -> str:
        ran.append(f"{tenant}{what} begins")
        try:
            await sleep("1h")
        finally:
            ran.append(f"{tenant}{what} ends")
        return what

    return flow


def began(ran: list[str]) -> list[str]:
    return list(dict.fromkeys(each for each in ran if each.endswith("begins")))


@pytest.mark.selection
def test_a_run_over_the_limit_waits_until_there_is_room(env: WorkflowEnv) -> None:
    ran: list[str] = []
    flow = flow_of(Limit(1, key="tenant"), ran)

    handles = [env.start(flow, "a", f" {number}") for number in range(3)]
    other = env.start(flow, "b")
    env.run_until_idle()
    states = [handle.describe() for handle in handles]
    assert sorted(state.status for state in states) == ["PENDING", "PENDING", "WAITING"]
    assert any("1 at once for 'a'" in state.waiting_for for state in states)
    assert other.describe().status == "WAITING"
    env.crash()
    for handle in handles:
        handle.result()

    assert [each for each in began(ran) if each.startswith("a")] == ["a 0 begins", "a 1 begins", "a 2 begins"]
    assert types_of(handles[2])[:3] == ["run.started", "run.queued", "run.admitted"]
    assert all(has_gapless_numbers(handle) for handle in handles)
    assert slots_of(env) == []


@pytest.mark.selection
@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_run_whose_child_is_under_way_runs_also_where_it_had_to_wait(env: WorkflowEnv, crashes: bool) -> None:
    @workflow(name="limited_childs_child")
    async def rests() -> None:
        await sleep("1h")

    @workflow(concurrency=1)
    async def has_a_child() -> None:
        await child(rests)

    first, second = env.start(has_a_child), env.start(has_a_child)
    env.run_until_idle()
    assert (first.describe().status, second.describe().status) == ("RUNNING", "PENDING")
    if crashes:
        env.crash()
    first.result()
    env.run_until_idle()

    assert second.describe().status == "RUNNING"


def test_a_number_is_a_limit_over_all_runs(env: WorkflowEnv) -> None:
    ran: list[str] = []
    flow = flow_of(2, ran)

    handles = [env.start(flow, f"t{number}") for number in range(3)]
    env.run_until_idle()
    assert sorted(handle.describe().status for handle in handles) == ["PENDING", "WAITING", "WAITING"]
    for handle in handles:
        handle.result()
    assert slots_of(env) == []


def test_with_skip_a_run_over_the_limit_ends_before_it_began(env: WorkflowEnv) -> None:
    ran: list[str] = []
    flow = flow_of(Limit(1, key="tenant", on_conflict="skip"), ran)

    first = env.start(flow, "a", " 1")
    env.run_until_idle()
    second = env.start(flow, "a", " 2")
    env.run_until_idle()

    assert second.describe().status == "CANCELLED"
    asked = next(event for event in second.events() if event.type == "run.cancel_requested")
    assert asked.data["reason"] == "skipped: 1 of its workflow run already for 'a'"
    first.result()
    third = env.start(flow, "a", " 3")
    third.result()
    assert "a 2 begins" not in ran
    assert slots_of(env) == []


@pytest.mark.selection
def test_with_cancel_running_the_newest_takes_the_place(env: WorkflowEnv) -> None:
    ran: list[str] = []
    flow = flow_of(Limit(1, key="tenant", on_conflict="cancel_running"), ran)

    old = [env.start(flow, "a", f" {number}") for number in range(2)]
    env.run_until_idle()
    old.append(env.start(flow, "a", " 2"))
    newest = env.start(flow, "a", " 3")
    assert newest.result() == " 3"

    assert [handle.describe().status for handle in old] == ["CANCELLED"] * 3
    asked = next(event for event in old[0].events() if event.type == "run.cancel_requested")
    assert asked.data["reason"] == "a newer run of workflow flow takes its place"
    assert slots_of(env) == []


END: dict[str, Callable[[Handle[Any]], Any]] = {
    "cancel": lambda handle: handle.cancel(),
    "terminate": lambda handle: handle.terminate(),
}


@pytest.mark.parametrize("how", END)
@pytest.mark.parametrize("which", [0, 1])
def test_a_run_that_is_ended_gives_its_place_back(env: WorkflowEnv, how: str, which: int) -> None:
    ran: list[str] = []
    flow = flow_of(1, ran)

    handles = [env.start(flow, "a", " 0"), env.start(flow, "a", " 1"), env.start(flow, "a", " 2")]
    env.run_until_idle()
    END[how](handles[which])
    for number in {0, 1, 2} - {which}:
        assert handles[number].result() == f" {number}"

    assert ("a 1 begins" in ran) is (which == 0)
    assert slots_of(env) == []


def test_a_run_that_failed_gives_its_place_back_and_a_retry_goes_beyond(env: WorkflowEnv) -> None:
    is_broken = [True]

    @step(retries=0)
    def work(what: str) -> str:
        if what == "broken" and is_broken[0]:
            raise ValueError("no")
        return what

    @workflow(concurrency=1)
    async def flow(what: str) -> str:
        done = await work(what)
        if what == "long":
            await sleep("1h")
        return done

    broken = env.start(flow, "broken")
    with pytest.raises(Exception, match="no"):
        broken.result()
    long = env.start(flow, "long")
    env.run_until_idle()
    is_broken[0] = False
    broken.retry()

    # A person asked for it: it goes on at once.
    env.run_until_idle()
    assert broken.describe().status == "COMPLETED"
    assert long.result() == "long"
    assert slots_of(env) == []


def test_a_run_with_retries_keeps_its_place_while_it_is_tried_again(env: WorkflowEnv) -> None:
    tries: list[str] = []

    @workflow(concurrency=1, retries=2)
    async def flow(what: str) -> str:
        tries.append(what)
        if what == "bad" and tries.count("bad") < 3 and not env._rules.replay_every_turn:  # pyright: ignore[reportPrivateUsage]
            raise ValueError("not yet")
        return what

    bad, good = env.start(flow, "bad"), env.start(flow, "good")

    assert bad.result() == "bad"
    assert good.result() == "good"
    if not env._rules.replay_every_turn:  # pyright: ignore[reportPrivateUsage]
        assert tries.index("good") == 3
    assert slots_of(env) == []


def test_a_key_that_cannot_be_read_fails_the_run(env: WorkflowEnv) -> None:
    @workflow(concurrency=Limit(1, key=lambda number: number["tenant"]))
    async def flow(number: int) -> int:
        return number

    with pytest.raises(Exception, match="the key of its concurrency cannot be read: TypeError"):
        env.run(flow, 1)


def test_a_wrong_limit_is_refused_where_it_is_given() -> None:
    wrong: Any = Limit(1, on_conflict="drop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="on_conflict must be one of"):

        @workflow(concurrency=wrong)
        async def flow() -> None: ...

    with pytest.raises(TypeError, match="is no argument of it"):

        @workflow(concurrency=Limit(1, key="tenant"))
        async def other() -> None: ...

    with pytest.raises(ValueError, match="is for workflows"):
        step(concurrency=Limit(1, on_conflict="skip"))
