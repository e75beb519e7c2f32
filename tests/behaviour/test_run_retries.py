"""A run that fails of its own is tried again, where its workflow has ``retries``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from dramaturg import (
    FatalError,
    RetryableError,
    RetryPolicy,
    StepFailed,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowTerminated,
    WorkflowTimedOut,
    child,
    current_step,
    info,
    now,
    sleep,
    step,
    uuid4,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of, has_gapless_numbers, types_of

pytestmark = pytest.mark.behaviour

SOON = RetryPolicy(max_attempts=3, backoff="fixed", initial="10s", jitter=False)


@pytest.mark.selection
@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_what_succeeded_stays_and_the_step_that_failed_has_all_of_its_attempts_again(
    env: WorkflowEnv, crashes: bool
) -> None:
    first_runs: list[str] = []
    second_runs: list[int] = []

    @step
    def first() -> str:
        first_runs.append("ran")
        return "first"

    @step(retries=1)
    def second() -> str:
        about = current_step()
        assert about is not None
        second_runs.append(about.attempt)
        if len(second_runs) < 4:
            raise ConnectionError("no line")
        return "second"

    @workflow(retries=SOON)
    async def flow() -> tuple[str, str, int]:
        one = await first()
        return one, await second(), info().attempt

    handle = env.start(flow)
    env.run_until_idle()
    env.advance("1s")
    env.run_until_idle()
    if crashes:
        env.crash()
    described = handle.describe()
    assert described.status == "WAITING"
    assert "the next try of the run, in " in described.waiting_for

    env.advance("8s")
    assert len(second_runs) == 2
    env.advance("2s")

    assert handle.result() == ("first", "second", 2)
    assert first_runs == ["ran"]
    assert len(second_runs) == 4
    assert len(set(second_runs)) == 4
    (failed,) = events_of(handle, "run.retrying")
    assert (failed["attempt"], failed["positions"]) == (1, [2])
    (retried,) = events_of(handle, "run.retried")
    assert (retried["attempt"], retried["tries"], retried.get("anew")) == (2, 1, None)
    assert not events_of(handle, "run.failed")
    assert has_gapless_numbers(handle)
    assert not env.database.reads.open_work(handle.run_id)


@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_an_error_of_its_own_code_begins_anew_at_the_first_line(env: WorkflowEnv, crashes: bool) -> None:
    seen: list[tuple[int, datetime, str]] = []
    looked: list[str] = []

    @step
    def look() -> str:
        looked.append("looked")
        return f"look {len(looked)}"

    @workflow(retries=SOON)
    async def flow() -> tuple[str, int]:
        seen.append((info().attempt, now(), str(uuid4())))
        found = await look()
        if found != "look 3":
            raise ValueError(f"it is not there yet: {found}")
        return found, info().attempt

    handle = env.start(flow)
    env.run_until_idle()
    for _ in range(2):
        if crashes:
            env.crash()
        env.advance("10s")

    assert handle.result() == ("look 3", 3)
    last = {attempt: (time, number) for attempt, time, number in seen}
    assert sorted(last) == [1, 2, 3]
    assert (last[2][0] - last[1][0]).total_seconds() == 10
    assert (last[3][0] - last[2][0]).total_seconds() == 10
    assert len({number for _, number in last.values()}) == 3
    # Whatever was rebuilt saw the same again.
    assert len(set(seen)) == 3
    assert [each["attempt"] for each in events_of(handle, "run.retrying")] == [1, 2]


def test_the_last_try_fails_the_run(env: WorkflowEnv) -> None:
    @workflow(retries=SOON)
    async def flow() -> None:
        raise ValueError(f"try {info().attempt}")

    began = env.now
    handle = env.start(flow)

    with pytest.raises(WorkflowFailed, match="try 3"):
        handle.result()
    assert (env.now - began).total_seconds() == 20
    assert types_of(handle) == [
        "run.started",
        "run.retrying",
        "run.retried",
        "run.retrying",
        "run.retried",
        "run.failed",
    ]


def test_a_number_is_the_tries_after_the_first(env: WorkflowEnv) -> None:
    @workflow(retries=1)
    async def flow() -> None:
        raise ValueError("no")

    handle = env.start(flow)

    with pytest.raises(WorkflowFailed):
        handle.result()
    assert len(events_of(handle, "run.retrying")) == 1


class Declined(Exception):
    pass


class CardDeclined(Declined):
    pass


@pytest.mark.parametrize(
    ("policy", "error", "tries"),
    [
        (RetryPolicy(max_attempts=2, give_up_on=(Declined,)), CardDeclined("no"), 1),
        (RetryPolicy(max_attempts=2, give_up_on=(Declined,)), ValueError("no"), 2),
        (RetryPolicy(max_attempts=2, retry_on=(ConnectionError,)), ConnectionResetError("no"), 2),
        (RetryPolicy(max_attempts=2, retry_on=(ConnectionError,)), ValueError("no"), 1),
        (RetryPolicy(max_attempts=2), FatalError("no"), 1),
        (RetryPolicy(max_attempts=2, give_up_on=(Declined,)), ExceptionGroup("two", [CardDeclined("no")]), 1),
    ],
    ids=["give_up_on", "another", "retry_on", "not retry_on", "FatalError", "a group"],
)
def test_the_policy_says_which_errors_are_tried_again(
    env: WorkflowEnv, policy: RetryPolicy, error: Exception, tries: int
) -> None:
    @workflow(retries=policy)
    async def flow() -> None:
        raise error

    handle = env.start(flow)

    with pytest.raises(WorkflowFailed):
        handle.result()
    assert len(events_of(handle, "run.retrying")) == tries - 1


def test_the_policy_goes_by_the_error_of_a_step_as_well(env: WorkflowEnv) -> None:
    @step(retries=0)
    def charge(fatal: bool) -> None:
        raise FatalError("no") if fatal else CardDeclined("no")

    @workflow(retries=RetryPolicy(max_attempts=2, give_up_on=(CardDeclined,)))
    async def named() -> None:
        await charge(False)

    @workflow(retries=1)
    async def fatal() -> None:
        await charge(True)

    for flow in (named, fatal):
        handle = env.start(flow)
        with pytest.raises(WorkflowFailed):
            handle.result()
        assert not events_of(handle, "run.retrying")


def test_retry_after_is_obeyed(env: WorkflowEnv) -> None:
    @workflow(retries=1)
    async def flow() -> int:
        if info().attempt == 1:
            raise RetryableError("later", retry_after="1h")
        return info().attempt

    began = env.now

    assert env.run(flow) == 2
    assert (env.now - began).total_seconds() == 3600


def test_a_back_off_function_that_raises_ends_the_run_and_says_so(env: WorkflowEnv) -> None:
    def broken(_: int) -> str:
        raise KeyError("no pause")

    @workflow(retries=RetryPolicy(backoff=broken))
    async def flow() -> None:
        raise ValueError("no")

    with pytest.raises(WorkflowFailed, match="not tried again: the back-off function"):
        env.run(flow)


def test_what_was_undone_is_done_again(env: WorkflowEnv) -> None:
    told: list[str] = []

    @step
    def undo(result: str) -> None:
        told.append(f"undo {result}")

    @step(compensate=undo)
    def book() -> str:
        told.append("book")
        return "room"

    @step(retries=0)
    def pay() -> str:
        told.append("pay")
        if told.count("pay") == 1:
            raise ConnectionError("no line")
        return "paid"

    @workflow(retries=SOON)
    async def flow() -> str:
        await book()
        return await pay()

    assert env.run(flow) == "paid"
    assert told == ["book", "pay", "undo room", "book", "pay"]


def test_a_run_whose_steps_could_not_be_undone_is_for_a_person(env: WorkflowEnv) -> None:
    @step(retries=0)
    def undo(_: None) -> None:
        raise ValueError("cannot")

    @step(compensate=undo)
    def book() -> None: ...

    @workflow(retries=SOON)
    async def flow() -> None:
        await book()
        raise ValueError("no")

    handle = env.start(flow)

    with pytest.raises(WorkflowFailed, match="compensations failed"):
        handle.result()
    assert not events_of(handle, "run.retrying")


def test_what_is_under_way_when_it_fails_counts_no_more_and_is_done_again(env: WorkflowEnv) -> None:
    tries: list[str] = []

    @step(retries=0)
    def fail() -> str:
        tries.append("fail")
        if len(tries) == 1:
            raise ConnectionError("no line")
        return "did"

    @workflow(retries=SOON)
    async def flow() -> list[Any]:
        return list(await asyncio.gather(fail(), sleep("1h")))

    handle = env.start(flow)
    env.run_until_idle()
    assert [each.kind for each in handle.describe().open] == ["try"]
    began = env.now

    assert handle.result() == ["did", None]
    # The time of the timer stood still meanwhile.
    assert (env.now - began).total_seconds() == 3610


Stop = Callable[[Any], None]


@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
@pytest.mark.parametrize(
    ("verb", "error", "status"),
    [("cancel", WorkflowCancelled, "CANCELLED"), ("terminate", WorkflowTerminated, "TERMINATED")],
)
def test_a_run_that_waits_for_its_next_try_can_be_stopped(
    env: WorkflowEnv, verb: str, error: type[Exception], status: str, crashes: bool
) -> None:
    begun: list[int] = []

    @workflow(retries=SOON)
    async def flow() -> None:
        begun.append(info().attempt)
        raise ValueError("no")

    handle = env.start(flow)
    env.run_until_idle()
    if crashes:
        env.crash()
    getattr(handle, verb)()
    env.run_until_idle()

    with pytest.raises(error):
        handle.result()
    assert handle.describe().status == status
    env.advance("1h")
    assert set(begun) == {1}
    assert not env.database.reads.open_work(handle.run_id)
    assert not events_of(handle, "run.retried")


def test_a_run_that_was_cancelled_is_not_tried_again_whatever_its_code_raises(env: WorkflowEnv) -> None:
    @workflow(retries=SOON)
    async def flow() -> None:
        try:
            await sleep("1h")
        finally:
            raise ValueError("in the clean-up")

    handle = env.start(flow)
    env.run_until_idle()
    handle.cancel()

    with pytest.raises(WorkflowFailed):
        handle.result()
    assert not events_of(handle, "run.retrying")


@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_its_timeout_spans_all_tries(env: WorkflowEnv, crashes: bool) -> None:
    @workflow(timeout="25s", retries=RetryPolicy(max_attempts=100, backoff="fixed", initial="10s", jitter=False))
    async def flow() -> None:
        raise ValueError("no")

    began = env.now
    handle = env.start(flow)
    env.run_until_idle()
    if crashes:
        env.crash()

    with pytest.raises(WorkflowTimedOut):
        handle.result()
    assert (env.now - began).total_seconds() == 25
    assert len(events_of(handle, "run.retrying")) == 3


@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_paused_run_begins_no_try_until_it_is_resumed(env: WorkflowEnv, crashes: bool) -> None:
    @workflow(retries=SOON)
    async def flow() -> int:
        if info().attempt == 1:
            raise ValueError("no")
        return info().attempt

    handle = env.start(flow)
    env.run_until_idle()
    handle.pause()
    if crashes:
        env.crash()
    env.advance("1h")
    assert handle.describe().status == "PAUSED"
    assert not events_of(handle, "run.retried")

    handle.resume()

    assert handle.result() == 2


def test_a_person_begins_the_next_try_now_and_gives_all_tries_again(env: WorkflowEnv) -> None:
    @step(retries=0)
    def work() -> None:
        raise ValueError("no")

    @workflow(retries=SOON)
    async def flow() -> None:
        await work()

    handle = env.start(flow)
    env.run_until_idle()
    env.advance("10s")
    assert [each["attempt"] for each in events_of(handle, "run.retrying")] == [1, 2]

    handle.retry(by="ada")
    env.run_until_idle()
    with pytest.raises(WorkflowFailed):
        handle.result()

    retried = events_of(handle, "run.retried")
    assert [(each["attempt"], each.get("tries", 0), each.get("by")) for each in retried] == [
        (2, 1, None),
        (3, 0, "ada"),
        (4, 1, None),
        (5, 2, None),
    ]


def test_a_run_that_failed_for_good_has_all_tries_again_after_a_retry(env: WorkflowEnv) -> None:
    ran: list[str] = []

    @step(retries=0)
    def work() -> str:
        ran.append("ran")
        if len(ran) < 6:
            raise ValueError("no")
        return "done"

    @workflow(retries=SOON)
    async def flow() -> str:
        return await work()

    handle = env.start(flow)
    with pytest.raises(WorkflowFailed):
        handle.result()
    assert len(ran) == 3

    handle.retry()

    assert handle.result() == "done"
    assert len(ran) == 6


def test_a_reset_takes_it_from_its_next_try(env: WorkflowEnv) -> None:
    ran: list[str] = []

    @step(retries=0)
    def work() -> str:
        ran.append("ran")
        if len(ran) == 1:
            raise ValueError("no")
        return "done"

    @workflow(retries=SOON)
    async def flow() -> str:
        return await work()

    handle = env.start(flow)
    env.run_until_idle()
    handle.reset(1)

    assert handle.result() == "done"
    assert not env.database.reads.open_work(handle.run_id)


def test_code_that_looks_at_its_attempt_is_replayed_as_it_was(env: WorkflowEnv) -> None:
    told: list[str] = []

    @step
    def write_down(what: str) -> None:
        told.append(what)

    @step(retries=0)
    def work() -> str:
        if "try 2" not in told:
            told.append("failed")
            raise ConnectionError("no line")
        return "done"

    @workflow(retries=SOON)
    async def flow() -> str:
        await write_down(f"try {info().attempt}")
        try:
            return await work()
        except StepFailed:
            await write_down(f"try {info().attempt}, again")
            told.append("try 2") if len(told) < 4 else None
            raise

    handle = env.start(flow)
    env.run_until_idle()
    env.crash()
    env.advance("30s")

    assert handle.result() == "done"


def test_without_retries_a_run_that_fails_is_failed(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        raise ValueError("no")

    handle = env.start(flow)

    with pytest.raises(WorkflowFailed):
        handle.result()
    assert types_of(handle) == ["run.started", "run.failed"]


def test_a_start_that_was_put_off_is_not_put_off_again(env: WorkflowEnv) -> None:
    seen: list[datetime] = []

    @workflow(retries=SOON)
    async def flow() -> int:
        seen.append(now())
        if info().attempt == 1:
            raise ValueError("no")
        await sleep("1m")
        return info().attempt

    began = env.now
    handle = env.client.start(flow, delay="1h")

    assert handle.result() == 2
    assert (env.now - began).total_seconds() == 3600 + 10 + 60
    assert len(set(seen)) == 2


@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_child_that_failed_goes_on_and_its_sibling_is_kept(env: WorkflowEnv, crashes: bool) -> None:
    ran: list[str] = []

    @step(retries=0)
    def work(name: str) -> str:
        ran.append(name)
        if name == "bad" and ran.count("bad") == 1:
            raise ConnectionError("no line")
        return name

    @workflow
    async def part(name: str) -> str:
        return await work(name)

    @workflow(retries=SOON)
    async def whole() -> list[str]:
        return list(await asyncio.gather(child(part, "good"), child(part, "bad")))

    handle = env.start(whole)
    env.run_until_idle()
    if crashes:
        env.crash()

    assert handle.result() == ["good", "bad"]
    assert ran.count("good") == 1
    assert not env.database.reads.open_work(handle.run_id)


def test_a_parent_hears_of_the_last_try_of_its_child_only(env: WorkflowEnv) -> None:
    @workflow(retries=SOON)
    async def part() -> int:
        if info().attempt < 3:
            raise ValueError("no")
        return info().attempt

    @workflow
    async def whole() -> int:
        return await child(part)

    handle = env.start(whole)

    assert handle.result() == 3
    assert [each["status"] for each in events_of(handle, "child.closed")] == ["COMPLETED"]
