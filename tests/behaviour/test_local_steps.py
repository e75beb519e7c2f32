"""Local steps: the coordinator runs them itself, and what a user sees is what he sees of any step."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ByteSize

from dramaturg import (
    FatalError,
    PayloadError,
    RetryableError,
    RetryPolicy,
    Settings,
    StepCancelled,
    StepFailed,
    StepTimeout,
    WorkflowCancelled,
    WorkflowFailed,
    current_step,
    lifespan,
    now,
    random,
    side_effect,
    sleep,
    step,
    uuid4,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of, types_of

WAIT = 60.0


def test_a_chain_is_recorded_like_any_other_and_no_message_is_sent(make_env: Callable[..., WorkflowEnv]) -> None:
    sent: list[int] = []

    class Counting:
        def __init__(self, port: Any) -> None:
            self._port = port

        def publish(self, work: Any, lease: Any) -> None:
            sent.append(len(work))
            self._port.publish(work, lease)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._port, name)

    @step(local=True)
    def add(left: int, right: int) -> int:
        return left + right

    @workflow
    async def flow() -> int:
        value = 0
        for number in range(10):
            value = await add(value, right=number)
        return value

    with make_env(wrap={"publisher": Counting}) as env:
        handle = env.start(flow)

        assert handle.result() == 45
        assert types_of(handle) == [
            "run.started",
            *["step.scheduled", "step.completed"] * 10,
            "run.completed",
        ]
        assert sum(sent) == 0
        first = events_of(handle, "step.completed")[0]
        assert first["result"] == 0
        assert first["worker"].startswith("local ")
        assert first["seconds"] >= 0


def test_a_call_may_be_local_or_not_whatever_the_step_declares(env: WorkflowEnv) -> None:
    @step(local=True)
    def here() -> str:
        return threading.current_thread().name

    @step
    def there() -> str:
        return threading.current_thread().name

    @workflow
    async def flow() -> list[str]:
        return [await here(), await here.options(local=False)(), await there(), await there.options(local=True)()]

    is_local = [name.startswith("dramaturg-local") for name in env.run(flow)]

    assert is_local == [True, False, False, True]


def test_the_project_may_make_its_steps_local(make_env: Callable[..., WorkflowEnv]) -> None:
    @step
    def where() -> str:
        return threading.current_thread().name

    @workflow
    async def flow() -> str:
        return await where()

    with make_env(settings=Settings(step={"local": True})) as env:
        assert env.run(flow).startswith("dramaturg-local")


def test_async_ones_share_one_event_loop_and_run_side_by_side(env: WorkflowEnv) -> None:
    meeting: list[asyncio.Barrier] = []

    @step(local=True)
    async def meet(number: int) -> int:
        if not meeting:
            meeting.append(asyncio.Barrier(20))
        await meeting[0].wait()
        return number

    @workflow
    async def flow() -> list[int]:
        return await asyncio.gather(*[meet(number) for number in range(20)])

    assert env.run(flow) == list(range(20))


def test_what_the_step_knows_of_itself_is_what_a_worker_tells(env: WorkflowEnv) -> None:
    @lifespan
    def tools() -> Any:
        yield {"tool": "hammer"}

    env.restart()

    @step(local=True, retries=3)
    def look() -> tuple[Any, ...]:
        me = current_step()
        assert me is not None
        return (me.name, me.seq, me.attempt, me.max_attempts, me.idempotency_key, me.state["tool"], me.stopping)

    @step(local=True)
    async def look_async() -> tuple[Any, ...]:
        me = current_step()
        assert me is not None
        return (me.name, me.seq, me.state["tool"])

    @workflow
    async def flow() -> list[Any]:
        return [await look(), await look_async()]

    handle = env.start(flow)

    assert handle.result() == [
        ("look", 1, 1, 4, f"{handle.run_id}:1:1", "hammer", False),
        ("look_async", 2, "hammer"),
    ]


def test_one_that_fails_is_tried_again_by_its_policy_and_the_pauses_are_timers(env: WorkflowEnv) -> None:
    attempts: list[int] = []

    @step(local=True, retries=RetryPolicy(max_attempts=5, backoff="fixed", initial="4m", jitter=False))
    def flaky() -> str:
        me = current_step()
        assert me is not None
        attempts.append(me.attempt)
        if me.attempt == 1:
            raise ValueError("not yet")
        if me.attempt == 2:
            raise RetryableError("in an hour", retry_after="1h")
        return "done"

    @workflow
    async def flow() -> str:
        return await flaky()

    handle = env.start(flow)
    begin = env.now

    assert handle.result() == "done"
    assert attempts == [1, 2, 3]
    assert (env.now - begin).total_seconds() == 240 + 3600
    retries = events_of(handle, "step.retrying")
    assert [event["error"]["type"] for event in retries] == [
        "ValueError",
        "dramaturg_protocol.errors.RetryableError",
    ]


@pytest.mark.parametrize("is_async", [False, True])
def test_one_that_gives_up_raises_in_the_workflow(env: WorkflowEnv, is_async: bool) -> None:
    def fail() -> None:
        raise KeyError("gone")

    async def fail_async() -> None:
        raise KeyError("gone")

    failing = step(name="failing", local=True, retries=1)(fail_async if is_async else fail)

    @step(local=True)
    def fatal() -> None:
        raise FatalError("no use")

    @workflow
    async def flow() -> list[Any]:
        seen: list[Any] = []
        for each in (failing, fatal):
            try:
                await each()
            except StepFailed as error:
                seen.append((error.step, error.attempts, error.error_type, "in fa" in error.traceback))
        return seen

    assert env.run(flow) == [
        ("failing", 2, "KeyError", True),
        ("fatal", 1, "dramaturg_protocol.errors.FatalError", True),
    ]


def test_arguments_and_results_are_checked_and_bounded(make_env: Callable[..., WorkflowEnv]) -> None:
    @step(local=True)
    def grow(size: int) -> str:
        return "x" * size

    @step(local=True)
    def strange() -> object:
        return object()

    @workflow
    async def flow() -> list[str]:
        seen: list[str] = []
        try:
            await grow("not a number")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        except PayloadError:
            seen.append("argument")
        for call in (grow(5000), strange()):
            try:
                await call
            except StepFailed as error:
                seen.append(f"{error.error_type} {error.attempts}")
        return seen

    with make_env(settings=Settings(max_payload=ByteSize(2000))) as env:
        assert env.run(flow) == ["argument", *["dramaturg_protocol.errors.PayloadError 1"] * 2]


@pytest.mark.parametrize("is_async", [False, True])
def test_one_that_takes_longer_than_its_timeout_is_interrupted(env: WorkflowEnv, is_async: bool) -> None:
    never = threading.Event()

    def slow() -> None:
        while not never.wait(0.005):
            pass

    async def slow_async() -> None:
        await asyncio.Event().wait()

    slow_step = step(name="slow", local=True, timeout=0.05, retries=1)(slow_async if is_async else slow)

    @workflow
    async def flow() -> str:
        try:
            await slow_step()
        except StepTimeout as error:
            return f"{error.step} {error.attempts}"
        return "it ended"

    handle = env.start(flow)

    assert handle.result() == "slow 2"
    assert [event["reason"] for event in events_of(handle, "step.retrying")] == ["timeout"]


def test_one_that_nobody_waits_for_any_more_is_interrupted(env: WorkflowEnv) -> None:
    never, began, interrupted = threading.Event(), threading.Event(), threading.Event()

    @step(local=True)
    def slow() -> None:
        began.set()
        try:
            while not never.wait(0.005):
                pass
        except StepCancelled:
            interrupted.set()
            raise

    @workflow
    async def flow() -> str:
        try:
            await asyncio.wait_for(slow(), 60)
        except TimeoutError:
            return "gave up"
        return "it ended"

    handle = env.start(flow)
    while not began.is_set():
        env.turn()
    env.clock.set(env.now.replace(minute=5))
    while not handle.describe().closed_at:
        env.turn()

    assert handle.result() == "gave up"
    assert interrupted.wait(WAIT)


@pytest.mark.parametrize("verb", ["cancel", "terminate"])
def test_a_run_that_is_stopped_interrupts_what_it_has_under_way(env: WorkflowEnv, verb: str) -> None:
    began, interrupted = threading.Event(), threading.Event()

    @step(local=True)
    async def slow() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            interrupted.set()

    @workflow
    async def flow() -> None:
        await slow()

    handle = env.start(flow)
    while not began.is_set():
        env.turn()
    assert handle.describe().status == "RUNNING"
    getattr(handle, verb)()

    assert interrupted.wait(WAIT)
    if verb == "cancel":
        with pytest.raises(WorkflowCancelled):
            handle.result()


def test_they_mix_with_steps_of_workers_timers_and_asyncio(env: WorkflowEnv) -> None:
    @step(local=True)
    def here(value: int) -> int:
        return value * 10

    @step
    def there(value: int) -> int:
        return value + 1

    @workflow
    async def flow() -> list[int]:
        async def both(value: int) -> int:
            for _ in range(3):
                value = await there(await here(value))
            await sleep(value % 7)
            return await here(value)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(both(number)) for number in range(5)]
        return [task.result() for task in tasks]

    handle = env.start(flow)

    assert handle.result() == [(number * 1000 + 111) * 10 for number in range(5)]
    assert len(events_of(handle, "step.completed")) == 5 * 7


def test_fifty_at_once_are_joined_in_order(env: WorkflowEnv) -> None:
    @step(local=True)
    def square(value: int) -> int:
        return value * value

    @workflow
    async def flow() -> list[int]:
        return await asyncio.gather(*[square(number) for number in range(50)])

    assert env.run(flow) == [number * number for number in range(50)]


def test_a_long_chain_holds_up_nobody_else(env: WorkflowEnv) -> None:
    @step(local=True)
    def count(value: int) -> int:
        return value + 1

    @workflow
    async def long(length: int) -> int:
        value = 0
        while value < length:
            value = await count(value)
        return value

    @workflow
    async def short() -> int:
        return await count(0)

    one = env.start(long, 2000)
    env.turn()
    assert one.describe().status == "RUNNING"
    other = env.start(short)

    assert other.result() == 1
    assert one.describe().status == "RUNNING"
    assert one.result() == 2000
    assert len(events_of(one, "step.completed")) == 2000


def test_a_slow_one_leaves_the_turn_and_others_go_on(env: WorkflowEnv) -> None:
    may_end = threading.Event()

    @step(local=True)
    def slow() -> str:
        assert may_end.wait(WAIT)
        return "slow"

    @step(local=True)
    def quick() -> str:
        return "quick"

    @workflow
    async def with_slow() -> str:
        return await slow()

    @workflow
    async def with_quick() -> str:
        return await quick()

    first = env.start(with_slow)
    env.turn()
    assert first.describe().status == "RUNNING"
    assert [event.type for event in first.events()] == ["run.started", "step.scheduled"]

    assert env.run(with_quick) == "quick"

    may_end.set()
    assert first.result() == "slow"


def test_what_was_committed_does_not_run_again_after_a_crash_and_what_was_open_does(env: WorkflowEnv) -> None:
    ran: list[str] = []
    lets_go = threading.Event()

    @step(local=True)
    def work(name: str) -> str:
        ran.append(name)
        if name == "c" and ran.count("c") == 1:
            lets_go.wait(WAIT)
        return name.upper()

    @workflow
    async def flow() -> str:
        return "".join([await work("a"), await work("b"), await work("c"), await work("d")])

    handle = env.start(flow)
    while "c" not in ran:
        env.turn()
    env.turn()
    assert [event["result"] for event in events_of(handle, "step.completed")] == ["A", "B"]
    env.crash()
    lets_go.set()

    assert handle.result() == "ABCD"
    assert ran == ["a", "b", "c", "c", "d"]


def test_an_attempt_that_a_crash_cut_off_has_all_of_its_time_again(env: WorkflowEnv) -> None:
    began = threading.Event()
    may_end = threading.Event()

    @step(local=True, timeout="1h", retries=0)
    def slow() -> str:
        began.set()
        assert may_end.wait(WAIT)
        return "done"

    @workflow
    async def flow() -> str:
        return await slow()

    handle = env.start(flow)
    while not (began.is_set() and events_of(handle, "step.started")):
        env.turn()
    env.clock.set(env.now.replace(minute=55))
    began.clear()
    may_end.set()
    env.crash()
    may_end.clear()
    while not (began.is_set() and len(events_of(handle, "step.started")) == 2):
        env.turn()
        if events_of(handle, "step.completed"):
            break
    env.clock.set(env.now.replace(hour=1, minute=10))
    may_end.set()

    assert handle.result() == "done"
    assert not events_of(handle, "step.retrying")


def test_a_value_of_a_side_effect_is_committed_before_the_next_one_begins(env: WorkflowEnv) -> None:
    recorded: list[list[Any]] = []
    drawn = iter(range(100))

    @step(local=True)
    def use(value: int) -> int:
        recorded.append([event.data["value"] for event in handles[0].events() if event.type == "marker.recorded"])
        return value

    @workflow
    async def flow() -> list[int]:
        return [await use(side_effect(lambda: next(drawn))) for _ in range(3)]

    handles = [env.start(flow)]

    assert handles[0].result() == [0, 1, 2]
    assert recorded == [[0], [0, 1], [0, 1, 2]]


def test_derived_values_are_the_same_when_a_turn_is_repeated(make_env: Callable[..., WorkflowEnv]) -> None:
    calls: list[tuple[str, str, float]] = []
    fails = [True]

    class Forgetful:
        def __init__(self, port: Any) -> None:
            self._port = port

        def commit(self, *args: Any) -> None:
            if len(calls) >= 3 and fails:
                fails.clear()
                raise RuntimeError("the process dies here")
            self._port.commit(*args)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._port, name)

    @step(local=True)
    def use(key: str, chance: float) -> None:
        me = current_step()
        assert me is not None
        calls.append((me.idempotency_key, key, chance))

    @workflow
    async def flow() -> None:
        for _ in range(3):
            await use(str(uuid4()), random().random())

    with make_env(wrap={"store": Forgetful}) as env:
        handle = env.start(flow)
        with pytest.raises(RuntimeError, match="dies here"):
            _turn_for_ever(env)
        env.crash()

        assert handle.result() is None
        assert len(calls) > 3
        assert len(set(calls)) == 3


def test_time_goes_on_between_them(env: WorkflowEnv) -> None:
    @step(local=True)
    def tick() -> None: ...

    @workflow
    async def flow() -> list[float]:
        begin = now()
        await tick()
        await sleep(5)
        await tick()
        return [(now() - begin).total_seconds()]

    assert env.run(flow) == [5.0]


def test_one_without_code_here_says_so(env: WorkflowEnv) -> None:
    from dramaturg import step_ref

    elsewhere = step_ref("elsewhere", local=True)

    @workflow
    async def flow() -> None:
        await elsewhere()

    with pytest.raises(WorkflowFailed, match="elsewhere"):
        env.run(flow)


def test_a_run_of_one_local_step_needs_no_workflow(env: WorkflowEnv) -> None:
    @step(local=True)
    def double(value: int) -> int:
        return value * 2

    assert env.run(double, 21) == 42


def test_runs_that_are_evicted_while_one_is_under_way_go_on(env: WorkflowEnv) -> None:
    may_end = threading.Event()

    @step(local=True)
    def slow(number: int) -> int:
        assert may_end.wait(WAIT)
        return number

    @workflow
    async def flow(number: int) -> int:
        return await slow(number)

    handles = [env.start(flow, number) for number in range(3)]
    env.turn()
    env._coordinator._held().forget()  # pyright: ignore[reportPrivateUsage]
    may_end.set()

    assert [handle.result() for handle in handles] == [0, 1, 2]


def _turn_for_ever(env: WorkflowEnv) -> None:
    while True:
        env.turn()
