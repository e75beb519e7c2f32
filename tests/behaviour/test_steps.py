"""Steps as a workflow sees them: told apart by position, recorded once, failing as `StepFailed`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import pytest

from dramaturg import (
    FatalError,
    PayloadError,
    Settings,
    Step,
    StepContext,
    StepFailed,
    StepTimeout,
    WorkflowFailed,
    current_step,
    lifespan,
    sleep,
    step,
    step_ref,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of, types_of


def test_the_same_step_with_equal_arguments_runs_as_often_as_it_is_called(env: WorkflowEnv) -> None:
    ran: list[str] = []

    @step
    def send(text: str) -> int:
        ran.append(text)
        return len(ran)

    @workflow
    async def flow() -> list[int]:
        return [await send("x"), await send("x"), await send("x")]

    assert env.run(flow) == [1, 2, 3]


@pytest.mark.selection
def test_a_step_that_succeeded_never_runs_again(env: WorkflowEnv) -> None:
    ran: list[int] = []

    @step
    def once(number: int) -> None:
        ran.append(number)

    @workflow
    async def flow() -> None:
        for number in range(3):
            await once(number)
            await sleep(1)

    handle = env.start(flow)
    for _ in range(3):
        env.run_until_idle()
        env.crash()
        env.advance(1)
    handle.result()

    assert ran == [0, 1, 2]


@pytest.mark.selection
def test_async_steps_and_plain_ones_give_their_results(env: WorkflowEnv) -> None:
    @step
    async def later(number: int) -> int:
        await asyncio.sleep(0)
        return number

    @step
    def now(number: int) -> int:
        return number

    @workflow
    async def flow() -> int:
        return await later(1) + await now(2)

    assert env.run(flow) == 3


def test_a_failed_step_raises_all_that_is_known_of_it(env: WorkflowEnv) -> None:
    class OutOfStock(Exception):
        pass

    @step(retries=1)
    def reserve() -> None:
        raise OutOfStock("none left")

    @workflow
    async def flow() -> dict[str, Any]:
        try:
            await reserve()
        except StepFailed as error:
            await sleep(1)
            return {
                "step": error.step,
                "attempts": error.attempts,
                "type": error.error_type,
                "message": error.message,
                "traceback": "raise OutOfStock" in error.traceback,
                "text": str(error).removeprefix("step 'reserve' failed"),
            }
        return {}

    handle = env.start(flow)
    env.run_until_idle()
    env.crash()

    kind = f"{__name__}.test_a_failed_step_raises_all_that_is_known_of_it.<locals>.OutOfStock"
    assert handle.result() == {
        "step": "reserve",
        "attempts": 2,
        "type": kind,
        "message": "none left",
        "traceback": True,
        "text": f" after 2 attempts: {kind}: none left",
    }


def test_a_failure_that_the_workflow_lets_pass_fails_the_run_with_its_positions(env: WorkflowEnv) -> None:
    @step(retries=0)
    def fail(text: str) -> None:
        raise ValueError(text)

    @workflow
    async def flow() -> None:
        try:
            await fail("first")
        except StepFailed:
            await fail("second")

    handle = env.start(flow)

    with pytest.raises(WorkflowFailed) as caught:
        handle.result()
    assert caught.value.error_type == "dramaturg_protocol.errors.StepFailed"
    assert "second" in caught.value.message
    assert events_of(handle, "run.failed")[0]["positions"] == [1, 2]


@pytest.mark.selection
def test_an_error_may_hold_any_text(env: WorkflowEnv) -> None:
    @step(retries=0)
    def fail() -> None:
        raise ValueError("NUL \x00, half a pair \ud83d, and ünïcödé 🎭")

    @workflow
    async def flow() -> None:
        await fail()

    @workflow
    async def own() -> None:
        raise ValueError("NUL \x00, half a pair \ud83d, and ünïcödé 🎭" + "x" * 100_000)

    for wf in (flow, own):
        handle = env.start(wf)
        with pytest.raises(WorkflowFailed) as caught:
            handle.result()
        assert "NUL \x00, half a pair \\ud83d, and ünïcödé 🎭" in caught.value.message
        assert len(caught.value.message) < 10_000
        assert types_of(handle)[-1] == "run.failed"


def test_an_error_whose_text_cannot_be_read_is_recorded_all_the_same(env: WorkflowEnv) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    @workflow
    async def flow() -> None:
        raise Mute

    with pytest.raises(WorkflowFailed, match="its message cannot be read: RuntimeError"):
        env.run(flow)


@pytest.mark.selection
def test_a_step_that_takes_too_long_is_a_timeout(env: WorkflowEnv) -> None:
    release = threading.Event()

    @step(timeout="50ms", retries=0)
    async def slow() -> None:
        await asyncio.get_running_loop().create_future()

    @workflow
    async def flow() -> list[Any]:
        try:
            await slow()
        except TimeoutError as error:
            return [isinstance(error, StepTimeout), isinstance(error, StepFailed), str(error)]
        return []

    handle = env.start(flow)

    is_timeout, is_failure, text = handle.result()
    release.set()
    assert is_timeout
    assert is_failure
    assert "took longer than 0.05 s" in text
    assert types_of(handle)[-2:] == ["step.timed_out", "run.completed"]


@pytest.mark.parametrize(("retry_on_timeout", "attempts"), [(True, 3), (False, 1)])
def test_a_timeout_is_retried_unless_it_is_not_to_be(env: WorkflowEnv, retry_on_timeout: bool, attempts: int) -> None:
    @step(timeout="20ms", retries=2, retry_on_timeout=retry_on_timeout)
    async def slow() -> None:
        await asyncio.get_running_loop().create_future()

    @workflow
    async def flow() -> int:
        try:
            await slow()
        except StepTimeout as error:
            return error.attempts
        return 0

    assert env.run(flow) == attempts


@pytest.mark.selection
def test_a_step_that_no_worker_knows_fails(env: WorkflowEnv) -> None:
    embed = step_ref("somewhere_else")

    @workflow
    async def flow() -> list[str]:
        try:
            await embed("text")
        except StepFailed as error:
            return [error.error_type, error.message]
        return []

    kind, message = env.run(flow)
    assert kind.endswith("UnknownStep")
    assert "somewhere_else" in message


def test_a_typed_reference_checks_its_arguments(env: WorkflowEnv) -> None:
    @step_ref(queue="gpu")
    def embed(text: str) -> list[float]:
        raise NotImplementedError

    @workflow
    async def flow() -> list[float]:
        return await embed("text", 2)  # type: ignore[call-arg]

    handle = env.start(flow)

    with pytest.raises(WorkflowFailed, match="too many positional arguments"):
        handle.result()
    with pytest.raises(TypeError, match="known by its name only"):
        _ = embed.fn


def test_a_reference_finds_the_step_that_another_module_defines(env: WorkflowEnv) -> None:
    reference = step_ref("shout")

    @step
    def shout(text: str) -> str:
        return text.upper()

    @workflow
    async def flow() -> str:
        return str(await reference("hey"))

    assert shout.name == "shout"
    assert env.run(flow) == "HEY"


def test_wrong_arguments_are_an_error_at_the_call(env: WorkflowEnv) -> None:
    @step
    def charge(order: str) -> None: ...

    @workflow
    async def flow() -> list[str]:
        messages: list[str] = []
        for args, kwargs in ((), {}), (("a", "b"), {}), (("a",), {"other": 1}):
            try:
                await cast("Any", charge)(*args, **kwargs)
            except TypeError as error:
                messages.append(str(error))
        return messages

    missing, many, unknown = env.run(flow)
    assert "step 'charge': missing a required argument: 'order'" in missing
    assert "too many" in many
    assert "other" in unknown


def test_an_argument_that_cannot_be_encoded_is_an_error_at_the_call(env: WorkflowEnv) -> None:
    @step
    def keep(value: Any) -> None: ...

    @workflow
    async def flow() -> list[str]:
        messages: list[str] = []
        for value in (object(), lambda: None, b"x" * 50_000_000):
            try:
                await keep(value)
            except PayloadError as error:
                messages.append(str(error))
        return messages

    handle = env.start(flow)

    messages = handle.result()
    assert "argument 'value' of step 'keep'" in messages[0]
    assert "more than the limit of 4,194,304" in messages[2]
    assert events_of(handle, "step.scheduled") == []


@pytest.mark.selection
def test_the_largest_payload_can_be_set(make_env: Callable[..., WorkflowEnv]) -> None:
    @step
    def echo(text: str) -> str:
        return text * 2

    @workflow
    async def flow() -> str:
        with pytest.raises(PayloadError):
            await echo("x" * 2000)
        try:
            await echo("x" * 900)
        except StepFailed as error:
            return f"{error.attempts} {error.error_type}"
        return "it went through"

    with make_env(settings=Settings(max_payload=1000)) as env:  # type: ignore[arg-type]
        assert env.run(flow) == "1 dramaturg_protocol.errors.PayloadError"


def test_a_result_that_cannot_be_encoded_fails_the_step_without_a_retry(env: WorkflowEnv) -> None:
    @step
    def broken() -> Any:
        return object()

    @workflow
    async def flow() -> list[Any]:
        try:
            await broken()
        except StepFailed as error:
            return [error.attempts, error.error_type, error.message]
        return []

    attempts, kind, message = env.run(flow)
    assert (attempts, kind) == (1, "dramaturg_protocol.errors.PayloadError")
    assert "the result of step 'broken'" in message


def test_a_workflow_result_that_cannot_be_encoded_fails_the_run(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> Any:
        return object()

    with pytest.raises(WorkflowFailed, match="the result of workflow 'flow'"):
        env.run(flow)


def test_a_step_call_that_nobody_awaits_warns(env: WorkflowEnv) -> None:
    @step
    def forgotten() -> None: ...

    @workflow
    async def flow() -> None:
        forgotten()  # type: ignore[unused-coroutine]

    handle = env.start(flow)

    with pytest.warns(RuntimeWarning, match="call of step 'forgotten' was never awaited"):
        handle.result()
    assert events_of(handle, "step.scheduled") == []


def test_a_step_call_can_be_awaited_once(env: WorkflowEnv) -> None:
    @step
    def work() -> int:
        return 1

    @workflow
    async def flow() -> str:
        call = work()
        await call
        try:
            await call
        except RuntimeError as error:
            return str(error)
        return "twice"

    handle = env.start(flow)

    assert handle.result() == "cannot await the same call of step 'work' twice"
    assert len(events_of(handle, "step.scheduled")) == 1


def test_outside_a_workflow_a_step_just_runs() -> None:
    @step
    def double(number: int) -> int:
        return number * 2

    @step
    async def quadruple(number: int) -> int:
        return await double(await double(number))

    async def main() -> int:
        return await quadruple(1)

    assert asyncio.run(main()) == 4
    assert double.fn(1) == 2


def test_without_a_loop_a_step_names_its_plain_function() -> None:
    @step
    def double(number: int) -> int:
        return number * 2

    with pytest.raises(TypeError, match=r"double\.fn\("):
        double(1)  # type: ignore[unused-coroutine]


def test_a_step_inside_a_step_runs_there_as_part_of_it(env: WorkflowEnv) -> None:
    @step
    def inner(number: int) -> int:
        return number + 1

    @step
    async def outer(number: int) -> int:
        return await inner(number) + await inner(number)

    @workflow
    async def flow() -> int:
        return await outer(1)

    handle = env.start(flow)

    assert handle.result() == 4
    assert len(events_of(handle, "step.scheduled")) == 1


def test_a_step_may_be_a_class(env: WorkflowEnv) -> None:
    class Charge(Step):
        retries = 1
        queue = "payments"

        def run(self, order: str, cents: int = 1) -> str:
            return f"{order}: {cents}"

    class Ship(Step):
        name = "ship_it"

        async def run(self, order: str) -> str:
            return f"shipped {order}"

    @workflow
    async def flow() -> list[str]:
        return [await Charge()("a", cents=5), await Charge.options(retries=0)("b"), await Ship()("c")]

    handle = env.start(flow)

    assert handle.result() == ["a: 5", "b: 1", "shipped c"]
    scheduled = events_of(handle, "step.scheduled")
    assert [(data["name"], data["queue"]) for data in scheduled] == [
        ("Charge", "payments"), ("Charge", "payments"), ("ship_it", "default")
    ]  # fmt: skip


def test_a_step_class_without_run_or_with_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="needs a method run"):
        type("Empty", (Step,), {})
    with pytest.raises(TypeError, match="no option 'retrys'; did you mean 'retries'"):
        type("Typo", (Step,), {"retrys": 1, "run": print})


def test_what_lifespans_give_is_there_in_steps(make_env: Callable[..., WorkflowEnv]) -> None:
    events: list[str] = []

    @lifespan
    def connection() -> Iterator[dict[str, Any]]:
        events.append("open")
        yield {"connection": "c"}
        events.append("close")

    @lifespan
    async def client() -> AsyncIterator[dict[str, Any]]:
        yield {"client": "h"}

    @step
    def use() -> str:
        context = current_step()
        assert context is not None
        return context.state["connection"] + context.state["client"]  # type: ignore[no-any-return]

    @workflow
    async def flow() -> str:
        return await use()

    with make_env() as env:
        assert env.run(flow) == "ch"
    assert events == ["open", "close"]


def test_a_step_knows_what_it_is_part_of(env: WorkflowEnv) -> None:
    seen: list[StepContext | None] = []

    @step(retries=1)
    def work() -> None:
        seen.append(current_step())
        if len(seen) == 1:
            raise ValueError("again")

    @workflow
    async def flow() -> None:
        await sleep(1)
        await work()

    handle = env.start(flow.options(id="mine"))
    handle.result()

    first, second = seen
    assert first is not None
    assert second is not None
    assert (first.run_id, first.workflow_id, first.workflow) == (handle.run_id, "mine", "flow")
    assert (first.name, first.seq, first.attempt, first.max_attempts) == ("work", 2, 1, 2)
    assert second.attempt == 2
    assert second.idempotency_key == first.idempotency_key
    assert current_step() is None


def test_idempotency_keys_differ_between_positions_and_runs(env: WorkflowEnv) -> None:
    keys: list[str] = []

    @step
    def work() -> None:
        context = current_step()
        assert context is not None
        keys.append(context.idempotency_key)

    @workflow
    async def flow() -> None:
        await work()
        await work()

    env.run(flow)
    env.run(flow)

    assert len(set(keys)) == 4


def test_a_run_of_one_step_is_a_run(env: WorkflowEnv) -> None:
    @step(retries=0)
    def double(number: int) -> int:
        if number < 0:
            raise FatalError("negative")
        return number * 2

    assert env.run(double, 21) == 42
    with pytest.raises(WorkflowFailed, match="negative"):
        env.run(double, -1)


def test_a_workflow_is_not_called() -> None:
    @workflow
    async def flow() -> None: ...

    with pytest.raises(TypeError, match=r"child\(flow.*client.start\(flow.*dramaturg.run\(flow.*flow.fn"):
        flow()


def test_a_plain_function_is_no_workflow_and_a_generator_is_no_step() -> None:
    with pytest.raises(TypeError, match="async def plain"):

        @workflow  # type: ignore[arg-type]
        def plain() -> None: ...

    with pytest.raises(TypeError, match="a step has one result"):

        @step
        def several() -> Any:
            yield 1
