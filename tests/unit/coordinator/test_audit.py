"""A run whose rows are gone is found between two turns, and goes on."""

from __future__ import annotations

import asyncio

import pytest

from dramaturg import approval, child, sleep, step, workflow
from tests.unit.coordinator.bench import Bench


@step(name="audited")
def pay(cents: int) -> int:
    raise NotImplementedError


def look_at_all(bench: Bench) -> None:
    # The first look of a round only notes what there is to look at.
    bench.look_at_peers()
    bench.look_at_peers()


def test_a_step_whose_row_is_gone_is_sent_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    @workflow
    async def flow() -> int:
        return await pay(1)

    run_id = bench.start(flow)
    bench.turn()
    (lost,) = bench.take_tasks()
    bench.database.tables.work.clear()

    look_at_all(bench)
    bench.turns()

    assert bench.take_task() == lost
    assert len(bench.open_work(run_id)) == 1
    assert f"run {run_id} is stuck: step 'audited' is open and has no row" in caplog.text
    bench.complete(lost)
    bench.turns()
    assert bench.status(run_id) == "COMPLETED"


def test_a_timer_whose_row_is_gone_fires(bench: Bench) -> None:
    @workflow
    async def flow() -> None:
        await sleep("10s")

    run_id = bench.start(flow)
    bench.turn()
    bench.database.tables.work.clear()
    look_at_all(bench)
    assert bench.coordinator.troubles.stuck_runs == 1

    bench.turns()
    bench.crash()
    bench.advance(seconds=11)
    bench.turns()

    assert bench.status(run_id) == "COMPLETED"
    look_at_all(bench)
    assert bench.coordinator.troubles.stuck_runs == 0


def test_a_workflow_that_waits_for_what_its_code_never_does_is_told_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow
    async def flow() -> None:
        await asyncio.Event().wait()

    bench.start(flow)
    bench.turns()
    for _ in range(3):
        look_at_all(bench)

    assert bench.coordinator.troubles.stuck_runs == 1
    assert caplog.text.count("it waits for what its own code never does") == 1
    assert not bench.turn()


def test_runs_that_have_a_next_cause_are_left_alone(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    @workflow
    async def flow() -> int:
        await sleep("1h")
        return await pay(1)

    bench.start(flow)
    bench.turns()
    look_at_all(bench)

    assert bench.coordinator.troubles.stuck_runs == 0
    assert "is stuck" not in caplog.text


def test_an_approval_whose_row_is_gone_is_listed_and_times_out_again(bench: Bench) -> None:
    @workflow
    async def flow() -> bool:
        return (await approval("legal", timeout="10s")).timed_out

    run_id = bench.start(flow)
    bench.turn()
    bench.database.tables.work.clear()
    look_at_all(bench)
    assert bench.coordinator.troubles.stuck_runs == 1

    bench.turns()
    assert len(bench.open_work(run_id)) == 1
    bench.advance(seconds=11)
    bench.turns()

    assert bench.status(run_id) == "COMPLETED"


def test_a_child_whose_end_was_lost_tells_of_it_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    @workflow
    async def lower() -> int:
        return 7

    @workflow
    async def upper() -> int:
        return await child(lower)

    run_id = bench.start(upper)
    while bench.turn():
        lost = [arrival for arrival, each in bench.database.tables.inbox.items() if each.kind == "child_closed"]
        for arrival in lost:
            del bench.database.tables.inbox[arrival]
    assert bench.status(run_id) == "RUNNING"

    look_at_all(bench)
    bench.turns()

    assert bench.status(run_id) == "COMPLETED"
    assert f"run {run_id} waits for a child that has ended" in caplog.text
