"""Lists, counts and batches of runs, by the same filters."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from dramaturg import FatalError, Handle, sleep, step, workflow
from dramaturg.testing import WorkflowEnv

NONE = set[str]()

_broken: set[str] = set()


@step(name="choosing_work", queue="choosing", retries=1)
def work(name: str) -> str:
    if name in _broken:
        raise FatalError(f"{name} is 100% broken_")
    return name


@pytest.fixture
def runs(env: WorkflowEnv) -> dict[str, Handle[Any]]:
    @workflow(name="choosing_sleeper")
    async def sleeper(name: str) -> None:
        await sleep("30d")

    @workflow(name="choosing_worker")
    async def worker(name: str) -> str:
        return await work(name)

    _broken.add("bad")
    started = {
        "early": env.client.start(sleeper, "early", tags={"tenant": "a", "size": 1}),
        "late": env.client.start(sleeper, "late", id="order-7", tags={"tenant": "ab", "size": 10}),
        "good": env.client.start(worker, "good", tags={"tenant": "a%"}),
        "bad": env.client.start(worker, "bad"),
    }
    for name in ("good", "bad"):
        while started[name].describe().closed_at is None:
            env.run_until_idle()
    return started


@pytest.mark.selection
@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ({}, {"early", "late", "good", "bad"}),
        ({"workflow": "choosing_sleeper"}, {"early", "late"}),
        ({"status": "WAITING"}, {"early", "late"}),
        ({"tags": {"tenant": "a"}}, {"early"}),
        ({"tags": {"tenant": "a%"}}, {"good"}),
        ({"tags": {"size": 1}}, {"early"}),
        ({"tags": {"size": 10, "tenant": "ab"}}, {"late"}),
        ({"tags": {"size": 10, "tenant": "a"}}, NONE),
        ({"text": "ORDER-7"}, {"late"}),
        ({"text": "100% broken_"}, {"bad"}),
        ({"text": "0% broken%"}, NONE),
        ({"waiting_on": "timer"}, {"early", "late"}),
        ({"waiting_on": "step"}, NONE),
        ({"since": "1h"}, {"early", "late", "good", "bad"}),
        ({"until": "1h"}, NONE),
        ({"idle_for": "1d"}, NONE),
        ({"step": "choosing_work"}, NONE),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_filter_means_these(
    env: WorkflowEnv, runs: dict[str, Handle[Any]], chosen: dict[str, Any], names: set[str]
) -> None:
    wanted = {runs[name].run_id for name in names}

    assert {run.run_id for run in env.client.runs(**chosen)} == wanted
    assert env.client.count(**chosen) == len(wanted)


def test_a_run_is_found_by_the_step_that_is_under_way(env: WorkflowEnv) -> None:
    @step(name="choosing_slow", queue="choosing", retries=3)
    def fail() -> None:
        raise ValueError("later")

    @workflow(name="choosing_retrier")
    async def flow() -> None:
        await fail()

    handle = env.client.start(flow)
    env.run_until_idle()

    filters: list[dict[str, Any]] = [{"step": "choosing_slow"}, {"queue": "choosing"}, {"waiting_on": "retry"}]
    for chosen in filters:
        assert [run.run_id for run in env.client.runs(**chosen)] == [handle.run_id]
    assert not env.client.runs(step="choosing")


def test_a_run_that_nothing_happens_to_is_idle(env: WorkflowEnv, runs: dict[str, Handle[Any]]) -> None:
    env.advance("2d")

    idle = env.client.runs(idle_for=timedelta(days=1))

    assert {run.run_id for run in idle} == {runs["early"].run_id, runs["late"].run_id}


@pytest.mark.parametrize("chosen", [{"waiting_on": "luck"}, {"status": "FINE"}], ids=str)
def test_what_cannot_be_meant_is_refused(env: WorkflowEnv, chosen: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one of"):
        env.client.runs(**chosen)


def test_a_filter_that_is_none_is_refused(env: WorkflowEnv) -> None:
    with pytest.raises(TypeError, match="no filter 'tag'"):
        env.client.runs(tag={})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


@pytest.mark.selection
def test_all_runs_of_a_filter_are_cancelled(env: WorkflowEnv, runs: dict[str, Handle[Any]]) -> None:
    assert env.client.cancel_runs(workflow="choosing_sleeper", by="ada", reason="no more") == 2

    assert env.client.count(status="CANCELLED") == 2
    assert env.client.cancel_runs(workflow="choosing_sleeper") == 0


def test_paused_runs_are_resumed_together(env: WorkflowEnv, runs: dict[str, Handle[Any]]) -> None:
    assert env.client.pause_runs(tags={"tenant": "a"}) == 1
    assert env.client.count(status="PAUSED") == 1

    assert env.client.resume_runs(status="PAUSED") == 1
    assert env.client.terminate_runs(since="1h") == 2


def test_failed_runs_go_on_together(env: WorkflowEnv, runs: dict[str, Handle[Any]]) -> None:
    _broken.clear()

    assert env.client.retry_runs(text="broken") == 1

    assert runs["bad"].result() == "bad"


def test_a_batch_without_a_filter_is_refused(env: WorkflowEnv) -> None:
    with pytest.raises(TypeError, match="say which runs to cancel"):
        env.client.cancel_runs(by="ada")
