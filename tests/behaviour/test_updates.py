"""Updates: accepted once, done by the code, answered with what that gives."""

from __future__ import annotations

from typing import Any

import pytest

from dramaturg import (
    NotAnswered,
    UpdateFailed,
    UpdateRejected,
    WorkflowFailed,
    WrongState,
    on_query,
    on_update,
    set_status,
    shield,
    sleep,
    step,
    wait_signal,
    wait_until,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of, has_gapless_numbers, types_of


@pytest.mark.selection
def test_an_update_changes_the_state_and_gives_a_value(env: WorkflowEnv) -> None:
    @step(name="price_of_update")
    def price_of(name: str) -> int:
        return len(name) * 100

    @workflow
    async def cart_of_updates() -> dict[str, int]:
        items: dict[str, int] = {}
        is_paid = False

        @on_update
        async def add(name: str, count: int = 1) -> int:
            items[name] = items.get(name, 0) + count * await price_of(name)
            return sum(items.values())

        @on_update("pay")
        def pays() -> str:
            nonlocal is_paid
            is_paid = True
            return "thank you"

        await wait_until(lambda: is_paid)
        return items

    handle = env.start(cart_of_updates)
    assert handle.update("add", "pen") == 300
    env.crash()
    assert handle.update("add", "paper", 2) == 1300
    assert handle.update("pay") == "thank you"

    assert handle.result() == {"pen": 300, "paper": 1000}
    assert [event["name"] for event in events_of(handle, "update.completed")] == ["add", "add", "pay"]
    assert has_gapless_numbers(handle)


@pytest.mark.selection
def test_an_update_that_its_validator_refuses_leaves_no_event(env: WorkflowEnv) -> None:
    @workflow
    async def takes_small_numbers() -> list[int]:
        taken: list[int] = []

        def check(number: int) -> None:
            if number > 9:
                raise ValueError(f"{number} is too large")
            if number < 0:
                set_status("a validator only looks")

        @on_update(validator=check)
        def take(number: int) -> int:
            taken.append(number)
            return len(taken)

        await wait_until(lambda: len(taken) == 2)
        return taken

    handle = env.start(takes_small_numbers)
    assert handle.update("take", 1) == 1
    before = types_of(handle)
    with pytest.raises(UpdateRejected, match="update 'take' is refused: ValueError: 12 is too large"):
        handle.update("take", 12)
    with pytest.raises(UpdateRejected, match="only looks"):
        handle.update("take", -1)
    with pytest.raises(UpdateRejected, match="argument"):
        handle.update("take")
    with pytest.raises(UpdateRejected, match="number"):
        handle.update("take", "many")
    assert types_of(handle) == before

    handle.update("take", 2)
    assert handle.result() == [1, 2]


def test_an_update_that_raises_fails_for_who_asked_and_for_nobody_else(env: WorkflowEnv) -> None:
    @workflow
    async def survives() -> str:
        @on_update
        def breaks() -> None:
            raise LookupError("no such item")

        return str(await wait_signal("end"))

    handle = env.start(survives)
    with pytest.raises(UpdateFailed, match="LookupError: no such item"):
        handle.update("breaks")
    env.crash()
    handle.signal("end", "well")

    assert handle.result() == "well"


def test_an_update_waits_until_its_function_is_bound(env: WorkflowEnv) -> None:
    @workflow
    async def binds_late() -> str:
        await sleep("1h")
        name = ""

        @on_update
        def rename(new: str) -> str:
            nonlocal name
            name = new
            return f"is {new}"

        await wait_until(lambda: bool(name))
        return name

    handle = env.start(binds_late)
    with pytest.raises(NotAnswered, match="stays and counts once"):
        handle.update("rename", "pen", idempotency_key="k")
    env.crash()

    assert handle.update("rename", "ink", idempotency_key="k", timeout="2h") == "is pen"
    assert handle.result() == "pen"
    assert len(events_of(handle, "update.accepted")) == 1


def test_the_same_update_asked_again_gets_the_same_answer(env: WorkflowEnv) -> None:
    @workflow
    async def counts_updates() -> int:
        count = 0

        @on_update
        def add() -> int:
            nonlocal count
            count += 1
            return count

        @on_update
        def breaks() -> None:
            raise ValueError("broken")

        await wait_signal("end")
        return count

    handle = env.start(counts_updates)
    assert [handle.update("add", idempotency_key=key) for key in ("a", "b", "a")] == [1, 2, 1]
    env.crash()
    assert handle.update("add", idempotency_key="b") == 2
    for _ in range(2):
        with pytest.raises(UpdateFailed, match="broken"):
            handle.update("breaks", idempotency_key="c")
    handle.signal("end")
    assert handle.result() == 2
    assert handle.update("add", idempotency_key="a") == 1
    with pytest.raises(WrongState, match="COMPLETED: it takes no update"):
        handle.update("add")


def test_an_answer_that_was_pruned_is_found_in_the_history(env: WorkflowEnv) -> None:
    @workflow
    async def answers_for_long() -> None:
        on_update("double", lambda number: 2 * number)
        await wait_signal("end")

    handle = env.start(answers_for_long)
    assert handle.update("double", 4, idempotency_key="k") == 8
    env.advance("40d")
    env.database.prune.leftovers()

    assert handle.update("double", 5, idempotency_key="k") == 8


def test_an_update_for_a_paused_run_is_taken_when_it_goes_on(env: WorkflowEnv) -> None:
    @workflow
    async def takes_when_it_can() -> list[int]:
        taken: list[int] = []
        on_update("take", taken.append)
        await wait_until(lambda: len(taken) == 1)
        return taken

    handle = env.start(takes_when_it_can)
    env.run_until_idle()
    handle.pause()
    with pytest.raises(NotAnswered):
        handle.update("take", 1, idempotency_key="k")
    handle.resume()

    assert handle.result() == [1]
    assert handle.update("take", 1, idempotency_key="k") is None


def test_who_waits_for_an_update_is_told_when_the_run_ends_before_it(env: WorkflowEnv) -> None:
    @workflow
    async def ends_first() -> None:
        @on_update
        async def takes_long() -> None:
            await sleep("30d")

        await sleep("1h")

    handle = env.start(ends_first)
    with pytest.raises(UpdateFailed, match="COMPLETED: it ended before update 'takes_long' did"):
        handle.update("takes_long", timeout="2d", idempotency_key="k")
    with pytest.raises(UpdateFailed, match="COMPLETED"):
        handle.update("takes_long", idempotency_key="k")


def test_a_retry_and_a_reset_keep_the_updates_that_came_since(env: WorkflowEnv) -> None:
    broken = [True]

    @step(name="fails_for_updates", retries=0)
    def fails() -> int:
        if broken[0]:
            raise ValueError("broken")
        return 1

    @workflow
    async def asks_then_binds() -> list[Any]:
        taken: list[Any] = []
        async with shield():
            await sleep("1m")

        @on_update
        def take(value: Any) -> int:
            taken.append(value)
            return len(taken)

        await wait_until(lambda: bool(taken))
        return [await fails(), *taken]

    handle = env.start(asks_then_binds)
    env.advance("2m")
    assert handle.update("take", "x") == 1
    with pytest.raises(WorkflowFailed):
        handle.result()
    broken[0] = False

    handle.retry()
    env.crash()
    assert handle.result() == [1, "x"]

    handle.reset(to_event=1)
    env.crash()
    assert handle.result() == [1, "x"]
    assert len(events_of(handle, "update.accepted")) == 1
    assert len(events_of(handle, "update.completed")) == 2


def test_a_query_sees_what_an_update_did(env: WorkflowEnv) -> None:
    @workflow
    async def has_a_name() -> str:
        name = "nobody"

        @on_query
        def name_now() -> str:
            return name

        @on_update
        def rename(new: str) -> None:
            nonlocal name
            name = new

        await wait_signal("end")
        return name

    handle = env.start(has_a_name)
    assert handle.query("name_now") == "nobody"
    assert handle.update("rename", "ada") is None
    assert handle.query("name_now") == "ada"
    assert "update rename since" not in handle.describe().waiting_for
