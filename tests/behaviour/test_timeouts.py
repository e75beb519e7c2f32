"""When the time of a step is over: which limit counts from when, and what follows."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from threading import Event
from typing import Any

import pytest

from dramaturg import PayloadError, RetryPolicy, StepTimeout, Workflow, WorkflowFailed, current_step, step, workflow
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.records import Lease, WorkItem
from tests.behaviour.histories import events_of

pytestmark = pytest.mark.behaviour


class Held:
    """A publisher that keeps messages back until they are let go: a backlog."""

    def __init__(self) -> None:
        self.items: list[WorkItem] = []
        self._inner: Any = None
        self._lease: Lease | None = None
        self.holds = True

    def around(self, publisher: Any) -> Any:
        self._inner = publisher
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def publish(self, work: Sequence[WorkItem], lease: Lease) -> None:
        self._lease = lease
        if self.holds:
            self.items += work
        else:
            self._inner.publish(work, lease)

    def missing(self, work: Sequence[WorkItem], lease: Lease) -> Sequence[WorkItem]:
        return ()

    def let_go(self) -> None:
        self.holds = False
        items, self.items = self.items, []
        assert self._lease is not None
        self._inner.publish(items, self._lease)


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def backlog(make_env: Callable[..., WorkflowEnv], held: Held) -> Generator[WorkflowEnv, None, None]:
    """An engine whose messages reach no worker until they are let go."""
    with make_env(wrap={"publisher": held.around}) as env:
        yield env


def pass_time(env: WorkflowEnv, seconds: float) -> None:
    """Let time pass, and what is due happen, without waiting for a worker."""
    while env.turn():
        pass
    until = env.now.timestamp() + seconds
    while env.now.timestamp() < until:
        env.clock.set(env.now.fromtimestamp(min(until, env.now.timestamp() + 1.0), env.now.tzinfo))
        while env.turn():
            pass


def one_minute_to_be_picked_up() -> tuple[Workflow[[], str], list[int]]:
    """A workflow that says why its step did not run, and what the step notes when it does."""
    ran: list[int] = []

    @step(queue_timeout="1m")
    def work() -> None:
        ran.append(1)

    @workflow
    async def flow() -> str:
        try:
            await work()
        except StepTimeout as error:
            return error.message
        return "it ran"

    return flow, ran


def test_a_backlog_of_ten_minutes_times_out_no_step_that_was_not_begun(backlog: WorkflowEnv, held: Held) -> None:
    @step(timeout="30s")
    def work() -> str:
        return "done"

    @workflow
    async def flow() -> str:
        return await work()

    handle = backlog.start(flow)
    pass_time(backlog, 600)
    assert not events_of(handle, "step.retrying")

    held.let_go()

    assert handle.result() == "done"
    assert not events_of(handle, "step.timed_out")


def test_a_step_that_nobody_picks_up_within_its_queue_timeout_fails_and_never_runs(
    backlog: WorkflowEnv, held: Held
) -> None:
    flow, ran = one_minute_to_be_picked_up()

    handle = backlog.start(flow)
    pass_time(backlog, 59)
    assert handle.describe().status == "RUNNING"
    pass_time(backlog, 2)

    assert "not picked up within its queue_timeout of 60 s" in handle.result()
    (timed_out,) = events_of(handle, "step.timed_out")
    assert timed_out["limit"] == "queue_timeout"
    held.let_go()
    backlog.run_until_idle()
    assert not ran


def test_a_worker_drops_what_it_picks_up_too_late_and_says_so(
    backlog: WorkflowEnv, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    flow, ran = one_minute_to_be_picked_up()

    handle = backlog.start(flow)
    while backlog.turn():
        pass
    # The coordinator is away; the worker is not.
    backlog.clock.set(backlog.now.fromtimestamp(backlog.now.timestamp() + 61, backlog.now.tzinfo))
    held.let_go()
    deadline = time.monotonic() + 60
    while "its time to begin was over" not in caplog.text and time.monotonic() < deadline:
        Event().wait(0.01)

    assert "its time to begin was over" in caplog.text
    assert "queue_timeout of 60 s" in handle.result()
    assert not ran


def test_the_whole_time_of_a_step_counts_its_retries_and_ends_them(env: WorkflowEnv) -> None:
    @step(total_timeout="1m", retries=RetryPolicy(max_attempts=100, backoff="fixed", initial="25s", jitter=False))
    def work() -> None:
        raise ValueError("no")

    @workflow
    async def flow() -> str:
        try:
            await work()
        except StepTimeout as error:
            return error.message
        return "it ended otherwise"

    began = env.now
    handle = env.start(flow)

    message = handle.result()
    assert "total_timeout" in message
    assert "last error: ValueError: no" in message
    assert (env.now - began).total_seconds() == 60
    assert len(events_of(handle, "step.retrying")) == 3
    (timed_out,) = events_of(handle, "step.timed_out")
    assert (timed_out["limit"], timed_out["attempt"]) == ("total_timeout", 4)


def test_the_whole_time_goes_on_in_a_backlog(backlog: WorkflowEnv) -> None:
    @step(total_timeout="1m")
    def work() -> None: ...

    @workflow
    async def flow() -> str:
        try:
            await work()
        except StepTimeout:
            return "timed out"
        return "it ended otherwise"

    handle = backlog.start(flow)
    pass_time(backlog, 61)

    assert handle.result() == "timed out"


def test_a_step_that_takes_longer_than_its_whole_time_is_stopped_on_its_worker(env: WorkflowEnv) -> None:
    @step(total_timeout=0.2)
    def work() -> None:
        while True:
            Event().wait(0.01)

    @workflow
    async def flow() -> None:
        await work()

    with pytest.raises(WorkflowFailed, match="StepTimeout"):
        env.run(flow)


def test_a_step_without_heartbeats_for_too_long_is_stopped_and_tried_again_from_where_it_was(
    env: WorkflowEnv,
) -> None:
    seen: list[tuple[Any, ...]] = []

    @step(heartbeat_timeout=0.5, retries=RetryPolicy(max_attempts=2, initial="1s"))
    def work() -> str:
        context = current_step()
        assert context is not None
        seen.append(context.last_heartbeat)
        if context.attempt == 2:
            return "done"
        context.heartbeat("page", 7)
        while True:
            Event().wait(0.01)

    @workflow
    async def flow() -> str:
        return await work()

    handle = env.start(flow)

    assert handle.result() == "done"
    assert seen == [(), ("page", 7)]
    (retrying,) = events_of(handle, "step.retrying")
    assert retrying["reason"] == "timeout"
    assert "gave no heartbeat for 0.5 s" in retrying["error"]["message"]


@pytest.mark.selection
@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_the_last_heartbeat_reaches_the_next_attempt(env: WorkflowEnv, crashes: bool) -> None:
    seen: list[tuple[Any, ...]] = []

    @step(retries=RetryPolicy(max_attempts=3, initial="10s", jitter=False))
    def work() -> str:
        context = current_step()
        assert context is not None
        seen.append(context.last_heartbeat)
        if context.attempt == 1:
            for page in range(100):
                context.heartbeat({"page": page})
            context.heartbeat()
        if context.attempt < 3:
            raise ValueError("again")
        return "done"

    @workflow
    async def flow() -> str:
        return await work()

    handle = env.start(flow)
    env.run_until_idle()
    if crashes:
        env.crash()

    assert handle.result() == "done"
    assert seen == [(), ({"page": 99},), ({"page": 99},)]
    assert "heartbeat" not in {event.type for event in handle.events()}


def test_details_that_cannot_be_encoded_fail_where_they_are_passed(env: WorkflowEnv) -> None:
    @step(retries=0)
    def work() -> str:
        context = current_step()
        assert context is not None
        with pytest.raises(PayloadError, match="heartbeat of step 'work'"):
            context.heartbeat(object())
        return "it went on"

    @workflow
    async def flow() -> str:
        return await work()

    assert env.run(flow) == "it went on"


def test_a_step_that_takes_long_is_shown_with_its_worker_its_progress_and_its_start(env: WorkflowEnv) -> None:
    goes_on = Event()

    @step
    def work() -> str:
        context = current_step()
        assert context is not None
        context.progress(3, 10, "reading")
        context.heartbeat("row", 3)
        goes_on.wait(60)
        return "done"

    @workflow
    async def flow() -> str:
        return await work()

    handle = env.start(flow)
    item = _wait_for_progress(env, handle)

    assert (item.status, item.worker) == ("STARTED", "test-worker")
    assert item.started_at is not None
    assert item.started_at < env.now
    assert (item.progress.done, item.progress.total, item.progress.note) == (3.0, 10.0, "reading")
    assert item.heartbeat.details == ["row", 3]
    assert "3 of 10 done (reading)" in handle.describe().waiting_for
    (started,) = events_of(handle, "step.started")
    assert started["seconds"] >= 2.0
    goes_on.set()
    assert handle.result() == "done"


def test_a_short_step_is_not_told_of_before_its_end(env: WorkflowEnv) -> None:
    @step(total_timeout="1m")
    def work() -> None:
        context = current_step()
        assert context is not None
        context.progress(1, 2)

    @workflow
    async def flow() -> None:
        await work()

    handle = env.start(flow)
    handle.result()

    assert not events_of(handle, "step.started")


@pytest.mark.parametrize("option", ["timeout", "queue_timeout", "heartbeat_timeout"])
def test_a_step_whose_time_counts_from_its_pick_up_is_told_of_at_once(env: WorkflowEnv, option: str) -> None:
    options: dict[str, Any] = {option: "1m"}

    @step(**options)
    def work() -> None: ...

    @workflow
    async def flow() -> None:
        await work()

    handle = env.start(flow)
    handle.result()

    (started,) = events_of(handle, "step.started")
    assert started["worker"] == "test-worker"


def _wait_for_progress(env: WorkflowEnv, handle: Any) -> Any:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        env.turn()
        items = handle.describe().open
        if items and items[0].progress is not None and items[0].status == "STARTED":
            return items[0]
        Event().wait(0.02)
    raise AssertionError("the step was never shown with its progress")
