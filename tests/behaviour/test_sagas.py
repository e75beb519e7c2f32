"""Sagas: what succeeded is undone, the last first, where a run fails or is cancelled."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from typing import Any

import pytest

from dramaturg import (
    Handle,
    Step,
    StepFailed,
    WorkflowCancelled,
    WorkflowFailed,
    WrongState,
    compensate,
    compensate_now,
    current_step,
    sleep,
    step,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.definitions import registry
from tests.behaviour.histories import events_of, has_gapless_numbers, types_of

done: list[str] = []
keys: list[str] = []
broken: set[str] = set()
release = threading.Event()


@pytest.fixture(autouse=True)
def _clean() -> Any:
    done.clear()
    keys.clear()
    broken.clear()
    release.clear()
    yield
    release.set()


def note(text: str) -> None:
    context = current_step()
    assert context is not None
    done.append(text)
    keys.append(context.idempotency_key)
    if text in broken:
        raise ValueError(f"{text} is broken")


@step(name="saga_undo", retries=1)
def undo(receipt: str, name: str) -> None:
    note(f"undo {receipt}")


@step(name="saga_book", retries=0, compensate=undo)
def book(name: str) -> str:
    note(name)
    return f"{name}!"


@step(name="saga_slow_undo")
def slow_undo(receipt: str, name: str) -> None:
    release.wait(60)
    done.append(f"undo {receipt}")


@step(name="saga_plain", retries=0)
def plain(name: str) -> str:
    note(name)
    return name


@workflow(name="saga_trip")
async def trip() -> str:
    await book("flight")
    await plain("mail")
    await book("hotel")
    await book("car")
    return "booked"


def status_of(handle: Handle[Any]) -> str:
    return handle.describe().status


def turn_until_undoing(env: WorkflowEnv, handle: Handle[Any]) -> None:
    while "compensation.started" not in types_of(handle):
        env.turn()


@pytest.mark.selection
@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_what_succeeded_is_undone_in_reverse_order_when_the_run_fails(env: WorkflowEnv, crashes: bool) -> None:
    broken.add("car")
    handle = env.start(trip)
    if crashes:
        turn_until_undoing(env, handle)
        env.crash()

    with pytest.raises(WorkflowFailed, match="car is broken"):
        handle.result()

    # A crash may repeat what had not been recorded yet.
    assert list(dict.fromkeys(done)) == ["flight", "mail", "hotel", "car", "undo hotel!", "undo flight!"]
    assert [kind for kind in types_of(handle) if kind.startswith(("run", "comp"))] == [
        "run.started", "compensation.started", "compensation.completed", "run.failed"
    ]  # fmt: skip
    assert [each.get("undoes") for each in events_of(handle, "step.scheduled")] == [None, None, None, None, 3, 1]
    assert events_of(handle, "compensation.started")[0]["why"] == "failed"
    assert has_gapless_numbers(handle)


def test_a_run_that_ends_well_undoes_nothing(env: WorkflowEnv) -> None:
    handle = env.start(trip)

    assert handle.result() == "booked"
    assert not [kind for kind in types_of(handle) if kind.startswith("compensation")]


@pytest.mark.selection
def test_a_cancelled_run_is_undone_and_ends_as_cancelled(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        await book("flight")
        await sleep("30d")

    handle = env.start(flow)
    env.run_until_idle()
    handle.cancel()

    with pytest.raises(WorkflowCancelled):
        handle.result()
    assert done == ["flight", "undo flight!"]
    assert events_of(handle, "compensation.started")[0]["why"] == "cancelled"


def test_a_run_that_is_out_of_time_is_undone_and_ends_as_timed_out(env: WorkflowEnv) -> None:
    @workflow(timeout="1h")
    async def flow() -> None:
        await book("flight")
        await sleep("30d")

    handle = env.start(flow)
    env.run_until_idle()
    env.advance("1h")

    assert status_of(handle) == "TIMED_OUT"
    assert done == ["flight", "undo flight!"]
    assert events_of(handle, "compensation.started")[0]["why"] == "timed_out"


def test_a_terminated_run_undoes_nothing(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        await book("flight")
        await sleep("30d")

    handle = env.start(flow)
    env.run_until_idle()
    handle.terminate()
    env.run_until_idle()

    assert status_of(handle) == "TERMINATED"
    assert done == ["flight"]


def test_a_compensation_has_its_own_retries(env: WorkflowEnv) -> None:
    failures = [ValueError("once"), ValueError("twice")]

    @step(retries=5)
    def shaky(result: str) -> None:
        if failures:
            raise failures.pop()
        done.append(f"undone {result}")

    @step(compensate=shaky)
    def work() -> str:
        return "work"

    @workflow
    async def flow() -> None:
        await work()
        raise ValueError("the code gives up")

    handle = env.start(flow)

    with pytest.raises(WorkflowFailed, match="the code gives up"):
        handle.result()
    assert done == ["undone work"]
    assert len(events_of(handle, "step.retrying")) == 2


def test_a_compensation_that_fails_for_good_is_told_and_put_aside_and_the_others_run(env: WorkflowEnv) -> None:
    broken.update(("car", "undo hotel!"))
    handle = env.start(trip)

    with pytest.raises(WorkflowFailed) as failed:
        handle.result()

    assert "car is broken" in str(failed.value)
    assert "1 of its compensations failed for good: step saga_undo #5: ValueError: undo hotel! is broken" in str(
        failed.value
    )
    assert done[-3:] == ["undo hotel!", "undo hotel!", "undo flight!"]
    assert events_of(handle, "compensation.completed")[0]["failed"] == [5]
    letters = {letter.step: letter for letter in env.client.dead_letters.list()}
    assert letters.keys() == {"saga_book", "saga_undo"}
    assert "undo hotel! is broken" in letters["saga_undo"].reason
    assert letters["saga_undo"].seq == 5


def test_a_cancelled_run_whose_compensation_fails_is_failed(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        await book("flight")
        await sleep("30d")

    broken.add("undo flight!")
    handle = env.start(flow)
    env.run_until_idle()
    handle.cancel()

    with pytest.raises(WorkflowFailed, match="the run was cancelled, and 1 of its compensations failed for good"):
        handle.result()


@pytest.mark.parametrize("ends", ["fails", "is cancelled"])
def test_a_step_under_way_is_waited_for_and_undone_if_it_succeeds(env: WorkflowEnv, ends: str) -> None:
    begun = threading.Event()

    @step(compensate=undo)
    def slow(name: str) -> str:
        begun.set()
        release.wait(60)
        note(name)
        return f"{name}!"

    @workflow
    async def flow() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(slow("charge"))
            if ends == "fails":
                group.create_task(plain("sibling"))

    broken.add("sibling")
    handle = env.start(flow)
    while not begun.is_set():
        env.turn()
        begun.wait(0.01)
    if ends == "is cancelled":
        handle.cancel()
    turn_until_undoing(env, handle)
    assert status_of(handle) == "COMPENSATING"
    env.crash()
    release.set()

    with pytest.raises(WorkflowFailed if ends == "fails" else WorkflowCancelled):
        handle.result()
    assert done.count("undo charge!") == 1
    assert done[-1] == "undo charge!"


def test_a_step_that_is_only_waited_for_to_be_undone_is_not_tried_again(env: WorkflowEnv) -> None:
    @step(retries=8, compensate=undo)
    def shaky(name: str) -> str:
        done.append("tried")
        release.wait(60)
        raise ValueError("no luck")

    @workflow
    async def flow() -> None:
        await asyncio.gather(shaky("charge"), plain("sibling"))

    broken.add("sibling")
    handle = env.start(flow)
    turn_until_undoing(env, handle)
    release.set()

    with pytest.raises(WorkflowFailed):
        handle.result()
    assert done.count("tried") == 1
    assert events_of(handle, "step.retrying") == []


def test_steps_that_run_together_are_undone_in_the_reverse_order_of_their_outcomes(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        await asyncio.gather(*(book(f"part {number}") for number in range(5)))
        raise ValueError("all for nothing")

    handle = env.start(flow)
    with pytest.raises(WorkflowFailed):
        handle.result()

    finished = [each["seq"] for each in events_of(handle, "step.completed") if each["seq"] <= 5]
    undone = [each["undoes"] for each in events_of(handle, "step.scheduled") if "undoes" in each]
    assert undone == finished[::-1]


def test_the_body_may_ask_for_compensations_of_its_own(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        await plain("first")
        compensate(plain, "undo first")
        await book("second")
        await sleep("1d")
        raise ValueError("the end")

    handle = env.start(flow)
    env.run_until_idle()
    env.crash()

    with pytest.raises(WorkflowFailed, match="the end"):
        handle.result()
    assert done == ["first", "second", "undo second!", "undo first"]
    assert [each.get("undoes") for each in events_of(handle, "step.scheduled")][-2:] == [3 - 1, 1]


def test_compensations_at_once_leave_nothing_to_undo_and_the_run_goes_on(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        await book("flight")
        await compensate_now()
        await compensate_now()
        await book("train")
        await sleep("1d")
        return "by train"

    handle = env.start(flow)
    env.run_until_idle()
    env.crash()

    assert handle.result() == "by train"
    assert done == ["flight", "undo flight!", "train"]
    assert [each["why"] for each in events_of(handle, "compensation.started")] == ["asked"]


def test_compensations_at_once_raise_what_failed_after_the_others_ran(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        await book("flight")
        await book("hotel")
        try:
            await compensate_now()
        except StepFailed as error:
            return error.message
        return "undone"

    broken.add("undo hotel!")

    assert env.run(flow) == "undo hotel! is broken"
    assert done[-1] == "undo flight!"


def test_a_cancel_while_compensations_run_at_once_undoes_each_once(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        await book("flight")
        await book.options(compensate=slow_undo)("hotel")
        await compensate_now()

    handle = env.start(flow)
    turn_until_undoing(env, handle)
    handle.cancel()
    release.set()

    with pytest.raises(WorkflowCancelled):
        handle.result()
    assert done == ["flight", "hotel", "undo hotel!", "undo flight!"]


@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_retry_does_anew_what_was_undone_under_other_keys(env: WorkflowEnv, crashes: bool) -> None:
    @workflow
    async def flow() -> str:
        await plain("before")
        await book("flight")
        await plain("after")
        return "booked"

    broken.add("after")
    handle = env.start(flow)
    with pytest.raises(WorkflowFailed):
        handle.result()
    assert done == ["before", "flight", "after", "undo flight!"]
    broken.clear()
    if crashes:
        env.crash()

    handle.retry()

    assert handle.result() == "booked"
    assert done[4:] == ["flight", "after"]
    assert keys[1] != keys[4]
    assert has_gapless_numbers(handle)


def test_a_reset_behind_what_was_undone_is_refused(env: WorkflowEnv) -> None:
    broken.add("car")
    handle = env.start(trip)
    env.run_until_idle()
    flight = next(event for event in handle.events() if event.type == "step.completed")

    with pytest.raises(WrongState, match="undone since"):
        handle.reset(flight.number)
    handle.reset(1)
    broken.clear()

    assert handle.result() == "booked"


def test_a_call_may_name_another_compensation_or_none(env: WorkflowEnv) -> None:
    @step
    def other(receipt: str, name: str) -> None:
        done.append(f"other {receipt}")

    @workflow
    async def flow() -> None:
        await book.options(compensate=other)("flight")
        await book.options(compensate=None)("hotel")
        raise ValueError("the end")

    handle = env.start(flow)
    with pytest.raises(WorkflowFailed):
        handle.result()

    assert done == ["flight", "hotel", "other flight!"]


def test_a_compensation_gets_result_and_arguments_as_they_were(env: WorkflowEnv) -> None:
    seen: list[Any] = []

    class Refund(Step):
        """Gives money back."""

        def run(self, receipt: Decimal, order: tuple[int, str], *, note: Any) -> None:
            seen.append((receipt, order, note))

    @step(compensate=Refund())
    def charge(order: tuple[int, str], *, note: Any) -> Decimal:
        return Decimal("1.50")

    @workflow
    async def flow() -> None:
        await charge((7, "lamp"), note={1: {2}})
        raise ValueError("the end")

    env.start(flow)
    env.run_until_idle()

    assert seen == [(Decimal("1.50"), (7, "lamp"), {1: {2}})]


def test_a_changed_compensation_does_not_change_what_was_promised(env: WorkflowEnv) -> None:
    def define(how: Any) -> Any:
        @step(name="saga_changing", compensate=how)
        def changing(name: str) -> str:
            return name

        @workflow(name="saga_changing_flow")
        async def flow() -> None:
            await changing("work")
            await sleep("1d")
            raise ValueError("the end")

        return flow

    handle = env.start(define(undo))
    env.run_until_idle()
    registry.steps.pop("saga_changing")
    registry.workflows.pop("saga_changing_flow")
    define(plain)
    env.restart()

    with pytest.raises(WorkflowFailed, match="the end"):
        handle.result()
    assert done == ["undo work"]


def test_a_compensation_must_be_a_step() -> None:
    with pytest.raises(TypeError, match="compensate must be a step"):
        step(compensate=print)


def test_a_cancel_of_a_run_that_is_being_undone_changes_nothing(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        await book.options(compensate=slow_undo)("flight")
        raise ValueError("the end")

    handle = env.start(flow)
    turn_until_undoing(env, handle)
    handle.cancel()
    release.set()

    with pytest.raises(WorkflowFailed, match="the end"):
        handle.result()
    assert events_of(handle, "run.cancel_requested") == []


def test_a_run_that_is_being_undone_can_be_paused(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        await book("hotel")
        await book.options(compensate=slow_undo)("flight")
        raise ValueError("the end")

    handle = env.start(flow)
    turn_until_undoing(env, handle)
    handle.pause()
    assert status_of(handle) == "PAUSED"
    release.set()
    env.run_until_idle()
    env.crash()
    assert done == ["hotel", "flight", "undo flight!"]
    handle.resume()

    with pytest.raises(WorkflowFailed, match="the end"):
        handle.result()
    assert done[-1] == "undo hotel!"
