"""Schedules: a time begins one run, waits, is skipped or is missed, whatever happens to coordinators."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dramaturg import (
    AlreadyScheduled,
    Calendar,
    InvalidSchedule,
    NotFound,
    ScheduleDescription,
    info,
    now,
    sleep,
    workflow,
)
from dramaturg.testing import WorkflowEnv

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def tick() -> Any:
    @workflow(name="tick")
    async def tick_(word: str = "tick") -> str:
        return f"{word} for {info().tags['dramaturg.scheduled_for']} at {now():%d %H:%M:%S}"

    return tick_


@pytest.fixture
def slow() -> Any:
    @workflow(name="slow_tick")
    async def slow_(hours: float) -> None:
        await sleep(hours * 3600)

    return slow_


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2030, 1, day, hour, tzinfo=UTC)


def results(env: WorkflowEnv) -> list[Any]:
    return [env.client.handle(run.run_id).result() for run in reversed(env.client.runs(limit=1000))]


def started_at(env: WorkflowEnv) -> list[str]:
    return [f"{run.started_at:%d %H:%M}" for run in reversed(env.client.runs(limit=1000))]


def counts(schedule: ScheduleDescription) -> tuple[int, int, int, int]:
    return schedule.fired, schedule.skipped, schedule.missed, schedule.waiting


@pytest.mark.selection
def test_each_time_begins_one_run(env: WorkflowEnv, tick: Any) -> None:
    env.client.schedules.create("nightly", tick, "tock", cron="0 2 * * *", tags={"team": "ops"})

    env.advance("3d")

    assert results(env) == [f"tock for 2030-01-0{day}T02:00:00+00:00 at 0{day} 02:00:00" for day in (1, 2, 3)]
    schedule = env.client.schedules.get("nightly")
    assert counts(schedule) == (3, 0, 0, 0)
    assert [firing.time for firing in schedule.firings] == [at(3, 2), at(2, 2), at(1, 2)]
    assert schedule.last_time == at(3, 2)
    assert schedule.next_time == schedule.next_due == at(4, 2)
    newest = env.client.runs()[0]
    assert newest.run_id == schedule.last_run_id == schedule.firings[0].run_id
    assert newest.tags == {
        "team": "ops",
        "dramaturg.schedule": "nightly",
        "dramaturg.scheduled_for": "2030-01-03T02:00:00+00:00",
    }


@pytest.mark.selection
def test_a_crash_before_or_after_a_firing_changes_nothing(env: WorkflowEnv, tick: Any) -> None:
    env.client.schedules.create("hourly", tick, every="1h")
    for _ in range(6):
        env.crash()
        env.advance("30m")
        env.crash()
        env.run_until_idle()

    # Counted from its creation, that moment included.
    assert started_at(env) == ["01 00:00", "01 01:00", "01 02:00", "01 03:00"]
    assert counts(env.client.schedules.get("hourly")) == (4, 0, 0, 0)


def test_the_run_has_the_idempotency_key_of_schedule_and_time(env: WorkflowEnv, tick: Any) -> None:
    env.client.schedules.create("nightly", tick, cron="0 2 * * *")
    env.advance("1d")

    again = env.client.start(tick, idempotency_key="nightly@2030-01-01T02:00:00+00:00")

    assert again.run_id == env.client.schedules.get("nightly").last_run_id
    assert env.client.count() == 1


def test_an_outage_is_made_up_for_as_far_as_the_window_reaches(env: WorkflowEnv, tick: Any) -> None:
    schedules = env.client.schedules
    schedules.create("all", tick, cron="*/30 * * * *", overlap="allow_all", catchup="2h")
    env.run_until_idle()
    # Nobody is there for a day.
    env.clock.set(at(2, 0) + timedelta(minutes=10))
    env.run_until_idle()

    schedule = schedules.get("all")
    # Of 49 times, from midnight to midnight: the first one, and those of the last two hours.
    assert counts(schedule) == (5, 0, 44, 0)
    assert [f"{firing.time:%d %H:%M}" for firing in schedule.firings] == [
        "02 00:00", "01 23:30", "01 23:00", "01 22:30", "01 00:00",
    ]  # fmt: skip


def test_an_outage_with_skip_makes_up_for_one(env: WorkflowEnv, slow: Any) -> None:
    env.client.schedules.create("one", slow, 5.0, cron="*/30 * * * *", start_at=at(1, 12), catchup="3h")
    env.clock.set(at(2, 0))
    env.run_until_idle()

    # 25 times, of which seven are in the window, and the first of these runs.
    assert counts(env.client.schedules.get("one")) == (1, 6, 18, 0)


def test_skip_leaves_out_what_finds_a_run_open(env: WorkflowEnv, slow: Any) -> None:
    env.client.schedules.create("s", slow, 2.5, every="1h")
    env.advance("7h30m")

    assert started_at(env) == ["01 00:00", "01 03:00", "01 06:00"]
    assert counts(env.client.schedules.get("s")) == (3, 5, 0, 0)


def test_buffer_one_lets_one_wait(env: WorkflowEnv, slow: Any) -> None:
    env.client.schedules.create("s", slow, 2.5, every="1h", overlap="buffer_one", end_at=at(1, 4))
    env.advance("2h10m")
    assert counts(env.client.schedules.get("s")) == (1, 1, 0, 1)
    env.crash()
    env.advance("1d")

    assert started_at(env) == ["01 00:00", "01 02:30", "01 05:00"]
    schedule = env.client.schedules.get("s")
    assert counts(schedule) == (3, 2, 0, 0)
    assert [f"{firing.time:%H}" for firing in schedule.firings] == ["03", "01", "00"]


def test_buffer_all_lets_all_wait(env: WorkflowEnv, slow: Any) -> None:
    env.client.schedules.create("s", slow, 2, every="1h", overlap="buffer_all", end_at=at(1, 3))
    env.advance("3h")
    assert counts(env.client.schedules.get("s")) == (2, 0, 0, 2)
    env.crash()
    env.advance("1d")

    assert started_at(env) == ["01 00:00", "01 02:00", "01 04:00", "01 06:00"]
    assert counts(env.client.schedules.get("s")) == (4, 0, 0, 0)


def test_cancel_other_begins_when_the_other_has_ended(env: WorkflowEnv) -> None:
    @workflow(name="cleans_up")
    async def flow() -> None:
        try:
            await sleep("10h")
        finally:
            if now() > at(1, 1):
                raise ValueError("cleaned up")

    env.client.schedules.create("s", flow, every="1h", overlap="cancel_other", end_at=at(1, 2))
    env.advance("1d")

    assert started_at(env) == ["01 00:00", "01 01:00", "01 02:00"]
    statuses = [run.status for run in reversed(env.client.runs())]
    assert statuses == ["CANCELLED", "FAILED", "FAILED"]
    assert counts(env.client.schedules.get("s")) == (3, 0, 0, 0)


def test_terminate_other_begins_at_once(env: WorkflowEnv, slow: Any) -> None:
    env.client.schedules.create("s", slow, 10, every="1h", overlap="terminate_other", end_at=at(1, 2))
    env.advance("1d")

    assert [run.status for run in reversed(env.client.runs())] == ["TERMINATED", "TERMINATED", "COMPLETED"]
    assert counts(env.client.schedules.get("s")) == (3, 0, 0, 0)


def test_allow_all_lets_them_run_beside_each_other(env: WorkflowEnv, slow: Any) -> None:
    env.client.schedules.create("s", slow, 10, every="1h", overlap="allow_all")
    env.advance("3h30m")

    assert [run.status for run in env.client.runs()] == ["WAITING"] * 4
    assert env.client.schedules.get("s").running == []


def test_a_firing_is_late_by_its_jitter(env: WorkflowEnv, tick: Any) -> None:
    env.client.schedules.create("j", tick, every="1h", jitter="20m", overlap="allow_all")
    env.advance("5h")

    late = [
        run.started_at - firing.time
        for run, firing in zip(env.client.runs(), env.client.schedules.get("j").firings, strict=True)
    ]
    assert len(set(late)) == len(late) >= 5
    assert all(timedelta(0) <= each < timedelta(minutes=20) for each in late)


def test_a_pause_leaves_out_what_would_have_been(env: WorkflowEnv, tick: Any) -> None:
    schedules = env.client.schedules
    schedules.create("p", tick, every="1h", start_at=at(1, 1))
    env.advance("1h30m")
    schedules.pause("p", note="the disk is full")
    env.advance("3h")
    env.crash()
    paused = schedules.get("p")
    assert (paused.paused, paused.note, paused.next_due) == ("by_hand", "the disk is full", None)
    assert schedules.next("p") == [at(1, 5)]

    schedules.resume("p")
    env.advance("1h")

    assert started_at(env) == ["01 01:00", "01 05:00"]
    assert counts(schedules.get("p")) == (2, 0, 0, 0)


def test_created_paused_it_waits_to_be_resumed(env: WorkflowEnv, tick: Any) -> None:
    env.client.schedules.create("p", tick, every="1h", paused=True, note="later")
    env.advance("5h")
    assert env.client.count() == 0
    env.client.schedules.resume("p")
    env.advance("30m")
    assert started_at(env) == ["01 05:00"]


def test_trigger_begins_a_run_now(env: WorkflowEnv, slow: Any) -> None:
    env.client.schedules.create("t", slow, 2, cron="0 2 * * *", paused=True)
    env.advance("1h")
    first, second = env.client.schedules.trigger("t"), env.client.schedules.trigger("t")
    env.advance("30m")

    assert first.run_id != second.run_id
    assert first.describe().status == second.describe().status == "WAITING"
    schedule = env.client.schedules.get("t")
    assert counts(schedule) == (2, 0, 0, 0)
    assert [firing.kind for firing in schedule.firings] == ["trigger", "trigger"]


@pytest.mark.parametrize("overlap", ["buffer_all", "allow_all"])
def test_backfill_makes_up_for_what_has_no_run(env: WorkflowEnv, slow: Any, overlap: Any) -> None:
    schedules = env.client.schedules
    schedules.create("b", slow, 0.5, cron="0 * * * *", timezone="Europe/Berlin", paused=True)
    env.advance_to(at(5, 0))
    schedules.resume("b")
    env.advance("90m")

    made = schedules.backfill("b", at(4, 22), at(6, 0), overlap=overlap)
    env.run_until_idle()
    again = schedules.backfill("b", at(4, 22), at(6, 0), overlap=overlap)
    env.crash()
    env.advance("2h")

    assert made == [at(4, 22), at(4, 23)]
    assert made[0].tzinfo == ZoneInfo("Europe/Berlin")
    assert again == []
    kinds = [firing.kind for firing in reversed(schedules.get("b").firings)]
    # At two o'clock a run was open.
    assert kinds == ["backfill", "backfill", "time", "time", "time"]
    assert schedules.get("b").waiting == 0


def test_a_moment_fires_once_and_is_over(env: WorkflowEnv, tick: Any) -> None:
    env.client.schedules.create("once", tick, at=datetime(2030, 1, 1, 9, tzinfo=ZoneInfo("Europe/Berlin")))
    env.advance("2d")
    env.crash()
    env.advance("2d")

    assert started_at(env) == ["01 08:00"]
    schedule = env.client.schedules.get("once")
    assert (schedule.next_time, schedule.fired) == (None, 1)
    assert env.client.schedules.next("once") == []


def test_calendar_and_time_zone(env: WorkflowEnv, tick: Any) -> None:
    calendar = Calendar(months=1, hour=9)
    env.client.schedules.create("bill", tick, calendar=calendar, timezone="America/New_York", start_at=at(31))

    # It is 30 January in New York, and nine o'clock is over.
    assert [f"{time:%m-%d %H:%M %z}" for time in env.client.schedules.next("bill", 3)] == [
        "03-30 09:00 -0400",
        "04-30 09:00 -0400",
        "05-30 09:00 -0400",
    ]


def test_update_changes_what_is_given(env: WorkflowEnv, tick: Any) -> None:
    schedules = env.client.schedules
    schedules.create("u", tick, "old", cron="0 2 * * *", timezone="Europe/Berlin", tags={"a": 1})

    schedules.update("u", every="6h", overlap="allow_all", args=("new",))
    env.advance("7h")

    assert [result.split()[0] for result in results(env)] == ["new", "new"]
    schedule = schedules.get("u")
    assert (schedule.cron, schedule.every, schedule.overlap) == (None, timedelta(hours=6), "allow_all")
    assert schedule.tags == {"a": 1}
    schedules.update("u", tags={"b": 2}, note="changed")
    assert (schedules.get("u").tags, schedules.get("u").note) == ({"b": 2}, "changed")
    schedules.update("u", timezone="Asia/Tokyo")
    assert schedules.get("u").timezone == "Asia/Tokyo"


def test_delete_leaves_its_runs(env: WorkflowEnv, tick: Any) -> None:
    env.client.schedules.create("d", tick, every="1h")
    env.advance("1h")
    env.client.schedules.delete("d")
    env.advance("5h")

    assert env.client.count() == 2
    with pytest.raises(NotFound):
        env.client.schedules.get("d")
    env.client.schedules.create("d", tick, every="1h")


def test_they_are_listed_in_pages(env: WorkflowEnv, tick: Any, slow: Any) -> None:
    schedules = env.client.schedules
    for name in "abc":
        schedules.create(name, tick, every="1h")
    schedules.create("z", slow, 1, every="1h", paused=True)

    assert [each.id for each in schedules.list()] == ["a", "b", "c", "z"]
    assert [each.id for each in schedules.list(limit=2, after="a")] == ["b", "c"]
    assert [each.id for each in schedules.list(workflow="slow_tick")] == ["z"]
    assert [each.id for each in schedules.list(paused=False)] == ["a", "b", "c"]


def test_a_run_that_is_pruned_or_ended_otherwise_holds_nothing_up(env: WorkflowEnv, slow: Any) -> None:
    env.client.schedules.create("s", slow, 100, every="1h", overlap="buffer_one")
    env.advance("1h30m")
    env.client.handle(env.client.runs()[0].run_id).terminate()
    env.run_until_idle()

    assert counts(env.client.schedules.get("s")) == (2, 0, 0, 0)


@pytest.mark.selection
def test_one_whose_workflow_is_gone_is_put_aside_and_the_others_fire(env: WorkflowEnv, tick: Any) -> None:
    env.client.schedules.create("gone", "no_such_workflow", every="1h")
    env.client.schedules.create("there", tick, every="1h")
    env.advance("2h30m")

    gone = env.client.schedules.get("gone")
    assert gone.paused == "trouble"
    assert gone.note == "no coordinator has its workflow 'no_such_workflow'"
    assert [letter.reason for letter in env.client.dead_letters.list(kind="schedule")] == [gone.note]
    assert env.client.schedules.get("there").fired == 3

    @workflow(name="no_such_workflow")
    async def now_there() -> None: ...

    env.restart()
    env.run_until_idle()
    # It goes on where it stopped, as far as its window reaches.
    assert counts(env.client.schedules.get("gone")) == (1, 0, 2, 0)


@pytest.mark.selection
def test_a_row_that_cannot_be_read_is_put_aside_and_the_others_fire(env: WorkflowEnv, tick: Any) -> None:
    for name in ("a", "bad", "c"):
        env.client.schedules.create(name, tick, every="1h", start_at=at(1, 1))
    with env.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE dramaturg_schedules SET spec = '{\"lunar\": 1}' WHERE id = 'bad'")
    env.advance("1h30m")

    assert env.client.schedules.get("bad").paused == "trouble"
    assert "cannot be read" in env.client.schedules.get("bad").note
    assert [env.client.schedules.get(name).fired for name in "ac"] == [1, 1]
    with pytest.raises(InvalidSchedule):
        env.client.schedules.resume("bad")
    env.client.schedules.delete("bad")


def test_a_year_of_a_schedule_in_no_time(env: WorkflowEnv, tick: Any) -> None:
    env.client.schedules.create("weekly", tick, cron="30 2 * * sun", timezone="Europe/Berlin")
    env.advance("365d")

    assert counts(env.client.schedules.get("weekly")) == (52, 0, 0, 0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "this one has none"),
        ({"cron": "0 0 30 2 *"}, "never fires"),
        ({"cron": "* * * * *", "timezone": "Mars/Olympus"}, "no time zone"),
        ({"every": "1h", "overlap": "maybe"}, "overlap must be one of skip, buffer_one"),
        ({"every": "1h", "catchup": "1s"}, "catchup must be at least 10s"),
        ({"at": datetime(2029, 1, 1, tzinfo=UTC)}, "is over"),
        ({"every": "1h", "end_at": datetime(2029, 1, 1, tzinfo=UTC)}, "never fire"),
    ],
)
def test_a_wrong_one_is_refused_before_anything_is_written(
    env: WorkflowEnv, tick: Any, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(InvalidSchedule, match=match):
        env.client.schedules.create("w", tick, **options)
    assert env.client.schedules.list() == []


def test_what_is_asked_of_none_is_refused(env: WorkflowEnv, tick: Any) -> None:
    schedules = env.client.schedules
    for ask in (schedules.get, schedules.pause, schedules.resume, schedules.trigger, schedules.delete, schedules.next):
        with pytest.raises(NotFound, match="there is no schedule 'x'"):
            ask("x")
    with pytest.raises(NotFound):
        schedules.update("x", every="1h")
    schedules.create("x", tick, every="1h")
    with pytest.raises(AlreadyScheduled):
        schedules.create("x", tick, every="1h")
    with pytest.raises(InvalidSchedule, match="not before it"):
        schedules.backfill("x", at(2), at(1))
    with pytest.raises(InvalidSchedule, match="aware"):
        schedules.backfill("x", datetime(2030, 1, 1), at(2))  # noqa: DTZ001
    with pytest.raises(TypeError, match="about one run"):
        schedules.create("y", tick.options(id="mine"), every="1h")
    with pytest.raises(TypeError):
        schedules.create("y", tick, 1, 2, 3, every="1h")
    with pytest.raises(TypeError, match="no 'crom'"):
        schedules.update("x", crom="* * * * *")  # type: ignore[call-arg]
    with pytest.raises(InvalidSchedule, match="1 to 200 characters"):
        schedules.create("", tick, every="1h")
