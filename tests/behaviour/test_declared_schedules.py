"""Schedules that stand in code: created, updated, left alone where a person decided, paused where they are gone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest

from dramaturg import DuplicateNameError, InvalidSchedule, Schedule, workflow
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.definitions import registry


def declare(schedule: Schedule | None) -> Any:
    """The code as one deploy has it."""
    registry.workflows.pop("declared", None)

    @workflow(name="declared", schedule=schedule)
    async def declared(word: str = "none") -> str:
        return word

    return declared


@pytest.fixture
def env_with(make_env: Callable[..., WorkflowEnv]) -> Callable[[Schedule], WorkflowEnv]:
    def make(schedule: Schedule) -> WorkflowEnv:
        declare(schedule)
        return make_env()

    return make


def test_it_is_created_when_a_coordinator_starts(env_with: Callable[[Schedule], WorkflowEnv]) -> None:
    with env_with(Schedule(every="1h", args=("tick",), tags={"a": 1})) as env:
        env.advance("90m")
        schedule = env.client.schedules.get("declared")

        assert (schedule.declared, schedule.fired, schedule.tags) == ("code", 2, {"a": 1})
        assert [env.client.handle(run.run_id).result() for run in env.client.runs()] == ["tick", "tick"]


def test_a_deploy_that_changes_nothing_changes_nothing(env_with: Callable[[Schedule], WorkflowEnv]) -> None:
    with env_with(Schedule(every="1h")) as env:
        before = env.client.schedules.get("declared")
        env.advance("30m")
        env.restart()
        after = env.client.schedules.get("declared")

        assert after.next_time == before.created_at + timedelta(hours=1)
        assert after.fired == 1


def test_a_deploy_that_changes_it_changes_it(env_with: Callable[[Schedule], WorkflowEnv]) -> None:
    with env_with(Schedule(every="1h", args=("old",))) as env:
        env.advance("90m")
        declare(Schedule(every="2h", args=("new",), overlap="allow_all"))
        env.restart()
        env.advance("1h")
        schedule = env.client.schedules.get("declared")

        assert (schedule.every, schedule.overlap, schedule.fired) == (timedelta(hours=2), "allow_all", 3)
        assert env.client.handle(str(schedule.last_run_id)).result() == "new"


def test_a_pause_of_a_person_survives_deploys(env_with: Callable[[Schedule], WorkflowEnv]) -> None:
    with env_with(Schedule(every="1h")) as env:
        env.client.schedules.pause("declared", note="wait")
        declare(Schedule(every="2h"))
        env.restart()
        env.advance("5h")
        schedule = env.client.schedules.get("declared")

        assert (schedule.paused, schedule.note, schedule.every) == ("by_hand", "wait", timedelta(hours=2))
        assert schedule.fired == 0


def test_one_that_left_the_code_is_paused_and_reported_and_goes_on_when_it_is_back(
    env_with: Callable[[Schedule], WorkflowEnv],
) -> None:
    with env_with(Schedule(every="1h", catchup="2h")) as env:
        env.advance("90m")
        declare(None)
        env.restart()
        env.advance("5h")
        gone = env.client.schedules.get("declared")
        assert (gone.paused, gone.fired) == ("left_code", 2)
        assert "gone from the code" in gone.note
        assert len(env.client.dead_letters.list(kind="schedule")) == 1
        env.restart()
        assert len(env.client.dead_letters.list(kind="schedule")) == 1

        declare(Schedule(every="1h", catchup="2h", overlap="allow_all"))
        env.restart()
        env.run_until_idle()
        back = env.client.schedules.get("declared")

        # At 06:30: those of 05:00 and 06:00 are made up for, those of 02:00 to 04:00 were missed.
        assert (back.paused, back.fired, back.missed) == ("", 4, 3)


def test_one_of_a_client_under_its_id_is_left_alone(env_with: Callable[[Schedule], WorkflowEnv]) -> None:
    with env_with(Schedule(every="1h", id="mine")) as env:
        env.client.schedules.delete("mine")
        env.client.schedules.create("mine", declare(None), "client", every="3h")
        declare(Schedule(every="1h", id="mine"))
        env.restart()

        assert env.client.schedules.get("mine").every == timedelta(hours=3)


def test_what_cannot_be_meant_is_refused_where_it_is_written() -> None:
    with pytest.raises(InvalidSchedule, match="never fires"):
        Schedule(cron="0 0 31 2 *")
    with pytest.raises(InvalidSchedule, match="overlap must be one of"):
        Schedule(every="1h", overlap=cast("Any", "maybe"))
    with pytest.raises(TypeError, match="must be a Schedule"):
        workflow(schedule="0 2 * * *")(declare(None).fn)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        declare(Schedule(every="1h", args=(1, 2, 3)))
    declare(Schedule(every="1h", id="same"))
    with pytest.raises(DuplicateNameError, match="have one id, 'same'"):

        @workflow(name="another", schedule=Schedule(every="1h", id="same"))
        async def another() -> None: ...
