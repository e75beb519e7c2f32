"""``@on``: steps that run when something is recorded."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from dramaturg import Event, Handle, WorkflowFailed, on, step, workflow
from dramaturg.testing import WorkflowEnv


def failing(name: str = "fails") -> Any:
    @workflow(name=name)
    async def fails(order: str) -> None:
        raise ValueError(order)

    return fails


def end_of(handle: Handle[Any]) -> None:
    with pytest.raises(WorkflowFailed):
        handle.result()


@pytest.mark.selection
def test_a_failed_run_is_told_to_who_listens(env: WorkflowEnv) -> None:
    heard: list[Event] = []

    @on("run.failed")
    def page(event: Event) -> None:
        heard.append(event)

    handle = env.client.start(failing(), "o-1", tags={"tenant": "a"})
    end_of(handle)
    env.run_until_idle()

    (event,) = heard
    assert (event.type, event.number) == ("run.failed", list(handle.events())[-1].number)
    assert isinstance(event.time, datetime)
    assert event.data["error"]["message"] == "o-1"
    assert event.data["run_id"] == handle.run_id
    assert (event.data["workflow"], event.data["tags"]) == ("fails", {"tenant": "a"})


def test_it_hears_only_of_the_workflow_and_the_tags_that_it_names(env: WorkflowEnv) -> None:
    heard: list[tuple[str, str]] = []
    fails, other = failing(), failing("other")

    @on("run.failed", workflow=fails)
    def of_one(event: Event) -> None:
        heard.append(("workflow", event.data["workflow"]))

    @on("run.failed", tags={"tenant": "a", "vip": True})
    async def of_tags(event) -> None:  # type: ignore[no-untyped-def]
        heard.append(("tags", event.data["workflow"]))

    for wf, tags in [(fails, {"tenant": "a"}), (other, {"tenant": "a", "vip": True}), (other, {"vip": True})]:
        end_of(env.client.start(wf, "x", tags=tags))
    env.run_until_idle()

    assert sorted(heard) == [("tags", "other"), ("workflow", "fails")]


@pytest.mark.selection
def test_it_is_a_run_of_its_own_that_survives_a_crash_and_counts_once(env: WorkflowEnv) -> None:
    heard: list[int] = []

    @on("step.completed")
    @step(retries=3)
    def note(event: Event) -> None:
        heard.append(event.number)
        if len(heard) == 1:
            raise ConnectionError("away")

    @step
    def work() -> None: ...

    @workflow
    async def flow() -> None:
        await work()

    env.run(flow)
    env.crash()
    for _ in range(5):
        env.advance("10m")

    assert len(heard) == 2
    (run,) = env.client.runs(workflow="step:note")
    assert run.status == "COMPLETED"


def test_a_listener_that_fails_is_told_to_nobody(env: WorkflowEnv) -> None:
    heard: list[str] = []

    @on("run.failed")
    @step(retries=0)
    def breaks(event: Event) -> None:
        heard.append(event.data["workflow"])
        raise ValueError("broken")

    end_of(env.start(failing(), "x"))
    for _ in range(3):
        env.advance("1h")

    assert heard == ["fails"]
    assert env.client.count(workflow="step:breaks", status="FAILED") == 1


def test_values_in_an_event_arrive_as_the_history_has_them(env: WorkflowEnv) -> None:
    heard: list[Any] = []

    @on("run.completed")
    def note(event: Event) -> None:
        heard.append(event.data["result"])

    @workflow
    async def flow() -> Any:
        return {"pair": (1, 2)}

    env.run(flow)
    env.run_until_idle()

    assert heard == [{"pair": {"$type": "tuple", "items": [1, 2]}}]


def test_what_nobody_can_listen_to_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there is no event 'run\.faild'; did you mean 'run\.failed'"):
        on("run.faild")
    with pytest.raises(TypeError, match="a function of one argument"):

        @on("run.failed")  # type: ignore[arg-type]
        def nothing() -> None: ...

    with pytest.raises(TypeError, match="a workflow or its name"):
        on("run.failed", workflow=7)  # type: ignore[arg-type]
