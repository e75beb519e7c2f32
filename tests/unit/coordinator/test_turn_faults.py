"""The five steps of a turn, each with the fault that can strike it: nothing is lost, nothing is recorded twice."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from dramaturg import Workflow, sleep, step, workflow
from dramaturg_protocol.faults import Fenced, Refused, Unreachable
from dramaturg_protocol.messages import RequestKind
from dramaturg_protocol.records import DeadLetter, RunWrites
from tests.unit.coordinator.bench import Bench, Call

AWAY = Unreachable("the database is away")
ONE_STEP = ["run.started", "step.scheduled", "step.completed", "run.completed"]


def one_step() -> Workflow[[str], Any]:
    @step
    def work(name: str) -> int:
        raise NotImplementedError

    @workflow
    async def flow(name: str) -> Any:
        return await work(name)

    return flow


def touches(run_id: str) -> Call:
    """Whether a commit writes this run."""

    def applies(writes: Sequence[RunWrites], *_: Any) -> bool:
        return any(write.run_id == run_id for write in writes)

    return applies


def nth_call(nth: int) -> Call:
    calls = itertools.count()

    def applies(*_: Any) -> bool:
        return next(calls) == nth

    return applies


def test_a_commit_that_fails_before_it_wrote_is_taken_again(bench: Bench) -> None:
    run_id = bench.start(one_step(), "a")
    bench.store.fail("commit", AWAY)

    bench.try_turn(Unreachable)
    assert bench.status(run_id) == "unknown"
    assert not bench.broker.tasks
    bench.work()

    assert bench.events(run_id) == ONE_STEP


def test_a_commit_that_fails_after_it_wrote_is_not_repeated_and_its_step_is_published(bench: Bench) -> None:
    run_id = bench.start(one_step(), "a")
    bench.store.fail("commit", AWAY, after=True)

    bench.try_turn(Unreachable)
    assert bench.status(run_id) == "RUNNING"
    bench.turns()

    bench.complete(bench.take_task(), 5)
    bench.turns()
    assert bench.events(run_id) == ONE_STEP
    assert bench.record(run_id).result == "5"


@pytest.mark.parametrize("after", [False, True])
def test_an_outcome_whose_commit_fails_is_recorded_once_and_what_follows_is_published(
    bench: Bench, after: bool
) -> None:
    @step
    def work(number: int) -> int:
        raise NotImplementedError

    @workflow
    async def flow() -> int:
        return await work(1) + await work(2)

    run_id = bench.start(flow)
    bench.turns()
    bench.complete(bench.take_task(), 10)
    bench.store.fail("commit", AWAY, after=after)

    bench.try_turn(Unreachable)
    bench.turns()

    assert bench.events(run_id).count("step.completed") == 1
    bench.complete(bench.take_task(), 20)
    bench.turns()
    assert bench.record(run_id).result == "30"


def test_a_retry_whose_commit_is_in_doubt_is_published_once(bench: Bench) -> None:
    run_id = bench.start(one_step(), "a")
    bench.turns()
    bench.fail(bench.take_task(), retry_after=10)
    bench.turns()
    bench.advance(seconds=11)
    bench.store.fail("commit", AWAY, after=True)

    bench.try_turn(Unreachable)
    bench.turns()

    task = bench.take_task()
    assert (task.run_id, task.attempt) == (run_id, 2)


def test_a_doubt_is_kept_while_the_database_stays_away(bench: Bench) -> None:
    bench.start(one_step(), "a")
    bench.store.fail("commit", AWAY, after=True)
    bench.store.fail("sent_work", AWAY, times=3)

    for _ in range(4):
        bench.try_turn(Unreachable)
    bench.turns()

    assert len(bench.take_tasks()) == 1


def test_after_a_commit_by_another_owner_the_turn_is_fenced_and_sends_nothing(bench: Bench) -> None:
    bench.start(one_step(), "a")
    bench.database.leases.close()
    assert bench.database.leases.acquire("another") is not None

    bench.try_turn(Fenced)

    assert not bench.broker.tasks


def test_one_run_that_the_database_refuses_is_blocked_and_all_others_are_committed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    flow = one_step()
    runs = [bench.start(flow, str(number)) for number in range(9)]
    bench.turns()
    offender = runs[4]
    tasks = bench.take_tasks()
    for task in tasks:
        bench.complete(task)

    def refuses(writes: Sequence[RunWrites], *_: Any) -> bool:
        return any(write.run_id == offender and write.is_closed for write in writes)

    bench.store.fail("commit", Refused("too large"), when=refuses, times=100)
    bench.turns()

    assert {bench.status(run_id) for run_id in runs if run_id != offender} == {"COMPLETED"}
    assert bench.events(offender) == ["run.started", "step.scheduled", "run.blocked"]
    assert "too large" in bench.error(offender).message
    (letter,) = bench.letters()
    assert (letter.source, letter.run_id) == ("report", offender)
    assert "too large" in letter.reason
    assert offender in caplog.text
    assert bench.turn() is False


def test_a_run_that_was_refused_goes_on_after_a_restart(bench: Bench) -> None:
    run_id = bench.start(one_step(), "a")
    bench.turns()
    bench.complete(bench.take_task(), 1)
    bench.store.fail("commit", Refused("too large"))
    bench.turns()
    assert bench.status(run_id) == "BLOCKED"

    bench.crash()
    bench.work()

    assert bench.status(run_id) == "COMPLETED"


def test_a_run_whose_blocking_is_refused_too_loses_its_messages_to_the_dead_letters_only(bench: Bench) -> None:
    flow = one_step()
    offender, other = bench.start(flow, "a"), bench.start(flow, "b")
    bench.turns()
    for task in bench.take_tasks():
        bench.complete(task)

    def refuses(writes: Sequence[RunWrites], *_: Any) -> bool:
        return any(write.run_id == offender and write.events for write in writes)

    bench.store.fail("commit", Refused("no"), when=refuses, times=100)
    bench.turns()

    assert (bench.status(offender), bench.status(other)) == ("RUNNING", "COMPLETED")
    assert [letter.run_id for letter in bench.letters()] == [offender]


def test_a_run_of_which_the_database_refuses_everything_does_not_stop_the_others(bench: Bench) -> None:
    flow = one_step()
    offender, other = bench.start(flow, "a"), bench.start(flow, "b")
    bench.turns()
    for task in bench.take_tasks():
        bench.complete(task)
    bench.request(offender)
    bench.store.fail("commit", Refused("no"), when=touches(offender), times=100)

    bench.turns()

    assert (bench.status(offender), bench.status(other)) == ("RUNNING", "COMPLETED")
    assert bench.inbox_size() == 1


def test_a_start_that_the_database_refuses_is_a_dead_letter(bench: Bench) -> None:
    flow = one_step()
    offender, other = bench.start(flow, "a"), bench.start(flow, "b")

    def refuses(writes: Sequence[RunWrites], *_: Any) -> bool:
        return any(write.run_id == offender and write.events for write in writes)

    bench.store.fail("commit", Refused("no"), when=refuses, times=100)
    bench.turns()

    assert (bench.status(offender), bench.status(other)) == ("unknown", "RUNNING")
    assert [(letter.source, letter.run_id) for letter in bench.letters()] == [("inbox", offender)]
    assert bench.inbox_size() == 0


def test_what_the_broker_did_not_take_is_published_by_the_next_turn_though_there_is_nothing_else_to_do(
    bench: Bench,
) -> None:
    run_id = bench.start(one_step(), "a")
    bench.publisher.fail("publish", Unreachable("the broker is away"), times=2)

    bench.try_turn(Unreachable)
    bench.try_turn(Unreachable)
    assert bench.turn() is False

    bench.complete(bench.take_task())
    bench.turns()
    assert bench.events(run_id) == ONE_STEP


def test_what_the_broker_did_not_take_is_published_after_a_crash(bench: Bench) -> None:
    run_id = bench.start(one_step(), "a")
    bench.publisher.fail("publish", Unreachable("the broker is away"))
    bench.try_turn(Unreachable)

    bench.crash()

    assert bench.take_task().run_id == run_id


def test_a_publish_that_failed_after_it_sent_repeats_messages_and_no_outcome(bench: Bench) -> None:
    run_id = bench.start(one_step(), "a")
    bench.publisher.fail("publish", Unreachable("the broker is away"), after=True)

    bench.try_turn(Unreachable)
    bench.turns()

    tasks = bench.take_tasks()
    assert len(tasks) == 2
    assert len({task.message_id for task in tasks}) == 1
    for task in tasks:
        bench.complete(task, 1)
    bench.turns()
    assert bench.events(run_id) == ONE_STEP


def test_reports_are_acknowledged_after_the_publish_and_count_once(bench: Bench) -> None:
    run_id = bench.start(one_step(), "a")
    bench.turns()
    bench.complete(bench.take_task(), 1)
    other = bench.start(one_step_named("second"), "b")
    bench.publisher.fail("publish", Unreachable("the broker is away"))

    bench.try_turn(Unreachable)
    assert len(bench.reports.take(10)) == 1
    bench.turns()

    assert not bench.reports.take(10)
    assert bench.events(run_id) == ONE_STEP
    assert bench.take_task().run_id == other


def one_step_named(name: str) -> Workflow[[str], Any]:
    @step(name=f"{name} step")
    def work(name: str) -> int:
        raise NotImplementedError

    @workflow(name=name)
    async def flow(name: str) -> Any:
        return await work(name)

    return flow


def test_a_timer_is_on_time_though_the_turn_that_set_it_could_not_publish(bench: Bench) -> None:
    @step
    def work() -> None:
        raise NotImplementedError

    @workflow
    async def flow() -> None:
        import asyncio

        async with asyncio.TaskGroup() as group:
            group.create_task(work())
            await sleep("5s")

    run_id = bench.start(flow)
    bench.publisher.fail("publish", Unreachable("the broker is away"))
    bench.try_turn(Unreachable)

    bench.advance(seconds=5)
    bench.turns()

    assert "timer.fired" in bench.events(run_id)


def test_a_client_is_told_of_a_commit_though_the_publish_failed(bench: Bench) -> None:
    told: list[str] = []
    bench = Bench(observers=[lambda writes: told.extend(write.run_id for write in writes)])
    run_id = bench.start(one_step(), "a")
    bench.publisher.fail("publish", Unreachable("the broker is away"))

    bench.try_turn(Unreachable)

    assert told == [run_id]
    bench.coordinator.stop()


def test_an_observer_that_raises_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def observer(writes: Sequence[RunWrites]) -> None:
        raise ValueError("a bug of the observer")

    bench = Bench(observers=[observer])
    run_id = bench.start(one_step(), "a")

    bench.work()

    assert bench.status(run_id) == "COMPLETED"
    assert "a bug of the observer" in caplog.text
    bench.coordinator.stop()


def test_an_inbox_that_does_not_answer_loses_nothing(bench: Bench) -> None:
    run_id = bench.start(one_step(), "a")
    bench.turns()
    bench.complete(bench.take_task(), 1)
    bench.inbox.fail("take", AWAY)

    bench.try_turn(Unreachable)
    bench.turns()

    assert bench.events(run_id) == ONE_STEP


def test_a_load_that_fails_loses_nothing_of_the_turn(bench: Bench) -> None:
    @workflow
    async def sleeper() -> str:
        await sleep("10s")
        return "slept"

    flow = one_step()
    sleeping, working = bench.start(sleeper), bench.start(flow, "a")
    bench.turns()
    bench.crash()
    bench.complete(bench.take_task(), 1)
    bench.request(sleeping, message_id="late")
    fresh = bench.start(flow, "b")
    bench.advance(seconds=10)
    bench.store.fail("load", AWAY)

    bench.try_turn(Unreachable)
    bench.turns()

    assert bench.status(working) == "COMPLETED"
    assert bench.status(sleeping) in {"COMPLETED", "CANCELLED"}
    assert bench.take_task().run_id == fresh


def test_due_work_that_cannot_be_read_is_read_by_the_next_turn(bench: Bench) -> None:
    @workflow
    async def sleeper() -> str:
        await sleep("10m")
        return "slept"

    run_id = bench.start(sleeper)
    bench.turns()
    bench.advance(minutes=10)
    bench.store.fail("due_work", AWAY)

    bench.try_turn(Unreachable)
    bench.turns()

    assert bench.status(run_id) == "COMPLETED"


def test_a_report_that_cannot_be_put_aside_is_put_aside_later_and_stops_nobody(bench: Bench) -> None:
    run_id = bench.start(one_step(), "a")
    bench.turns()
    bench.reports.put("foreign")
    bench.complete(bench.take_task(), 1)
    bench.store.fail("put_aside", AWAY, times=2)

    bench.try_turn(Unreachable)
    bench.try_turn(Unreachable)
    bench.turns()

    assert [letter.body for letter in bench.letters()] == ["foreign"]
    assert bench.status(run_id) == "COMPLETED"


def test_a_report_is_put_aside_once_however_often_its_turn_is_taken_again(bench: Bench) -> None:
    bench.reports.put("foreign")
    bench.start(one_step(), "a")
    bench.store.fail("commit", AWAY, times=3)
    bench.publisher.fail("publish", AWAY, times=3)

    for _ in range(6):
        bench.try_turn(Unreachable)
    bench.turns()

    assert [letter.body for letter in bench.letters()] == ["foreign"]


def test_a_report_that_the_database_refuses_to_put_aside_is_dropped_alone(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    for text in ("one", "bad", "two"):
        bench.reports.put(text)

    def refuses(letters: Sequence[DeadLetter]) -> bool:
        return any(letter.body == "bad" for letter in letters)

    bench.store.fail("put_aside", Refused("no"), when=refuses, times=100)

    with caplog.at_level(logging.ERROR):
        bench.turns()

    assert [letter.body for letter in bench.letters()] == ["one", "two"]
    assert "'bad'" in caplog.text
    assert not bench.reports.take(10)


def test_an_exception_inside_the_advance_puts_that_runs_messages_aside_and_the_others_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from dramaturg_coordinator.core import decide

    flow = one_step()
    offender, other = bench.start(flow, "a"), bench.start(flow, "b")
    bench.turns()
    for task in bench.take_tasks():
        bench.complete(task, 1)
    real = decide.on_report

    def broken(state: Any, *args: Any, **said: Any) -> Any:
        if state.run_id == offender:
            raise ZeroDivisionError("a bug")
        return real(state, *args, **said)

    monkeypatch.setattr(decide, "on_report", broken)
    bench.turns()

    assert (bench.status(offender), bench.status(other)) == ("RUNNING", "COMPLETED")
    (letter,) = bench.letters()
    assert letter.run_id == offender
    assert "ZeroDivisionError: a bug" in letter.reason
    assert "could not be advanced" in caplog.text
    assert bench.events(offender) == ["run.started", "step.scheduled"]


def test_what_a_bug_did_to_a_run_in_memory_is_forgotten(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from dramaturg_coordinator import advance, run_record

    run_id = bench.start(one_step(), "a")
    bench.turns()
    task = bench.take_task()
    real = run_record.record_of

    def broken(*args: Any) -> Any:
        raise ZeroDivisionError("a bug, after the events were applied")

    monkeypatch.setattr(advance, "record_of", broken)
    bench.complete(task, 1)
    bench.turns()
    monkeypatch.setattr(advance, "record_of", real)

    bench.complete(task, 2)
    bench.turns()

    assert bench.record(run_id).result == "2"
    assert bench.events(run_id) == ONE_STEP


def test_a_blocked_run_is_tried_again_though_the_first_try_met_a_fault(bench: Bench) -> None:
    run_id = bench.start("later")
    bench.turns()
    assert bench.status(run_id) == "BLOCKED"

    @workflow(name="later")
    async def flow() -> str:
        return "here"

    bench.crash()
    bench.store.fail("commit", AWAY)
    bench.try_turn(Unreachable)
    bench.turns()

    assert bench.status(run_id) == "COMPLETED"


def test_a_crash_between_any_two_calls_of_the_ports_loses_nothing_and_records_nothing_twice() -> None:
    @step
    def work(number: int) -> int:
        raise NotImplementedError

    @workflow
    async def flow() -> int:
        await sleep("1s")
        return await work(1) + await work(2)

    class Crash(BaseException):
        pass

    def undisturbed(bench: Bench, run_id: str) -> None:
        while bench.status(run_id) != "COMPLETED":
            bench.work(lambda task: task.seq)
            bench.advance(seconds=1)

    for port in ("store", "inbox", "publisher"):
        for name in {"store": ("commit", "load", "due_work"), "inbox": ("take",), "publisher": ("publish",)}[port]:
            for nth in range(6):
                for after in (False, True):
                    bench = Bench()
                    run_id = bench.start(flow)
                    getattr(bench, port).fail(name, Crash(), after=after, when=nth_call(nth))
                    try:
                        undisturbed(bench, run_id)
                    except Crash:
                        bench.crash()
                        undisturbed(bench, run_id)
                    history = bench.events(run_id)
                    assert history.count("step.completed") == 2, (port, name, nth, after)
                    assert history.count("timer.fired") == 1, (port, name, nth, after)
                    assert bench.record(run_id).result == "5", (port, name, nth, after)
                    assert not bench.letters()
                    bench.coordinator.stop()


def test_a_terminate_in_the_turn_that_could_not_commit_counts_once(bench: Bench) -> None:
    run_id = bench.start(one_step(), "a")
    bench.turns()
    bench.request(run_id, RequestKind.TERMINATE)
    bench.store.fail("commit", AWAY, after=True)

    bench.try_turn(Unreachable)
    bench.turns()

    assert bench.events(run_id) == ["run.started", "step.scheduled", "run.terminated"]
