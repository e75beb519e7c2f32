"""The sweep: what the broker lost is published again, whatever happens to the broker meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from dramaturg import Workflow, step, workflow
from dramaturg_coordinator.memory import MemoryReports
from dramaturg_protocol.faults import Refused, Unreachable
from dramaturg_protocol.messages import ReportKind, encode_message
from dramaturg_protocol.records import Lease, RunWrites, WorkItem
from tests.unit.coordinator.bench import Bench

AWAY = Unreachable("the broker does not answer")


def one_step() -> Workflow[[], Any]:
    @step
    def work() -> int:
        raise NotImplementedError

    @workflow
    async def flow() -> Any:
        return await work()

    return flow


class LostReports(MemoryReports):
    """What was reported when the sweep looked is gone before it is taken."""

    def mark(self) -> Mapping[str, str]:
        return {"stream": "7-0"}

    def is_past(self, mark: Mapping[str, str]) -> bool:
        return not mark


@pytest.mark.timeout(30)
def test_a_sweep_ends_and_publishes_again_though_the_reports_that_it_waits_for_are_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.start(one_step())
    bench.turns()
    assert len(bench.take_tasks()) == 1
    monkeypatch.setattr("tests.unit.coordinator.bench.MemoryReports", LostReports)

    bench.crash()

    assert len(bench.take_tasks()) == 1


def knows_what_it_has(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the broker be one that can be asked."""
    waiting = bench.broker

    def missing(work: Sequence[WorkItem], _lease: Lease) -> Sequence[WorkItem]:
        there = {(task.run_id, task.generation, task.seq) for task in waiting.tasks}
        return [item for item in work if item.key not in there]

    monkeypatch.setattr(waiting, "can_lose", True)
    monkeypatch.setattr(waiting, "missing", missing)


def test_a_step_that_was_sent_without_an_answer_and_is_done_is_not_sent_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    knows_what_it_has(bench, monkeypatch)
    run_id = bench.start(one_step())
    bench.publisher.fail("publish", AWAY, after=True)
    bench.try_turn(Unreachable)

    bench.complete(bench.take_task(), 5)
    bench.turns()
    bench.coordinator.tend()
    bench.turns()

    assert bench.status(run_id) == "COMPLETED"
    assert not bench.take_tasks()


def test_what_was_not_sent_is_sent_by_the_sweep_that_follows(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    knows_what_it_has(bench, monkeypatch)
    bench.start(one_step())
    bench.publisher.fail("publish", AWAY)
    bench.try_turn(Unreachable)

    bench.publisher.fail("missing", AWAY)
    with pytest.raises(Unreachable):
        bench.coordinator.tend()
    bench.coordinator.tend()

    assert len(bench.take_tasks()) == 1


def test_a_second_copy_of_the_pick_up_does_not_keep_a_step_that_was_handed_back_from_being_sent_again(
    bench: Bench,
) -> None:
    run_id = bench.start(one_step())
    bench.turns()
    task = bench.take_task()
    picked_up = bench.report(task, ReportKind.STARTED)
    bench.report(task, ReportKind.RELEASED)
    bench.turn()

    bench.reports.put(encode_message(picked_up))
    bench.turns()

    assert bench.take_task().release == 1
    assert bench.events(run_id) == ["run.started", "step.scheduled", "step.started", "step.retrying"]


def test_a_step_that_is_sent_again_and_again_without_a_report_is_told_once_and_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    knows_what_it_has(bench, monkeypatch)
    run_id = bench.start(one_step())
    bench.turns()
    task = bench.take_task()
    for times in range(1, 5):
        bench.crash()
        assert bench.take_task() == task
        assert [item.republished for item in bench.open_work(run_id)] == [times]
    bench.crash()

    assert caplog.text.count(f"step 1 of run {run_id} was sent 3 times more without a report") == 1
    assert bench.coordinator.troubles.unreported_steps == 1
    bench.complete(task, 5)
    bench.turns()
    bench.crash()
    assert bench.status(run_id) == "COMPLETED"
    assert bench.coordinator.troubles.unreported_steps == 0


def test_a_count_that_the_database_refuses_keeps_no_step_from_being_sent_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = one_step()
    for _ in range(3):
        bench.start(flow)
    bench.turns()
    refused = bench.take_tasks()[0].run_id
    knows_what_it_has(bench, monkeypatch)
    commit = bench.database.store.commit

    def refuse(writes: Sequence[RunWrites], *rest: Any) -> None:
        if any(each.run_id == refused for each in writes):
            raise Refused("no")
        commit(writes, *rest)

    monkeypatch.setattr(bench.database.store, "commit", refuse)

    bench.crash()

    assert len(bench.take_tasks()) == 3


def test_what_goes_out_again_since_its_broker_cannot_be_asked_says_nothing_of_its_workers(bench: Bench) -> None:
    run_id = bench.start(one_step())
    bench.turns()
    for _ in range(4):
        assert len(bench.take_tasks()) == 1
        bench.crash()

    assert [item.republished for item in bench.open_work(run_id)] == [0]
    assert bench.coordinator.troubles.unreported_steps == 0


def swept_later(bench: Bench) -> None:
    """Let the time of the next sweep come."""
    bench.passed += 31.0
    bench.coordinator.tend()
    bench.turns()


def test_a_step_whose_message_was_taken_four_times_and_of_which_nobody_reports_fails_with_advice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    knows_what_it_has(bench, monkeypatch)
    run_id = bench.start(one_step())
    bench.turns()
    for _ in range(4):
        assert len(bench.take_tasks()) == 1
        assert bench.status(run_id) == "RUNNING"
        swept_later(bench)

    assert not bench.take_tasks()
    assert bench.status(run_id) == "FAILED"
    (letter,) = [each for each in bench.database.tables.letters if each.closed_at is None]
    assert (letter.source, letter.run_id, letter.seq) == ("not_reported", run_id, 1)
    assert "NotReported: its message was acknowledged without an outcome, 4 times" in letter.reason
    assert "a worker without dramaturg.install(broker) serves queue 'default'" in letter.reason


def test_a_step_that_a_broker_lost_which_was_emptied_is_sent_again_however_often(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    knows_what_it_has(bench, monkeypatch)
    emptied: list[bool] = []
    monkeypatch.setattr(bench.broker, "is_emptied", lambda: bool(emptied and emptied.pop()))
    run_id = bench.start(one_step())
    bench.turns()
    for _ in range(9):
        assert len(bench.take_tasks()) == 1
        emptied.append(True)
        bench.passed += 2.0
        bench.coordinator.tend()
        swept_later(bench)

    assert bench.status(run_id) == "RUNNING"
    assert [item.republished for item in bench.open_work(run_id)] == [0]
