"""How much is out at once, and who waits: steps for room in their queue, starts for a coordinator that is behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dramaturg import RetryPolicy, Workflow, step, workflow
from dramaturg_coordinator import pressure, turn, window
from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.messages import RequestKind, StepTask
from dramaturg_protocol.records import WorkKind
from tests.unit.coordinator.bench import Bench

AWAY = Unreachable("the database is away")


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "BOUND", 10)


def fan_out(name: str = "work", **options: Any) -> Workflow[[int], int]:
    @step(name=name, **options)
    def work(number: int) -> int:
        raise NotImplementedError

    @workflow(name=f"{name}_flow")
    async def flow(width: int) -> int:
        return sum(await asyncio.gather(*[work(number) for number in range(width)]))

    return flow


def kinds(bench: Bench, run_id: str) -> dict[str, int]:
    found = [item.kind.value for item in bench.open_work(run_id)]
    return {kind: found.count(kind) for kind in set(found)}


def finish(bench: Bench, most: int) -> list[StepTask]:
    """Do all that there is, one step at a time; what was done, in order. Never more are out than allowed."""
    out: list[StepTask] = []
    done: list[StepTask] = []
    while bench.turn() or bench.broker.tasks or out:
        out += bench.take_tasks()
        assert len(out) <= most
        if out:
            done.append(out.pop(0))
            bench.complete(done[-1], 1)
    return done


def test_a_wide_fan_out_sends_so_many_at_once_and_the_rest_as_others_settle(bench: Bench) -> None:
    run_id = bench.start(fan_out(), 100)
    bench.turns()

    assert kinds(bench, run_id) == {"step": 10, "waiting": 90}
    done = finish(bench, 10)

    assert [task.seq for task in done] == list(range(1, 101))
    assert bench.status(run_id) == "COMPLETED"
    assert bench.record(run_id).result == "100"


def test_one_step_of_another_run_does_not_wait_for_a_fan_out(bench: Bench) -> None:
    wide = bench.start(fan_out(), 100)
    bench.turns()
    narrow = bench.start(fan_out(), 1)
    bench.turns()
    assert kinds(bench, narrow) == {"waiting": 1}

    done = finish(bench, 10)

    assert [task.run_id for task in done].index(narrow) <= 12
    assert {bench.status(wide), bench.status(narrow)} == {"COMPLETED"}


def test_each_queue_has_room_of_its_own(bench: Bench) -> None:
    bench.start(fan_out("gpu_work", queue="gpu"), 100)
    other = bench.start(fan_out("mail_work", queue="mail"), 5)
    bench.turns()

    assert kinds(bench, other) == {"step": 5}


@pytest.mark.parametrize("times", [1, 3])
def test_after_a_crash_what_waited_waits_and_nothing_is_forgotten(bench: Bench, times: int) -> None:
    run_id = bench.start(fan_out(), 40)
    bench.turns()
    for _ in range(times):
        bench.crash()
        bench.turns()

    assert kinds(bench, run_id) == {"step": 10, "waiting": 30}
    assert len(bench.broker.tasks) == 10
    finish(bench, 10)
    assert bench.status(run_id) == "COMPLETED"


@pytest.mark.parametrize("is_after", [False, True])
def test_a_commit_whose_outcome_is_not_known_loses_no_room_and_no_step(bench: Bench, is_after: bool) -> None:
    run_id = bench.start(fan_out(), 40)
    bench.turns()
    for task in bench.take_tasks():
        bench.complete(task, 1)
    bench.store.fail("commit", AWAY, after=is_after, times=3)
    for _ in range(3):
        try:
            bench.turn()
        except Unreachable:
            continue
    bench.turns()

    assert kinds(bench, run_id) == {"step": 10, "waiting": 20}
    finish(bench, 10)
    assert bench.status(run_id) == "COMPLETED"


def test_a_run_that_is_terminated_makes_room_for_others(bench: Bench) -> None:
    wide = bench.start(fan_out(), 50)
    bench.turns()
    other = bench.start(fan_out(), 7)
    bench.turns()
    bench.take_tasks()

    bench.request(wide, RequestKind.TERMINATE)
    bench.turns()

    assert not bench.open_work(wide)
    assert kinds(bench, other) == {"step": 7}
    assert [task.run_id for task in bench.broker.tasks] == [other] * 7


def test_what_is_cancelled_while_it_waits_is_never_sent(bench: Bench) -> None:
    wide = bench.start(fan_out(), 30)
    bench.turns()
    tasks = bench.take_tasks()

    bench.request(wide, RequestKind.CANCEL)
    bench.turns()
    for task in tasks:
        bench.complete(task, 1)
    bench.turns()

    assert bench.status(wide) == "CANCELLED"
    assert not bench.broker.tasks
    assert not bench.open_work(wide)


def test_the_next_attempt_of_a_step_waits_for_room_like_any_other(bench: Bench) -> None:
    policy = RetryPolicy(max_attempts=2, backoff="fixed", initial="1s", jitter=False)
    run_id = bench.start(fan_out(retries=policy), 11)
    bench.turns()
    first = bench.take_tasks()
    bench.fail(first[0])
    bench.turns()
    assert [task.seq for task in bench.broker.tasks] == [11]

    bench.advance(seconds=1)
    bench.turns()
    assert kinds(bench, run_id) == {"step": 10, "waiting": 1}
    assert len(bench.broker.tasks) == 1

    bench.crash()
    bench.turns()
    for task in bench.take_tasks():
        bench.complete(task, 1)
    bench.turns()
    (again,) = bench.take_tasks()
    assert (again.seq, again.attempt) == (1, 2)
    bench.complete(again, 1)
    bench.turns()
    assert bench.status(run_id) == "COMPLETED"


def test_what_waits_for_room_still_waits_after_a_pause_and_goes_out_as_others_settle(bench: Bench) -> None:
    run_id = bench.start(fan_out(), 12)
    bench.turns()

    bench.request(run_id, RequestKind.PAUSE)
    bench.turns()
    assert kinds(bench, run_id) == {"step": 10, "waiting": 2}
    bench.request(run_id, RequestKind.RESUME)
    bench.turns()
    assert kinds(bench, run_id) == {"step": 10, "waiting": 2}

    done = finish(bench, 10)
    assert [task.seq for task in done] == list(range(1, 13))
    assert bench.status(run_id) == "COMPLETED"


@pytest.mark.parametrize("is_read_again", [False, True])
def test_an_attempt_that_went_out_before_a_pause_does_not_go_out_again_after_it(
    bench: Bench, is_read_again: bool
) -> None:
    policy = RetryPolicy(max_attempts=2, backoff="fixed", initial="1s", jitter=False)
    run_id = bench.start(fan_out(retries=policy), 1)
    bench.turns()
    bench.fail(bench.take_task())
    bench.turns()
    bench.advance(seconds=1)
    bench.turns()
    again = bench.take_task()
    if is_read_again:
        forget(bench)

    bench.request(run_id, RequestKind.PAUSE)
    bench.turns()
    assert kinds(bench, run_id) == {"step": 1}
    bench.request(run_id, RequestKind.RESUME)
    bench.turns()

    assert not bench.broker.tasks
    bench.complete(again, 1)
    bench.turns()
    assert bench.status(run_id) == "COMPLETED"


def forget(bench: Bench) -> None:
    """What is in memory of runs is read from the store again."""
    tenure = bench.coordinator._tenure  # pyright: ignore[reportPrivateUsage]
    assert tenure is not None
    tenure.forget()


def test_of_more_than_memory_keeps_the_rest_is_read_from_the_table(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "MOST_KNOWN", 15)
    runs = [bench.start(fan_out(), 20) for _ in range(5)]
    bench.turns()

    done = finish(bench, 10)

    assert len(done) == 100
    assert {bench.status(run_id) for run_id in runs} == {"COMPLETED"}


def test_a_row_says_that_it_waits_and_has_its_message(bench: Bench) -> None:
    run_id = bench.start(fan_out(), 11)
    bench.turns()

    (item,) = [item for item in bench.open_work(run_id) if item.kind is WorkKind.WAITING]
    assert (item.seq, item.due) == (11, None)
    assert item.message is not None


# Starts.


@pytest.fixture
def behind(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs whose reports fill more than a turn."""
    monkeypatch.setattr(turn, "BATCH", 4)
    runs = [bench.start(fan_out("old"), 1) for _ in range(10)]
    bench.turns()
    for task in bench.take_tasks():
        bench.complete(task, 1)
    return runs


def test_starts_wait_while_reports_alone_fill_every_turn(bench: Bench, behind: list[str]) -> None:
    bench.turn()
    late = bench.start(fan_out("new"), 1)
    bench.request(behind[-1], RequestKind.TERMINATE)

    bench.turn()
    assert bench.status(late) == "unknown"
    assert bench.status(behind[-1]) == "TERMINATED"
    assert bench.inbox_size() == 1

    bench.turns()
    assert bench.status(late) == "RUNNING"
    assert [bench.status(run_id) for run_id in behind] == ["COMPLETED"] * 9 + ["TERMINATED"]


def test_starts_that_had_to_wait_are_looked_for_again_at_once(bench: Bench, behind: list[str]) -> None:
    bench.turn()
    bench.start(fan_out("new"), 1)

    bench.turn()

    tenure = bench.coordinator._tenure  # pyright: ignore[reportPrivateUsage]
    assert tenure is not None
    assert tenure.turn.has_more
    bench.turns()
    assert not tenure.turn.has_more
    assert behind


def test_starts_wait_while_runs_have_to_be_read_from_the_store_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pressure, "MANY_LOADED", 3)
    old = [bench.start(fan_out("old"), 1) for _ in range(6)]
    bench.turns()
    forget(bench)
    for task in bench.take_tasks():
        bench.complete(task, 1)
    bench.turn()
    late = bench.start(fan_out("new"), 1)

    bench.turn()
    assert bench.status(late) == "unknown"
    bench.turn()
    assert bench.status(late) == "RUNNING"
    assert {bench.status(run_id) for run_id in old} == {"COMPLETED"}


def test_starts_do_not_wait_for_ever(bench: Bench, behind: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "LONGEST_WAIT", 0.0)
    bench.turn()
    late = bench.start(fan_out("new"), 1)
    bench.turn()

    assert bench.status(late) == "RUNNING"
    assert behind
