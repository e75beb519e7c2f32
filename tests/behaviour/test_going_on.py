"""Going on after a failure, and from an earlier point: what succeeded before it never runs again."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from dramaturg import (
    AlreadyStarted,
    RetryPolicy,
    WorkflowFailed,
    WrongState,
    current_step,
    external,
    now,
    random,
    sleep,
    start_child,
    step,
    uuid4,
    wait_signal,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.messages import Request, RequestKind, encode_message
from dramaturg_protocol.request_bodies import ControlBody
from tests.behaviour.histories import events_of, has_gapless_numbers, types_of

ran: Counter[str] = Counter()
keys: dict[str, list[str]] = {}
broken: set[str] = set()


@pytest.fixture
def work() -> Any:
    @step(name="work", retries=1)
    def work_(name: str) -> str:
        context = current_step()
        assert context is not None
        ran[name] += 1
        keys.setdefault(name, []).append(context.idempotency_key)
        if name in broken:
            raise ValueError(f"{name} is broken")
        return name.upper()

    ran.clear()
    keys.clear()
    broken.clear()
    return work_


@pytest.mark.selection
@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_failed_run_goes_on_with_the_step_that_failed(env: WorkflowEnv, work: Any, crashes: bool) -> None:
    @workflow
    async def flow() -> list[str]:
        return [await work("a"), await work("b"), await work("c")]

    broken.add("b")
    handle = env.start(flow)
    with pytest.raises(WorkflowFailed, match="b is broken"):
        handle.result()
    broken.clear()
    if crashes:
        env.crash()

    handle.retry(by="ada", reason="mended")

    assert handle.result() == ["A", "B", "C"]
    assert ran == {"a": 1, "b": 3, "c": 1}
    assert len(set(keys["b"])) == 1
    (retried,) = events_of(handle, "run.retried")
    assert (retried["by"], retried["reason"], retried["generation"]) == ("ada", "mended", 2)
    assert has_gapless_numbers(handle)
    assert handle.describe().status == "COMPLETED"


def test_a_retried_step_has_all_of_its_attempts_again_under_new_numbers(env: WorkflowEnv, work: Any) -> None:
    @workflow
    async def flow() -> str:
        return str(await work("a"))

    broken.add("a")
    handle = env.start(flow)
    for times in (1, 2, 3):
        with pytest.raises(WorkflowFailed):
            handle.result()
        assert ran["a"] == 2 * times
        if times < 3:
            handle.retry()

    assert [failed["attempt"] for failed in events_of(handle, "step.failed")] == [2, 4, 6]


def test_the_finished_siblings_of_a_failed_member_are_kept_and_the_unfinished_run_again(
    env: WorkflowEnv, work: Any
) -> None:
    @workflow
    async def flow() -> list[str]:
        return list(await asyncio.gather(*[work(name) for name in "abcdef"]))

    broken.update("cf")
    handle = env.start(flow)
    with pytest.raises(WorkflowFailed):
        handle.result()
    env.run_until_idle()
    completed = {event["seq"] for event in events_of(handle, "step.completed")}
    broken.clear()

    handle.retry()

    assert handle.result() == list("ABCDEF")
    assert all(ran["abcdef"[seq - 1]] == 1 for seq in completed)
    assert Counter(event["seq"] for event in events_of(handle, "step.completed")) == dict.fromkeys(range(1, 7), 1)


def test_code_that_reacts_to_kept_outcomes_in_the_new_generation_is_replayed_alike(env: WorkflowEnv, work: Any) -> None:
    @workflow
    async def flow() -> list[Any]:
        async def both(name: str) -> list[str]:
            return [await work(name), await work(name + name), str(uuid4())]

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(both(name)) for name in "abc"]
        await sleep("1h")
        return [task.result() for task in tasks]

    broken.add("a")
    handle = env.start(flow)
    with pytest.raises(WorkflowFailed):
        handle.result()
    broken.clear()

    handle.retry()
    env.crash()

    assert [part[:2] for part in handle.result()] == [["A", "AA"], ["B", "BB"], ["C", "CC"]]
    assert "run.blocked" not in [event.type for event in handle.events()]


def test_a_late_report_of_an_attempt_that_was_cut_changes_nothing(env: WorkflowEnv, work: Any) -> None:
    @workflow
    async def flow() -> str:
        result: str = await work("a")
        await sleep("1h")
        return result

    handle = env.start(flow)
    env.run_until_idle()

    handle.reset(to_event=2)

    assert handle.result() == "A"
    assert [event["attempt"] for event in events_of(handle, "step.completed")] == [1, 2]


def test_an_error_of_the_workflows_own_code_goes_on_with_the_code_of_now(env: WorkflowEnv, work: Any) -> None:
    is_mended = False

    @workflow
    async def flow() -> str:
        result: str = await work("a")
        if not is_mended:
            raise KeyError("a bug")
        return result

    handle = env.start(flow)
    with pytest.raises(WorkflowFailed):
        handle.result()
    is_mended = True

    handle.retry()

    assert handle.result() == "A"
    assert ran == {"a": 1}


def test_a_timer_goes_on_with_the_time_that_it_had_left(env: WorkflowEnv, work: Any) -> None:
    @workflow
    async def flow() -> str:
        async with asyncio.timeout(60):
            return str(await work("a"))

    broken.add("a")
    handle = env.start(flow)
    with pytest.raises(WorkflowFailed):
        handle.result()
    env.advance("3d")
    broken.clear()

    handle.retry()

    assert handle.result() == "A"


def test_only_a_failed_run_is_retried(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        await sleep("1d")

    handle = env.start(flow)
    env.run_until_idle()
    with pytest.raises(WrongState, match="WAITING: only a run that FAILED or TIMED_OUT can"):
        handle.retry()
    handle.result()

    with pytest.raises(WrongState, match="COMPLETED"):
        handle.retry()
    assert types_of(handle)[-1] == "run.completed"


@workflow
async def listens(count: int) -> list[str]:
    return [await wait_signal("word") for _ in range(count)]


@pytest.mark.selection
@pytest.mark.parametrize("by_id", [False, True], ids=["by its handle", "by its workflow id"])
def test_a_child_that_begins_again_is_told_again_what_its_parent_had_told_it(
    env: WorkflowEnv, work: Any, by_id: bool
) -> None:
    @workflow
    async def flow() -> list[str]:
        started = start_child(listens, 3)
        (external(started.workflow_id) if by_id else started).signal("word", "first")
        (external(started.workflow_id) if by_id else started).signal("word", "second")
        await work("b")
        (external(started.workflow_id) if by_id else started).signal("word", "third")
        return await started.result()

    broken.add("b")
    handle = env.start(flow)
    with pytest.raises(WorkflowFailed):
        handle.result()
    handle.retry()
    with pytest.raises(WorkflowFailed):
        handle.result()
    broken.clear()
    handle.retry()

    assert handle.result() == ["first", "second", "third"]


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
def test_a_run_is_set_back_to_an_event_and_does_the_rest_again(env: WorkflowEnv, work: Any, closed: bool) -> None:
    @workflow
    async def flow() -> list[Any]:
        first = await work("a")
        drawn = uuid4()
        second = await work("b")
        await sleep("1h")
        return [first, second, str(drawn), now()]

    handle = env.start(flow)
    first = handle.result() if closed else None
    env.run_until_idle()
    if not closed:
        env.advance("1m")
    completed = [event.number for event in handle.events() if event.type == "step.completed"]

    handle.reset(to_event=completed[0], by="ada")

    again = handle.result()
    assert again[:2] == ["A", "B"]
    assert ran == {"a": 1, "b": 2}
    if first is not None:
        assert again != first
    with pytest.raises(WrongState, match=r"no event 99 to go back to"):
        handle.reset(to_event=99)


def test_a_run_that_was_set_back_twice_keeps_its_first_part(env: WorkflowEnv, work: Any) -> None:
    @workflow
    async def flow() -> list[str]:
        return [await work(name) for name in "abcd"]

    handle = env.start(flow)
    handle.result()
    completed = [event.number for event in handle.events() if event.type == "step.completed"]
    handle.reset(to_event=completed[2])
    handle.result()
    env.crash()
    handle.reset(to_event=completed[1])

    assert handle.result() == list("ABCD")
    assert ran == {"a": 1, "b": 1, "c": 2, "d": 3}
    assert has_gapless_numbers(handle)


@pytest.mark.selection
def test_a_paused_run_begins_nothing_and_loses_nothing(env: WorkflowEnv, work: Any) -> None:
    @workflow
    async def flow() -> list[str]:
        await sleep("1h")
        return [await work("a")]

    handle = env.start(flow)
    env.run_until_idle()
    handle.pause(by="ada", reason="look first")
    env.advance("2h")
    assert handle.describe().status == "PAUSED"
    assert not ran
    env.crash()

    handle.resume(by="bob")

    assert handle.result() == ["A"]
    assert types_of(handle) == [
        "run.started", "timer.started", "run.paused", "timer.fired", "run.resumed",
        "step.scheduled", "step.completed", "run.completed",
    ]  # fmt: skip


def test_a_step_is_not_tried_again_while_its_run_is_paused(env: WorkflowEnv, work: Any) -> None:
    @workflow
    async def flow() -> str:
        return str(await work("a"))

    broken.add("a")
    handle = env.start(flow)
    while not events_of(handle, "step.retrying"):
        env.turn()
    handle.pause()
    env.advance("1d")
    assert ran == {"a": 1}
    broken.clear()

    handle.resume()

    assert handle.result() == "A"


def test_pause_and_resume_say_where_they_do_not_fit(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        await sleep("1d")

    handle = env.start(flow)
    env.run_until_idle()
    with pytest.raises(WrongState, match="is WAITING, not PAUSED"):
        handle.resume()
    handle.pause()
    with pytest.raises(WrongState, match="is PAUSED"):
        handle.pause()


def test_a_paused_run_that_is_cancelled_cleans_up(env: WorkflowEnv, work: Any) -> None:
    @workflow
    async def flow() -> None:
        try:
            await sleep("1d")
        finally:
            await work("clean-up")

    handle = env.start(flow)
    env.run_until_idle()
    handle.pause()

    handle.cancel()
    env.run_until_idle()

    assert handle.describe().status == "CANCELLED"
    assert ran == {"clean-up": 1}


def test_a_person_settles_a_step(env: WorkflowEnv) -> None:
    @step(retries=3)
    def pay() -> int:
        raise ConnectionError("the bank is closed")

    @workflow
    async def flow() -> int:
        return await pay()

    def waiting() -> Any:
        handle = env.start(flow)
        while not events_of(handle, "step.retrying"):
            env.turn()
        return handle

    done = waiting()
    done.step(1).complete(250, by="ada", reason="paid in cash")
    assert done.result() == 250
    (settled,) = events_of(done, "step.settled")
    assert (settled["verb"], settled["by"], settled["reason"]) == ("complete", "ada", "paid in cash")

    failed = waiting()
    failed.step(1).fail("never", by="ada")
    with pytest.raises(WorkflowFailed, match="never"):
        failed.result()

    again = waiting()
    before = len(events_of(again, "step.retrying"))
    again.step(1).retry_now()
    env.run_until_idle()
    assert len(events_of(again, "step.retrying")) > before
    with pytest.raises(WrongState, match="step 7 is not open: open are pay #1"):
        again.step(7).retry_now()


def test_a_run_whose_workflow_id_belongs_to_another_open_run_is_not_retried(env: WorkflowEnv, work: Any) -> None:
    @workflow
    async def flow() -> str:
        return str(await work("a"))

    @workflow
    async def long() -> None:
        await sleep("1d")

    broken.add("a")
    failed = env.client.start(flow, id="order-1")
    with pytest.raises(WorkflowFailed):
        failed.result()
    broken.clear()
    other = env.client.start(long, id="order-1")

    with pytest.raises(WrongState, match=f"'order-1' belongs to the open run {other.run_id}"):
        failed.retry()
    with pytest.raises(WrongState, match=f"'order-1' belongs to the open run {other.run_id}"):
        failed.reset(to_event=1)
    other.terminate()
    failed.retry()

    assert failed.result() == "A"


def test_a_sleep_that_a_reset_does_anew_takes_its_time_again(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        await sleep("1d")
        return "slept"

    handle = env.start(flow)
    handle.result()
    env.advance("7d")
    before = env.now

    handle.reset(to_event=1)

    assert handle.result() == "slept"
    assert (env.now - before).total_seconds() == pytest.approx(86400)


@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_what_a_reset_run_draws_is_new_and_what_stays_bears_what_was_drawn(
    env: WorkflowEnv, work: Any, crashes: bool
) -> None:
    drawn: list[list[str]] = []

    @workflow
    async def flow() -> None:
        await work("a")
        values = [str(uuid4()), str(random().random()), str(now())]
        await work(" ".join(values))
        values = [*values, str(uuid4()), str(random().random())]
        drawn.append(values)
        await work(" ".join(values))

    handle = env.start(flow)
    handle.result()
    numbers = [event.number for event in handle.events() if event.type in ("step.completed", "step.scheduled")]
    env.advance("1h")

    def drawn_after(number: int) -> list[str]:
        """What it draws once it was set back to an event."""
        if crashes:
            env.crash()
        handle.reset(to_event=number)
        if crashes:
            env.crash()
        handle.result()
        return drawn[-1]

    first = drawn[-1]
    from_a, from_a_again = drawn_after(numbers[1]), drawn_after(numbers[1])
    assert all(len(set(values)) == 3 for values in zip(first[:2], from_a[:2], from_a_again[:2], strict=True))
    assert from_a[2] > first[2]
    assert events_of(handle, "step.scheduled")[-1]["input"]["args"] == [" ".join(from_a_again)]
    # The second step stays, with what it was given.
    asked = [event.number for event in handle.events() if event.type == "step.scheduled"][-2]
    from_b = drawn_after(asked)
    assert from_b[:3] == from_a_again[:3]
    assert not {*from_b[3:]} & {*from_a_again[3:], *from_a[3:], *first[3:]}
    assert has_gapless_numbers(handle)


def test_what_is_asked_for_at_one_go_is_new_behind_what_stays_of_it(env: WorkflowEnv, work: Any) -> None:
    @workflow
    async def flow() -> list[str]:
        calls = []
        for name in "abc":
            calls.append(asyncio.ensure_future(work(f"{name} {uuid4()}")))
            await sleep(0)
        return list(await asyncio.gather(*calls))

    handle = env.start(flow)
    first = handle.result()
    (kept, _, _) = [event.number for event in handle.events() if event.type == "step.scheduled"]

    handle.reset(to_event=kept)
    env.crash()
    again = handle.result()

    assert again[0] == first[0]
    assert not {*again[1:]} & {*first[1:]}


def test_what_a_try_begins_anew_sleeps_its_time_and_no_longer(env: WorkflowEnv) -> None:
    tried: list[int] = []

    @workflow(name="going_on_tries", retries=RetryPolicy(max_attempts=2, backoff="fixed", initial="1m", jitter=False))
    async def flow() -> str:
        await sleep("1d")
        tried.append(1)
        if len(tried) == 1:
            raise ValueError("not yet")
        return "slept"

    before = env.now

    assert env.run(flow) == "slept"
    assert (env.now - before).total_seconds() == pytest.approx(2 * 86400 + 60)


def test_a_workflow_id_is_nobody_elses_while_its_run_is_to_go_on(env: WorkflowEnv, work: Any) -> None:
    @workflow
    async def flow() -> str:
        return str(await work("a"))

    broken.add("a")
    failed = env.client.start(flow, id="order-1")
    with pytest.raises(WorkflowFailed):
        failed.result()
    broken.clear()
    # Its request waits for a coordinator.
    partition = env.database.partition_of("order-1")
    text = encode_message(ControlBody())
    env.database.inbox.put([Request("retry-1", RequestKind.RETRY, failed.run_id, partition, text)])

    with pytest.raises(AlreadyStarted, match=failed.run_id):
        env.client.start(flow, id="order-1")
    used = env.client.start(flow, id="order-1", on_conflict="use_existing")

    env.run_until_idle()

    assert used.run_id == failed.run_id
    assert failed.result() == "A"


def test_a_run_that_goes_on_bears_its_workflow_id_again(env: WorkflowEnv, work: Any) -> None:
    @workflow
    async def flow() -> str:
        return str(await work("a"))

    broken.add("a")
    failed = env.client.start(flow, id="order-1")
    with pytest.raises(WorkflowFailed):
        failed.result()
    broken.clear()
    assert env.client.start(flow, id="order-1").result() == "A"
    failed.retry()

    assert env.client.handle("order-1").run_id == failed.run_id
    assert failed.result() == "A"
