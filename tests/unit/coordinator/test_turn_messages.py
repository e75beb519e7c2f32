"""Messages that are damaged, foreign, doubled, late or out of order: put aside or without effect, and nobody is stopped."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from dramaturg import RetryPolicy, Workflow, sleep, step, workflow
from dramaturg_coordinator.turn import BATCH
from dramaturg_protocol.messages import ReportKind, Request, RequestKind, StepReport, decode_task, encode_message
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import Unreadable
from dramaturg_protocol.request_bodies import ControlBody, StartBody
from dramaturg_protocol.run_events import RunCancelRequested
from tests.unit.coordinator.bench import Bench

ONE_STEP = ["run.started", "step.scheduled", "step.completed", "run.completed"]


def one_step(**options: Any) -> Workflow[[str], Any]:
    @step(**options)
    def work(name: str) -> int:
        raise NotImplementedError

    @workflow
    async def flow(name: str) -> Any:
        return await work(name)

    return flow


# Damaged and foreign.


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "{}",
        '{"run_id": "x"}',
        '{"run_id": 1, "generation": "a"}',
        "\x00\ud800",
    ],
)
def test_a_report_that_is_none_is_put_aside_and_the_next_one_counts(bench: Bench, text: str) -> None:
    run_id = bench.start(one_step(), "a")
    bench.turns()

    bench.reports.put(text)
    bench.complete(bench.take_task())
    bench.turns()

    assert bench.events(run_id) == ONE_STEP
    assert [letter.source for letter in bench.letters()] == ["report"]


def test_a_report_cut_off_anywhere_is_put_aside(bench: Bench) -> None:
    run_id = bench.start(one_step(), "a")
    bench.turns()
    task = bench.take_task()
    report = StepReport(
        run_id, 1, task.seq, 1, 1, ReportKind.COMPLETED, result=Payload('{"a": [1, 2]}'), worker="somebody"
    )
    text = encode_message(report)

    for end in range(len(text)):
        bench.reports.put(text[:end])
    bench.turns()

    assert bench.events(run_id) == ["run.started", "step.scheduled"]
    assert len(bench.letters()) == len(text)


def test_a_result_that_is_no_json_is_put_aside_and_damages_no_history(bench: Bench) -> None:
    run_id = bench.start(one_step(), "a")
    bench.turns()
    task = bench.take_task()

    bench.report(task, ReportKind.COMPLETED, result=Payload('{"cut off'))
    bench.turns()
    assert not isinstance(bench.database.store.load([run_id])[run_id], Unreadable)
    bench.complete(task, 3)
    bench.turns()

    assert bench.events(run_id) == ONE_STEP
    assert [letter.source for letter in bench.letters()] == ["report"]


def test_a_start_whose_arguments_are_no_json_is_put_aside(bench: Bench) -> None:
    body = encode_message(StartBody("flow", "foreign", Payload("{cut off")))
    bench.request("foreign", RequestKind.START, body=body)
    run_id = bench.start(one_step(), "a")

    bench.turns()

    assert bench.status("foreign") == "unknown"
    assert bench.status(run_id) == "RUNNING"
    assert [(letter.source, letter.run_id) for letter in bench.letters()] == [("inbox", "foreign")]


@pytest.mark.parametrize("kind", list(RequestKind))
def test_an_inbox_row_with_a_damaged_body_is_put_aside(bench: Bench, kind: RequestKind) -> None:
    run_id = bench.start(one_step(), "a")
    bench.turns()

    bench.request(run_id if kind is not RequestKind.START else "new", kind, body="{damaged")
    bench.turns()

    assert bench.events(run_id) == ["run.started", "step.scheduled"]
    assert [letter.source for letter in bench.letters()] == ["inbox"]
    assert bench.inbox_size() == 0


def test_a_request_of_a_kind_that_this_version_does_not_know_is_put_aside_and_does_nothing(bench: Bench) -> None:
    run_id = bench.start(one_step(), "a")
    bench.turns()

    bench.request(run_id, cast("RequestKind", "signal"), body='{"name": "x", "reason": "y"}')
    bench.turns()

    assert bench.events(run_id) == ["run.started", "step.scheduled"]
    (letter,) = bench.letters()
    assert "'signal'" in letter.reason
    assert bench.inbox_size() == 0


def test_a_run_whose_start_was_damaged_begins_with_a_good_one(bench: Bench) -> None:
    flow = one_step()
    run_id = bench.start(flow, "a")
    (good,) = bench.database.tables.inbox.values()
    bench.database.tables.inbox[good.arrival] = replace(good, body="{")
    bench.turns()
    bench.request(run_id)
    bench.turns()

    bench.database.inbox.put([replace(good, message_id="again")])
    bench.turns()

    assert bench.events(run_id)[:3] == ["run.started", "step.scheduled", "run.cancel_requested"]


def test_a_report_of_an_unknown_run_is_ignored(bench: Bench) -> None:
    bench.reports.put(encode_message(StepReport("nobody", 1, 1, 1, 1, ReportKind.COMPLETED, result=Payload("1"))))

    bench.turns()

    assert not bench.letters()
    assert not bench.reports.take(10)


@pytest.mark.parametrize(
    "change",
    [
        {"generation": 2},
        {"generation": -1},
        {"seq": 99},
        {"seq": -1},
        {"attempt": 2},
        {"attempt": 0},
        {"partition": 77},
    ],
)
def test_a_report_of_another_attempt_changes_nothing(bench: Bench, change: dict[str, Any]) -> None:
    run_id = bench.start(one_step(), "a")
    bench.turns()
    task = bench.take_task()
    report = StepReport(run_id, 1, task.seq, 1, 1, ReportKind.FAILED, error_type="X", fatal=True)

    bench.reports.put(encode_message(replace(report, **change)))
    bench.turns()

    expected = ["run.started", "step.scheduled"]
    if "partition" in change:
        expected += ["step.failed", "run.failed"]
    assert bench.events(run_id) == expected


# Runs that cannot be read.


def damage(bench: Bench, run_id: str, number: int, data: str) -> Callable[[], None]:
    rows = bench.database.tables.events[run_id]
    whole = rows[number]
    rows[number] = (*whole[:4], data)

    def repair() -> None:
        rows[number] = whole

    return repair


def test_a_run_that_cannot_be_read_is_left_as_it_is_until_it_is_repaired(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    flow = one_step()
    broken, healthy = bench.start(flow, "a"), bench.start(flow, "b")
    bench.turns()
    repair = damage(bench, broken, 2, "{damaged")
    bench.crash()
    for task in bench.take_tasks():
        bench.complete(task, 1)
    bench.request(broken)

    with caplog.at_level(logging.ERROR):
        bench.turns()

    assert bench.status(healthy) == "COMPLETED"
    assert bench.inbox_size() == 1
    assert f"run {broken} cannot be read" in caplog.text
    assert "event 2" in caplog.text
    assert [letter.run_id for letter in bench.letters()] == [broken]
    caplog.clear()
    bench.advance(days=3)
    bench.turns()
    assert bench.inbox_size() == 1

    repair()
    bench.crash()
    bench.work()

    assert bench.inbox_size() == 0
    ends = ["run.cancel_requested", "step.cancelled", "run.cancelled"]
    assert bench.events(broken) == ["run.started", "step.scheduled", *ends]


@pytest.mark.parametrize(
    ("number", "kind", "data"),
    [
        (2, "step.completed", '{"seq": 1, "name": "x", "attempt": 1, "result": 1}'),
        (2, "timer.fired", '{"seq": 1}'),
        (2, "run.started", '{"message_id":"m","workflow_id":"w","workflow":"flow","version":1,"input":{}}'),
        (2, "unknown.event", "{}"),
        (2, "step.scheduled", "[]"),
        (1, "step.scheduled", '{"seq": 1, "name": "x", "input": {}, "queue": "q"}'),
    ],
)
def test_a_history_whose_events_do_not_follow_from_each_other_stops_nobody(
    bench: Bench, number: int, kind: str, data: str
) -> None:
    flow = one_step()
    broken, healthy = bench.start(flow, "a"), bench.start(flow, "b")
    bench.turns()
    rows = bench.database.tables.events[broken]
    rows[number] = (broken, number, kind, rows[number][3], data)
    bench.crash()
    for task in bench.take_tasks():
        bench.complete(task, 1)

    bench.turns()

    assert bench.status(healthy) == "COMPLETED"
    assert bench.status(broken) == "RUNNING"


def test_a_timer_of_a_run_that_cannot_be_read_fires_once_it_is_repaired(bench: Bench) -> None:
    @workflow
    async def sleeper() -> str:
        await sleep("10s")
        return "slept"

    run_id = bench.start(sleeper)
    bench.turns()
    repair = damage(bench, run_id, 2, "{damaged")
    bench.crash()
    bench.advance(seconds=20)
    bench.turns()

    repair()
    bench.crash()
    bench.turns()

    assert bench.status(run_id) == "COMPLETED"


# Requests that come too early.


def test_a_request_for_an_unknown_run_waits_a_day_and_is_put_aside_then(bench: Bench) -> None:
    bench.request("nobody")
    bench.turns()
    bench.advance(hours=23, minutes=59)
    bench.turns()
    assert bench.inbox_size() == 1
    assert not bench.letters()

    bench.advance(minutes=2)
    bench.turns()

    assert bench.inbox_size() == 0
    (letter,) = bench.letters()
    assert (letter.source, letter.run_id) == ("inbox", "nobody")
    assert "within 1 day" in letter.reason
    assert bench.turn() is False


def test_a_request_that_comes_before_its_run_counts_when_the_run_begins(bench: Bench) -> None:
    flow = one_step()
    order_of_start = bench.start(flow, "a")
    (start,) = bench.database.tables.inbox.values()
    del bench.database.tables.inbox[start.arrival]
    bench.database.tables.message_ids.clear()
    bench.request(order_of_start)
    bench.turns()
    bench.advance(hours=5)
    bench.turns()

    bench.database.inbox.put([start])
    bench.turns()
    bench.turns()

    assert "run.cancel_requested" in bench.events(order_of_start)


def test_a_request_in_the_same_turn_as_its_start_counts_whichever_came_first(bench: Bench) -> None:
    run_id = bench.start(one_step(), "a")
    (start,) = bench.database.tables.inbox.values()
    del bench.database.tables.inbox[start.arrival]
    bench.database.tables.message_ids.clear()
    bench.request(run_id)
    bench.database.inbox.put([start])

    bench.turns()

    assert bench.events(run_id)[-1] == "run.cancelled"
    assert "run.cancel_requested" in bench.events(run_id)


def test_requests_that_wait_do_not_keep_others_from_their_turn(bench: Bench) -> None:
    for number in range(3 * BATCH):
        bench.request(f"nobody {number}")
    run_id = bench.start(one_step(), "a")

    bench.turns()
    bench.turns()
    bench.turns()
    bench.work()

    assert bench.status(run_id) == "COMPLETED"
    assert bench.inbox_size() == 3 * BATCH


def test_requests_of_other_runs_do_not_keep_the_only_one_from_its_turn() -> None:
    bench = Bench()
    flow = one_step()
    others = [bench.start(flow, str(number)) for number in range(BATCH + 10)]
    mine = bench.start(flow, "mine")
    bench.only = {mine}
    bench.crash()

    bench.turn()
    bench.turn()
    bench.work()
    bench.advance(days=2)
    bench.work()

    assert bench.status(mine) == "COMPLETED"
    assert {bench.status(run_id) for run_id in others} == {"unknown"}
    assert bench.inbox_size() == len(others)
    assert not bench.letters()
    bench.coordinator.stop()


# More than one turn takes.


def test_more_messages_than_one_turn_takes_are_taken_by_the_next_ones(bench: Bench) -> None:
    flow = one_step()
    runs = [bench.start(flow, str(number)) for number in range(BATCH + 7)]

    bench.turn()
    assert bench.inbox_size() == len(runs) - BATCH
    bench.turns()
    tasks = bench.take_tasks()
    assert len(tasks) == len(runs)
    for task in tasks:
        bench.complete(task, 1)
    bench.turns()

    assert {bench.status(run_id) for run_id in runs} == {"COMPLETED"}
    assert not bench.reports.take(1)


# Doubled, late and out of order.


def copies_of(report: StepReport) -> list[str]:
    return [encode_message(report)] * 2


@pytest.mark.parametrize(
    "kind",
    [
        ReportKind.STARTED,
        ReportKind.COMPLETED,
        ReportKind.FAILED,
        ReportKind.TIMED_OUT,
        ReportKind.RELEASED,
    ],
)
@pytest.mark.parametrize("is_same_turn", [True, False])
def test_a_report_that_comes_twice_counts_once(bench: Bench, kind: ReportKind, is_same_turn: bool) -> None:
    run_id = bench.start(one_step(timeout="10s", retries=RetryPolicy(max_attempts=9, initial="1m")), "a")
    bench.turns()
    task = bench.take_task()
    fields: dict[str, Any] = {"result": Payload("1")} if kind is ReportKind.COMPLETED else {}
    if kind is ReportKind.FAILED:
        fields = {"error_type": "X", "bases": ("X", "Exception")}

    bench.report(task, kind, **fields)
    if not is_same_turn:
        bench.turns()
    once = len(bench.events(run_id)) if not is_same_turn else 0
    bench.report(task, kind, **fields)
    bench.turns()

    names = bench.events(run_id)
    assert once in {0, len(names)}
    assert all(names.count(name) == 1 for name in names)
    assert len(bench.take_tasks()) == (1 if kind is ReportKind.RELEASED else 0)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_reports_of_one_attempt_in_any_order_record_one_outcome(bench: Bench, order: Sequence[int]) -> None:
    run_id = bench.start(one_step(), "a")
    bench.turns()
    task = bench.take_task()
    sends: list[Callable[[], object]] = [
        lambda: bench.report(task, ReportKind.STARTED),
        lambda: bench.complete(task, 1),
        lambda: bench.complete(task, 2),
        lambda: bench.fail(task, fatal=True),
    ]

    for index in order:
        sends[index]()
        bench.turns()

    outcomes = [name for name in bench.events(run_id) if name in {"step.completed", "step.failed"}]
    assert len(outcomes) == 1
    assert bench.status(run_id) in {"COMPLETED", "FAILED"}


def test_every_message_doubled_and_shuffled_leads_to_the_same_end() -> None:
    @step(retries=RetryPolicy(max_attempts=3, initial="1s", jitter=False))
    def work(number: int) -> int:
        raise NotImplementedError

    @workflow
    async def flow() -> int:
        total = 0
        for number in range(4):
            total += await work(number)
        return total

    for seed in range(25):
        chance = random.Random(seed)
        bench = Bench()
        run_id = bench.start(flow)
        old: list[str] = []
        while bench.status(run_id) not in {"COMPLETED", "FAILED"}:
            bench.turns()
            texts: list[str] = []
            for task in bench.take_tasks():
                base = StepReport(run_id, 1, task.seq, task.attempt, 1, ReportKind.STARTED, worker="w")
                failed = replace(base, kind=ReportKind.FAILED, error_type="X", bases=("X", "Exception"))
                done = replace(base, kind=ReportKind.COMPLETED, result=Payload(str(task.seq)))
                outcome = failed if task.attempt < 2 else done
                texts += [*copies_of(base), *copies_of(outcome)]
            old += texts
            texts += chance.sample(old, min(len(old), 5))
            chance.shuffle(texts)
            for text in texts:
                bench.reports.put(text)
            bench.turns()
            bench.advance(seconds=chance.choice((0, 2)))

        names = bench.events(run_id)
        assert bench.record(run_id).result == "10", seed
        assert names.count("step.completed") == 4
        assert names.count("step.retrying") == 4
        assert [event.number for event in bench.history(run_id)] == list(range(1, len(names) + 1))
        bench.coordinator.stop()


@pytest.mark.parametrize("kind", [RequestKind.CANCEL, RequestKind.TERMINATE])
def test_a_request_that_comes_twice_counts_once(bench: Bench, kind: RequestKind) -> None:
    run_id = bench.start(one_step(), "a")
    bench.turns()
    for _ in range(3):
        bench.request(run_id, kind, message_id="the same")
        bench.request(run_id, kind, message_id="another")
        bench.turns()

    names = bench.events(run_id)
    assert all(names.count(name) == 1 for name in names)
    assert bench.inbox_size() == 0


def test_a_start_that_comes_twice_begins_one_run(bench: Bench) -> None:
    run_id = bench.start(one_step(), "a")
    (start,) = bench.database.tables.inbox.values()
    bench.turns()
    bench.database.inbox.put([start, replace(start, message_id="a copy under another id")])

    bench.turns()

    assert bench.events(run_id) == ["run.started", "step.scheduled"]
    assert len(bench.take_tasks()) == 1
    assert bench.inbox_size() == 0


def test_messages_for_a_closed_run_change_nothing(bench: Bench) -> None:
    run_id = bench.start(one_step(), "a")
    bench.turns()
    task = bench.take_task()
    bench.complete(task, 1)
    bench.turns()
    record = bench.record(run_id)

    bench.fail(task, fatal=True)
    bench.report(task, ReportKind.STARTED)
    bench.report(task, ReportKind.RELEASED)
    bench.request(run_id)
    bench.request(run_id, RequestKind.TERMINATE)
    bench.turns()

    assert bench.events(run_id) == ONE_STEP
    assert bench.record(run_id) == record


def test_a_foreign_partition_and_a_wrong_message_id_are_no_obstacle(bench: Bench) -> None:
    bench.database.inbox.put([Request("x" * 255, RequestKind.CANCEL, "nobody", 99, "{}")])
    run_id = bench.start(one_step(), "a")

    bench.work()

    assert bench.status(run_id) == "COMPLETED"
    assert bench.clock.now() - bench.record(run_id).started_at < timedelta(seconds=1)


def test_what_is_recorded_of_a_loaded_run_before_its_code_is_needed_does_not_lose_the_outcome(bench: Bench) -> None:
    @step(timeout="30s", retries=3)
    def work(number: int) -> int:
        raise NotImplementedError

    @workflow
    async def flow() -> int:
        return await work(1)

    run_id = bench.start(flow)
    bench.turns()
    bench.crash()
    (item,) = bench.open_work(run_id)
    assert item.message is not None
    task = decode_task(item.message)

    bench.report(task, ReportKind.STARTED, worker="first")
    bench.turns()
    # Delivered again: its pick-up and its outcome come in one turn.
    bench.report(task, ReportKind.STARTED, worker="second")
    bench.complete(task, 7)
    bench.turns()

    assert not bench.letters()
    assert bench.record(run_id).result == "7"


@pytest.mark.parametrize(
    ("ahead", "counts"),
    [(0.25, 0.25), (-0.25, 0.0), (3600.0, 0.0)],
    ids=["a little ahead", "behind", "a clock that was set back since"],
)
def test_what_a_message_brings_is_not_earlier_than_the_message(bench: Bench, ahead: float, counts: float) -> None:
    run_id = bench.start(one_step(), "a")
    bench.turns()
    now = bench.clock.now()
    body = encode_message(ControlBody("somebody"))
    sent_at = now + timedelta(seconds=ahead)
    bench.database.inbox.put([Request("m", RequestKind.CANCEL, run_id, 1, body, sent_at=sent_at)])

    bench.turns()

    stored = bench.database.store.load([run_id])[run_id]
    assert not isinstance(stored, Unreadable)
    (asked,) = (event for event in stored.history if isinstance(event.body, RunCancelRequested))
    assert asked.time == now + timedelta(seconds=counts)
