"""Local steps in turns that fail, are repeated, lose their lease: driven by hand, with an executor that does as told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dramaturg import Workflow, step, workflow
from dramaturg_coordinator import advancing
from dramaturg_coordinator.local_steps import LocalSteps, NoLocalExecutor
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.events import RunBlocked
from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.messages import ReportKind, RequestKind, StepReport, StepTask
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import WorkKind
from tests.unit.coordinator.bench import Bench

AWAY = Unreachable("the database is away")


class Hand:
    """The port `LocalExecutor`: an attempt ends when the test says so, or at once with `answers`."""

    def __init__(self) -> None:
        self.begun: list[StepTask] = []
        self.ended: list[StepTask] = []
        self.reports: dict[str, Callable[[StepReport], None]] = {}
        self.answers: Callable[[StepTask], object] | None = None

    def begin(self, task: StepTask, report: Callable[[StepReport], None]) -> Callable[[], None]:
        self.begun.append(task)
        self.reports[task.message_id] = report
        if self.answers is not None:
            self.complete(task, self.answers(task))
        return lambda: self.ended.append(task)

    def complete(self, task: StepTask, result: object = 0) -> None:
        self.reports[task.message_id](
            StepReport(
                task.run_id,
                task.generation,
                task.seq,
                task.attempt,
                task.partition,
                ReportKind.COMPLETED,
                result=Payload(str(result)),
                worker="local hand",
            )
        )


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def bench(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> Bench:
    # However slow the machine is: what answers at once is taken by the same turn.
    monkeypatch.setattr(advancing, "SLICE", 60.0)
    return Bench(local=hand)


def chain(length: int, **options: Any) -> Workflow[[], int]:
    @step(local=True, **options)
    def work(value: int) -> int:
        raise NotImplementedError

    @workflow
    async def flow() -> int:
        value = 0
        for _ in range(length):
            value = await work(value)
        return value

    return flow


def test_what_begins_and_ends_within_a_turn_leaves_no_row_of_open_work(bench: Bench, hand: Hand) -> None:
    hand.answers = lambda task: task.seq
    run_id = bench.start(chain(5))
    bench.store.calls.clear()
    bench.turn()

    assert bench.status(run_id) == "COMPLETED"
    assert bench.store.calls.count("commit") == 1
    assert not bench.open_work(run_id)


def test_one_that_is_under_way_has_a_row_that_is_never_published(bench: Bench, hand: Hand) -> None:
    run_id = bench.start(chain(1))
    bench.turns()

    (item,) = bench.open_work(run_id)
    assert (item.kind, item.message) == (WorkKind.LOCAL, None)
    assert bench.broker.tasks == []

    hand.complete(hand.begun[0], 7)
    bench.turns()
    assert bench.status(run_id) == "COMPLETED"


def test_a_turn_that_did_not_commit_finds_the_step_under_way_and_begins_no_second_one(bench: Bench, hand: Hand) -> None:
    run_id = bench.start(chain(1))
    bench.store.fail("commit", AWAY)
    bench.try_turn(Unreachable)
    bench.turns()
    hand.complete(hand.begun[0])
    bench.turns()

    assert bench.status(run_id) == "COMPLETED"
    assert len(hand.begun) == 1


@pytest.mark.parametrize("is_after", [False, True])
def test_outcomes_of_a_turn_that_did_not_commit_are_used_again(bench: Bench, hand: Hand, is_after: bool) -> None:
    hand.answers = lambda task: task.seq
    run_id = bench.start(chain(5))
    bench.store.fail("commit", AWAY, after=is_after)
    bench.try_turn(Unreachable)
    bench.turns()

    assert bench.status(run_id) == "COMPLETED"
    assert [task.seq for task in hand.begun] == [1, 2, 3, 4, 5]


def test_an_outcome_that_came_while_the_database_was_away_is_not_lost(bench: Bench, hand: Hand) -> None:
    run_id = bench.start(chain(2))
    bench.turns()
    hand.complete(hand.begun[0])
    bench.store.fail("commit", AWAY, times=2)
    bench.try_turn(Unreachable)
    bench.try_turn(Unreachable)
    bench.turns()
    hand.complete(hand.begun[1])
    bench.turns()

    assert bench.status(run_id) == "COMPLETED"
    assert [task.seq for task in hand.begun] == [1, 2]


def test_a_coordinator_that_takes_over_begins_again_what_was_under_way(bench: Bench, hand: Hand) -> None:
    run_id = bench.start(chain(2))
    bench.turns()
    bench.crash()
    bench.turns()

    assert [task.seq for task in hand.begun] == [1, 1]
    assert hand.ended == [hand.begun[0]]
    hand.complete(hand.begun[1])
    hand.answers = lambda task: task.seq
    bench.turns()
    assert [task.seq for task in hand.begun] == [1, 1, 2]
    assert bench.status(run_id) == "COMPLETED"


def test_one_that_became_a_step_of_workers_meanwhile_is_published_by_the_next_coordinator(
    bench: Bench, hand: Hand
) -> None:
    run_id = bench.start(chain(1))
    bench.turns()
    definition = registry.steps["work"]
    assert isinstance(definition.options, dict)
    definition.options["local"] = False
    bench.crash()
    bench.turns()

    assert len(hand.begun) == 1
    bench.complete(bench.take_task())
    bench.turns()
    assert bench.status(run_id) == "COMPLETED"


def test_one_that_ends_the_process_is_not_begun_again_and_its_run_is_blocked(bench: Bench, hand: Hand) -> None:
    run_id = bench.start(chain(1))
    other = bench.start(chain(1))
    bench.turns()
    bench.peers.deaths[run_id] = "a coordinator's process ended with exit code 7"
    bench.crash()
    bench.turns()
    bench.crash()
    bench.turns()

    assert [task.run_id for task in hand.begun].count(run_id) == 1
    assert [task.run_id for task in hand.begun].count(other) == 3
    assert bench.events(run_id) == ["run.started", "step.scheduled", "run.blocked"]
    (blocked,) = [event.body for event in bench.history(run_id) if isinstance(event.body, RunBlocked)]
    assert blocked.reason == "deadly"

    bench.peers.deaths.clear()
    bench.crash()
    bench.turns()
    hand.complete(hand.begun[-1])
    hand.complete(hand.begun[-2])
    bench.turns()
    assert bench.status(run_id) == bench.status(other) == "COMPLETED"


def test_an_attempt_that_is_due_is_not_begun_where_the_one_before_it_ended_the_process(
    bench: Bench, hand: Hand
) -> None:
    run_id = bench.start(chain(1))
    bench.turns()
    task = hand.begun[0]
    hand.reports[task.message_id](
        StepReport(
            run_id, 1, task.seq, 1, task.partition, ReportKind.FAILED, error_type="ValueError", bases=("Exception",)
        )
    )
    bench.turns()
    assert bench.events(run_id)[-1] == "step.retrying"
    bench.peers.deaths[run_id] = "a coordinator's process ended with exit code 7"
    bench.crash()
    bench.advance(minutes=1)
    bench.turns()

    assert len(hand.begun) == 1
    assert bench.status(run_id) == "BLOCKED"


def test_what_a_closed_run_has_under_way_is_ended_after_the_commit(bench: Bench, hand: Hand) -> None:
    run_id = bench.start(chain(1))
    bench.turns()
    bench.request(run_id, RequestKind.TERMINATE)
    bench.store.fail("commit", AWAY)
    bench.try_turn(Unreachable)
    assert hand.ended == []
    bench.turns()

    assert bench.status(run_id) == "TERMINATED"
    assert hand.ended == hand.begun


def test_whoever_ends_while_nobody_looks_wakes_the_coordinator_once(hand: Hand) -> None:
    wakes: list[int] = []
    local = LocalSteps(hand, lambda: wakes.append(1))
    tasks = [StepTask("run", 1, seq, 1, 1, "work", "q", "flow", "run", Payload("{}"), 1) for seq in (1, 2, 3)]
    for task in tasks:
        local.begin(task)

    hand.complete(tasks[0])
    assert wakes == []
    assert not local.rest()
    assert len(local.take()) == 1
    assert local.rest()
    hand.complete(tasks[1])
    hand.complete(tasks[2])

    assert wakes == [1]
    assert len(local.take()) == 2


def test_another_step_at_the_same_position_replaces_the_one_that_is_under_way(hand: Hand) -> None:
    local = LocalSteps(hand, lambda: None)
    first = StepTask("run", 1, 1, 1, 1, "work", "q", "flow", "run", Payload("{}"), 1)
    other = StepTask("run", 1, 1, 1, 1, "other", "q", "flow", "run", Payload("{}"), 1)
    local.begin(first)
    of_first = hand.reports[first.message_id]
    local.begin(other)

    assert hand.ended == [first]
    hand.reports[other.message_id], of_other = of_first, hand.reports[other.message_id]
    hand.complete(first)
    assert local.take() == []
    hand.reports[other.message_id] = of_other
    hand.complete(other)
    assert [report.seq for report in local.take()] == [1]


def test_steps_of_partitions_that_were_lost_are_ended_and_not_heard_any_more(hand: Hand) -> None:
    local = LocalSteps(hand, lambda: None)
    tasks = [StepTask(f"run{p}", 1, 1, 1, p, "work", "q", "flow", "run", Payload("{}"), 1) for p in (1, 2)]
    for task in tasks:
        local.begin(task)
    local.give_up([1])
    for task in tasks:
        hand.complete(task)

    assert hand.ended == [tasks[0]]
    assert [report.run_id for report in local.take()] == ["run2"]


def test_a_coordinator_without_threads_of_its_own_says_so() -> None:
    bench = Bench(local=NoLocalExecutor())
    run_id = bench.start(chain(1))
    bench.turns()

    assert bench.status(run_id) == "FAILED"
    assert "leave `local` out" in bench.error(run_id).message
