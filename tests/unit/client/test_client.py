"""`Client` and `Handle`: what is started, found, waited for and told."""

from __future__ import annotations

import logging
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import dramaturg
from dramaturg import (
    Client,
    ConfigurationError,
    NotAnswered,
    NotFound,
    RetryPolicy,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowTerminated,
    sleep,
    step,
    workflow,
)
from dramaturg import requests as requests_module
from dramaturg.testing import WorkflowEnv


def doubler() -> Any:
    @step
    def double(number: int) -> int:
        return 2 * number

    @workflow
    async def twice(number: int, plus: int = 0) -> int:
        return await double(number) + plus

    return twice


# Starting.


def test_a_workflow_is_started_by_object_by_name_and_with_bound_options(env: WorkflowEnv) -> None:
    twice = doubler()

    assert env.client.start(twice, 1, plus=5).result() == 7
    assert env.client.start("twice", 2).result() == 4
    handle = env.client.start(twice.options(id="third", tags={"tenant": "a"}), 3)
    assert handle.result() == 6
    assert (handle.workflow_id, handle.describe().tags) == ("third", {"tenant": "a"})


def test_a_step_is_started_as_a_run_of_its_own(env: WorkflowEnv) -> None:
    @step
    def greet(name: str) -> str:
        return f"hello {name}"

    handle = env.client.start(greet, "world")

    assert handle.result() == "hello world"
    assert [event.type for event in handle.events()].count("step.completed") == 1


def test_arguments_that_do_not_fit_are_refused_and_nothing_is_started(env: WorkflowEnv) -> None:
    twice = doubler()

    for args, kwargs in (((), {}), ((1, 2, 3), {}), ((1,), {"unknown": 1})):
        with pytest.raises(TypeError):
            env.client.start(twice, *args, **kwargs)
    with pytest.raises(dramaturg.PayloadError):
        env.client.start(twice, "no number")
    with pytest.raises(TypeError):
        env.client.start(doubler)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]

    assert env.client.count() == 0


def test_a_broker_and_an_engine_are_what_they_are_to_be() -> None:
    with pytest.raises(ConfigurationError, match="Dramatiq broker"):
        Client(broker=object())
    with pytest.raises(ConfigurationError, match="SQLAlchemy Engine"):
        Client(engine=object())


def test_many_are_started_at_once_from_tuples_and_dicts(env: WorkflowEnv) -> None:
    twice = doubler()

    handles = env.client.start_many(twice, [(1,), {"number": 2, "plus": 1}, (3, 1)], tags={"batch": 7})

    assert env.client.results(handles) == [2, 5, 7]
    assert {handle.describe().tags["batch"] for handle in handles} == {7}
    with pytest.raises(TypeError, match="tuples of arguments or dicts"):
        env.client.start_many(twice, [[1]])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    assert env.client.start_many(twice, []) == []


# Waiting.


def test_a_time_out_says_what_the_run_waits_for(env: WorkflowEnv) -> None:
    @workflow
    async def sleeper() -> None:
        await sleep("3h")

    handle = env.client.start(sleeper)

    with pytest.raises(
        TimeoutError, match=f"run {handle.run_id} is still open after 1h: it waits for a timer, due in 2h"
    ):
        handle.result("1h")
    with pytest.raises(TimeoutError, match="waits for a timer"):
        env.client.results([handle], timeout=60)


def test_without_a_coordinator_a_time_out_says_so(alone: Client) -> None:
    handle = alone.start("somewhere")

    with pytest.raises(TimeoutError, match="a coordinator that takes its start message"):
        handle.result(0)
    assert handle.describe().status == "PENDING"


def test_what_does_not_exist_is_not_found_at_once(alone: Client) -> None:
    unknown = alone.handle("nothing")
    by_run_id = alone.handle("nothing", run_id="00000000-0000-7000-8000-000000000000")

    for handle in (unknown, by_run_id):
        with pytest.raises(NotFound):
            handle.result()
        with pytest.raises(NotFound):
            handle.describe()
        with pytest.raises(NotFound):
            list(handle.events())
        with pytest.raises(NotFound):
            list(handle.events(follow=True))
        with pytest.raises(NotFound):
            handle.cancel()
        with pytest.raises(NotFound):
            handle.terminate()
    with pytest.raises(NotFound):
        alone.runs(after="nothing")


def test_a_run_that_is_taken_between_two_looks_is_found(env: WorkflowEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = doubler()
    reads = env.client._link.database.reads  # pyright: ignore[reportPrivateUsage]
    real = reads.run

    def run(run_id: str) -> Any:
        found = real(run_id)
        if found is None:
            env.turn()
        return found

    monkeypatch.setattr(reads, "run", run)

    assert env.client.start(twice, 1).describe().status == "RUNNING"
    assert env.client.handle(env.client.start(twice, 1, id="named").workflow_id).run_id
    env.client.start(twice, 1).cancel()


def test_a_failure_comes_with_its_cause(env: WorkflowEnv) -> None:
    @step(retries=1)
    def broken() -> None:
        raise ValueError("no such order")

    @workflow
    async def flow() -> None:
        await broken()

    handle = env.client.start(flow)

    with pytest.raises(WorkflowFailed, match="no such order") as caught:
        handle.result()
    error = caught.value
    assert (error.run_id, error.workflow) == (handle.run_id, "flow")
    assert error.error_type.endswith("StepFailed")
    assert "step 'broken' failed after 2 attempts: ValueError: no such order" in error.message
    assert "Traceback" in error.traceback


def test_cancelled_and_terminated_runs_are_errors_of_their_own(env: WorkflowEnv) -> None:
    @workflow
    async def sleeper() -> None:
        await sleep("3h")

    cancelled, terminated = env.client.start(sleeper), env.client.start(sleeper)
    env.turn()

    cancelled.cancel(by="ann", reason="too slow")
    terminated.terminate(by="bob")
    cancelled.cancel()

    with pytest.raises(WorkflowCancelled) as caught:
        cancelled.result()
    assert caught.value.run_id == cancelled.run_id
    with pytest.raises(WorkflowTerminated):
        terminated.result()
    asked = next(event for event in cancelled.events() if event.type == "run.cancel_requested")
    assert (asked.data["by"], asked.data["reason"]) == ("ann", "too slow")


def test_a_verb_that_nobody_records_says_so_and_stays(alone: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests_module, "ANSWER_TIME", timedelta(seconds=0.01))
    handle = alone.start("somewhere")

    with pytest.raises(NotAnswered, match="the request stays and counts once"):
        handle.cancel()


def test_events_follow_a_run_to_its_end(env: WorkflowEnv) -> None:
    handle = env.client.start(doubler(), 1)

    types = [event.type for event in handle.events(follow=True)]

    assert types[0] == "run.started"
    assert types[-1] == "run.completed"
    assert [event.type for event in handle.events()] == types


# Lists.


def test_runs_are_filtered_and_paged_newest_first(env: WorkflowEnv) -> None:
    @workflow
    async def one(number: int) -> int:
        return number

    @workflow
    async def other(number: int) -> None:
        raise ValueError(number)

    ids: list[str] = []
    for number in range(7):
        ids.append(env.client.start(one if number % 2 else other, number).run_id)
        env.run_until_idle()
        env.advance("1m")
    client = env.client

    pages: list[str] = []
    after: str | None = None
    while page := client.runs(limit=3, after=after):
        pages += [run.run_id for run in page]
        after = page[-1].run_id
    assert pages == ids[::-1]
    assert [run.run_id for run in client.runs(workflow="one")] == ids[5::-2]
    assert {run.status for run in client.runs(status="FAILED")} == {"FAILED"}
    assert client.count(status=["FAILED", "COMPLETED"]) == 7
    assert client.count(workflow="other", status="COMPLETED") == 0
    assert client.count(since="150s") == 2
    assert client.count(since=env.now - timedelta(minutes=3)) == 3
    assert client.count(workflow="nobody") == 0


def test_filters_that_mean_nothing_are_refused(env: WorkflowEnv) -> None:
    with pytest.raises(ValueError, match="there is no status 'DONE'; it is one of PENDING"):
        env.client.runs(status="DONE")
    with pytest.raises(ValueError, match="no time zone"):
        env.client.count(since=datetime(2030, 1, 1))  # noqa: DTZ001


# What a run waits for.


def test_a_run_says_what_it_waits_for(env: WorkflowEnv) -> None:
    @step(retries=RetryPolicy(max_attempts=8, initial="10m", maximum="10m", jitter=False))
    def charge() -> None:
        raise ConnectionError("the bank is away")

    @workflow
    async def flow() -> None:
        await charge()

    @workflow
    async def sleeper() -> None:
        await sleep("1d")

    retrying, sleeping, pending = env.client.start(flow), env.client.start(sleeper), env.client.start("nobody has it")
    assert pending.describe().waiting_for == "a coordinator that takes its start message"
    env.run_until_idle()

    described = retrying.describe()
    assert described.waiting_for == ("step charge, attempt 2 of 8, next try in 10m: ConnectionError: the bank is away")
    (item,) = described.open
    assert (item.kind, item.name, item.attempt, item.status) == ("step", "charge", 2, "RETRYING")
    assert item.due == env.now + timedelta(minutes=10)
    assert sleeping.describe().waiting_for == "a timer, due in 1d"
    assert pending.describe().status == "BLOCKED"
    assert pending.describe().waiting_for.startswith("a coordinator that has its code: workflow 'nobody has it'")
    retrying.terminate()
    assert retrying.describe().waiting_for == ""


def test_a_step_says_whether_it_waits_or_runs(env: WorkflowEnv) -> None:
    @step(queue="gpu")
    def work() -> None: ...

    @workflow
    async def flow() -> None:
        import asyncio

        await asyncio.gather(*(work() for _ in range(5)))

    handle = env.client.start(flow)
    env.turn()

    sentence = handle.describe().waiting_for
    assert sentence.startswith("step work, attempt 1 of 8, waiting in queue gpu or running since just now; ")
    assert sentence.endswith(", and 2 more")
    env.run_until_idle()


def test_a_run_whose_history_is_damaged_can_still_be_described(url: str, tmp_path: Path) -> None:
    @workflow
    async def quick() -> int:
        return 1

    with dramaturg.engine(config=dramaturg.Settings(database_url=url)) as client:
        handle = client.start(quick)
        handle.result(20)
        with sqlite3.connect(tmp_path / "dramaturg.db") as connection:
            connection.execute("UPDATE dramaturg_events SET data = '{' WHERE number = 1")
        connection.close()

        described = handle.describe()

        assert described.status == "COMPLETED"
        assert described.waiting_for.startswith("its history to be repaired")
        assert "damage" in next(iter(handle.events())).data


# Warnings.


def test_a_client_warns_once_where_no_coordinator_lives(alone: Client, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        alone.start("somewhere")

    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "dramaturg dev MODULE" in warnings[0].getMessage()


def test_a_client_beside_a_coordinator_does_not_warn(url: str, caplog: pytest.LogCaptureFixture) -> None:
    twice = doubler()
    settings = dramaturg.Settings(database_url=url)
    with dramaturg.engine(config=settings), Client(settings) as client:
        assert client.start(twice, 4).result(20) == 8

    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
