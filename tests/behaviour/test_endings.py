"""Every way in which a step ends: the rows of the table in docs/endings.md, a test of the same name each."""

from __future__ import annotations

import asyncio
import re
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from dramaturg import (
    FatalError,
    RetryPolicy,
    StepFailed,
    StepTimeout,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowTerminated,
    sleep,
    step,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.messages import ReportKind, Request, RequestKind, StepReport, encode_message
from tests.behaviour.histories import events_of, types_of

TABLE = Path(__file__).parents[2] / "docs" / "endings.md"


class Broken(ConnectionError):
    """An error with a base of its own."""


def test_the_table_has_a_test_for_each_row() -> None:
    rows = re.findall(
        r"^\| ([^|]+?) \| [^|]+ \| [^|]+ \|$", TABLE.read_text().split("## How a run ends")[0], re.MULTILINE
    )[2:]
    names = {"test_" + re.sub(r"\W+", "_", row.replace("`", "")).strip("_").lower() for row in rows}

    assert len(rows) > 12
    assert names == {name for name in globals() if name.startswith("test_")} - {
        "test_the_table_has_a_test_for_each_row"
    }


def seen_by_workflow(env: WorkflowEnv, work: Any) -> tuple[Any, BaseException | None]:
    """The handle of a run of that step, and what its workflow saw."""
    seen: list[BaseException] = []

    @workflow(name="sees")
    async def flow() -> Any:
        try:
            return await work()
        except BaseException as error:
            seen[:] = [error]
            raise

    handle = env.start(flow)
    try:
        handle.result()
    except WorkflowFailed:
        return handle, seen[0]
    return handle, None


def test_it_returns(env: WorkflowEnv) -> None:
    @step
    def work() -> int:
        return 5

    handle, error = seen_by_workflow(env, work)

    assert error is None
    assert handle.result() == 5
    assert types_of(handle)[1:3] == ["step.scheduled", "step.completed"]


def test_it_raises_and_is_tried_again(env: WorkflowEnv) -> None:
    tries: list[int] = []

    @step(retries=2)
    def work() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise Broken("not yet")
        return len(tries)

    handle, error = seen_by_workflow(env, work)

    assert error is None
    retrying = events_of(handle, "step.retrying")
    assert [event["attempt"] for event in retrying] == [1, 2]
    assert "Traceback" in retrying[0]["error"]["traceback"]
    assert datetime.fromisoformat(retrying[0]["retry_at"]) < datetime.fromisoformat(retrying[1]["retry_at"])


@pytest.mark.selection
def test_it_raises_at_its_last_attempt(env: WorkflowEnv) -> None:
    @step(retries=1)
    def work() -> None:
        raise Broken("x" * 100_000)

    handle, error = seen_by_workflow(env, work)

    assert isinstance(error, StepFailed)
    assert (error.step, error.attempts, error.error_type) == ("work", 2, f"{__name__}.Broken")
    assert error.message.startswith("x")
    assert len(error.message) + len(error.traceback) < 100_000
    assert events_of(handle, "step.failed")[0]["attempt"] == 2


def test_it_raises_fatalerror(env: WorkflowEnv) -> None:
    @step
    def work() -> None:
        raise FatalError("the card is stolen")

    handle, error = seen_by_workflow(env, work)

    assert isinstance(error, StepFailed)
    assert (error.attempts, error.message) == (1, "the card is stolen")
    assert not events_of(handle, "step.retrying")


def test_it_raises_what_give_up_on_names_by_a_base_class(env: WorkflowEnv) -> None:
    @step(retries=RetryPolicy(give_up_on=("OSError",)))
    def work() -> None:
        raise Broken("no")

    handle, error = seen_by_workflow(env, work)

    assert isinstance(error, StepFailed)
    assert error.attempts == 1
    assert not events_of(handle, "step.retrying")


def test_it_runs_out_of_time(env: WorkflowEnv) -> None:
    @step(retries=0, timeout="200ms")
    async def work() -> None:
        await asyncio.sleep(60)

    handle, error = seen_by_workflow(env, work)

    assert isinstance(error, StepTimeout)
    assert isinstance(error, TimeoutError)
    assert "step.timed_out" in types_of(handle)


def test_its_result_cannot_be_encoded(env: WorkflowEnv) -> None:
    @step
    def work() -> Any:
        return object()

    _, error = seen_by_workflow(env, work)

    assert isinstance(error, StepFailed)
    assert (error.attempts, error.error_type) == (1, "dramaturg_protocol.errors.PayloadError")


def test_its_workers_were_lost_three_times(env: WorkflowEnv) -> None:
    @step
    def work() -> None:
        raise Broken("once")

    @workflow
    async def flow() -> str:
        try:
            await work()
        except StepFailed as error:
            return error.error_type
        return "nothing"

    handle = env.start(flow)
    while not events_of(handle, "step.retrying"):
        env.turn()
    handle.pause()
    env.advance_to(datetime.fromisoformat(events_of(handle, "step.retrying")[0]["retry_at"]))
    partition = env.database.partition_of(handle.run_id)
    lost = StepReport(
        handle.run_id, 1, 1, 2, partition, ReportKind.FAILED, error_type="WorkerLost", bases=("WorkerLost",), fatal=True
    )
    env.database.inbox.put([Request("r1", RequestKind.REPORT, handle.run_id, partition, encode_message(lost))])
    env.run_until_idle()
    handle.resume()

    assert handle.result() == "WorkerLost"
    (letter,) = env.client.dead_letters.list()
    assert (letter.kind, letter.run_id, letter.seq) == ("worker_lost", handle.run_id, 1)


def test_its_worker_is_lost(env: WorkflowEnv) -> None:
    may_end = threading.Event()

    @step
    def work() -> str:
        may_end.wait(60)
        return "done"

    @workflow
    async def flow() -> str:
        return await work()

    handle = env.start(flow)
    env.turn()
    partition = env.database.partition_of(handle.run_id)
    for number, (worker, delivery) in enumerate([("first", 1), ("second", 2), ("second", 2)]):
        began = StepReport(handle.run_id, 1, 1, 1, partition, ReportKind.STARTED, worker=worker, delivery=delivery)
        env.database.inbox.put(
            [Request(f"s{number}", RequestKind.REPORT, handle.run_id, partition, encode_message(began))]
        )
    env.turn()

    (lost,) = events_of(handle, "step.retrying")
    assert (lost["reason"], lost["delivery"], lost["counts"]) == ("redelivered", 2, False)
    assert "worker first was gone" in lost["error"]["message"]
    assert [(each["worker"], each.get("delivery", 1)) for each in events_of(handle, "step.started")] == [
        ("first", 1),
        ("second", 2),
    ]
    assert "attempt 1 of 8, running on second" in handle.describe().waiting_for
    env.crash()
    may_end.set()
    assert handle.result() == "done"


def test_its_failure_is_one_of_a_taskgroup(env: WorkflowEnv) -> None:
    @step
    def work() -> None:
        raise FatalError("no")

    @workflow
    async def flow() -> list[str]:
        async def both() -> None:
            await sleep("1h")
            await work()

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(work())
                group.create_task(both())
        except ExceptionGroup as failures:
            return [f"{error.step}: {error.message}" for error in failures.exceptions if isinstance(error, StepFailed)]
        return []

    handle = env.start(flow)

    assert handle.result() == ["work: no"]
    assert "timer.cancelled" in types_of(handle)


def waiting(env: WorkflowEnv, flow: Any) -> Any:
    """A run of which a step waits for its next attempt."""
    handle = env.start(flow)
    while not events_of(handle, "step.retrying"):
        env.turn()
    return handle


def not_today() -> str:
    raise Broken("not today")


@pytest.fixture
def flow() -> Any:
    work = step(name="shaky")(not_today)

    @workflow(name="waits")
    async def flow_() -> str:
        return await work()

    return flow_


def test_the_workflow_waits_for_it_no_longer(env: WorkflowEnv) -> None:
    work = step(name="shaky")(not_today)

    @workflow
    async def flow() -> str:
        try:
            return await asyncio.wait_for(work(), 2)
        except TimeoutError:
            return "instead"

    handle = env.start(flow)

    assert handle.result() == "instead"
    assert types_of(handle)[-2:] == ["step.cancelled", "run.completed"]


def test_its_run_is_cancelled(env: WorkflowEnv, flow: Any) -> None:
    handle = waiting(env, flow)

    handle.cancel(by="ada")

    with pytest.raises(WorkflowCancelled):
        handle.result()
    assert types_of(handle)[-3:] == ["run.cancel_requested", "step.cancelled", "run.cancelled"]


def test_its_run_is_terminated(env: WorkflowEnv, flow: Any) -> None:
    handle = waiting(env, flow)

    handle.terminate(by="ada")

    with pytest.raises(WorkflowTerminated):
        handle.result()
    assert types_of(handle)[-1] == "run.terminated"


def test_it_gives_up_and_is_held(env: WorkflowEnv) -> None:
    work = step(name="shaky", on_give_up="pause")(not_today)

    @workflow
    async def flow() -> str:
        return await work.options(retries=0)()

    handle = env.start(flow)
    env.advance("1h")

    assert [event.type for event in handle.events()][-2:] == ["step.retrying", "run.paused"]
    assert events_of(handle, "step.retrying")[-1]["reason"] == "held"
    assert [letter.kind for letter in env.client.dead_letters.list()] == ["held"]


def test_a_person_completes_it(env: WorkflowEnv, flow: Any) -> None:
    handle = waiting(env, flow)

    handle.step(1).complete("by hand", by="ada")

    assert handle.result() == "by hand"
    assert types_of(handle)[-3:] == ["step.settled", "step.completed", "run.completed"]


def test_a_person_fails_it(env: WorkflowEnv, flow: Any) -> None:
    handle = waiting(env, flow)

    handle.step(1).fail("never mind", by="ada")

    with pytest.raises(WorkflowFailed, match="Settled: never mind"):
        handle.result()
    assert types_of(handle)[-3:] == ["step.settled", "step.failed", "run.failed"]
