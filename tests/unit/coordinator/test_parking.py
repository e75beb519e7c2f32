"""Code that is not here is somewhere else: runs are left to it while it is, and blocked when nobody has it."""

from __future__ import annotations

from typing import Any

from dramaturg import sleep, step, workflow
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.messages import ReportKind, RequestKind
from tests.unit.coordinator.bench import Bench


@step(name="parked_pay")
def pay(cents: int) -> int:
    raise NotImplementedError


@step(name="parked_ship")
def ship(number: int) -> int:
    raise NotImplementedError


def old_code() -> Any:
    registry.workflows.pop("order", None)

    @workflow(name="order")
    async def order() -> int:
        return await pay(1) + await pay(2)

    return order


def new_code() -> Any:
    registry.workflows.pop("order", None)

    @workflow(name="order")
    async def order() -> int:
        return await pay(1) + await ship(2)

    return order


def no_code() -> None:
    registry.workflows.pop("order", None)


def a_run_that_waits_for_its_second_step(bench: Bench) -> str:
    run_id = bench.start(old_code())
    bench.turn()
    bench.complete(bench.take_task())
    bench.turn()
    return run_id


def under_other_code(bench: Bench) -> None:
    """Another coordinator has the partition now; the first one is still there."""
    bench.peers.code = ["old"]
    new_code()
    task = bench.take_task()
    bench.crash()
    bench.complete(task)
    bench.turns()


def test_a_run_that_does_not_fit_here_is_parked_while_other_code_is_there(bench: Bench) -> None:
    run_id = a_run_that_waits_for_its_second_step(bench)
    before = bench.events(run_id)

    under_other_code(bench)

    assert bench.events(run_id) == before
    assert bench.status(run_id) == "RUNNING"
    assert "parked: waits for a coordinator with the code that its history fits" in bench.peers.reasons[run_id]


def test_whoever_has_its_code_takes_it_up_with_all_that_came_meanwhile(bench: Bench) -> None:
    run_id = a_run_that_waits_for_its_second_step(bench)
    under_other_code(bench)

    bench.peers.code = ["new"]
    old_code()
    bench.crash()
    bench.turns()

    assert bench.status(run_id) == "COMPLETED"
    assert bench.inbox_size() == 0
    assert bench.peers.reasons == {}


def test_it_is_blocked_when_nobody_else_is_left(bench: Bench) -> None:
    run_id = a_run_that_waits_for_its_second_step(bench)
    under_other_code(bench)

    bench.peers.code = []
    bench.look_at_peers()
    bench.turns()

    assert bench.status(run_id) == "BLOCKED"
    assert bench.inbox_size() == 0
    assert bench.peers.reasons == {}


def test_nothing_is_tried_while_the_same_others_are_there(bench: Bench) -> None:
    run_id = a_run_that_waits_for_its_second_step(bench)
    under_other_code(bench)
    bench.store.calls.clear()

    bench.look_at_peers()
    bench.turns()

    assert "load" not in bench.store.calls
    assert run_id in bench.peers.reasons


def test_a_start_of_an_unknown_workflow_waits_in_the_inbox(bench: Bench) -> None:
    bench.peers.code = ["new"]
    order = old_code()
    no_code()

    run_id = bench.start(order)
    bench.turns()

    assert bench.status(run_id) == "unknown"
    assert bench.inbox_size() == 1
    assert "waits for a coordinator with its workflow" in bench.peers.reasons[run_id]


def test_a_start_that_nobody_knows_blocks_its_run(bench: Bench) -> None:
    bench.peers.code = ["new"]
    order = old_code()
    no_code()
    run_id = bench.start(order)
    bench.turns()

    bench.peers.code = []
    bench.look_at_peers()
    bench.turns()

    assert bench.status(run_id) == "BLOCKED"


def test_requests_and_timers_of_a_parked_run_wait_too(bench: Bench) -> None:
    @workflow(name="order")
    async def sleeper() -> int:
        await sleep("10s")
        return await pay(1)

    run_id = bench.start(sleeper)
    bench.turn()
    bench.peers.code = ["old"]
    no_code()
    bench.crash()
    bench.request(run_id)
    bench.advance(seconds=11)
    bench.turns()
    assert bench.events(run_id) == ["run.started", "timer.started"]
    assert len(bench.open_work(run_id)) == 1

    registry.workflows["order"] = {1: sleeper.definition}
    bench.peers.code = ["new"]
    bench.look_at_peers()
    bench.turns()

    assert bench.status(run_id) == "CANCELLED"


def test_what_needs_no_code_happens_to_a_parked_run(bench: Bench) -> None:
    run_id = a_run_that_waits_for_its_second_step(bench)
    under_other_code(bench)

    bench.request(run_id, RequestKind.TERMINATE)
    bench.turns()

    assert bench.status(run_id) == "TERMINATED"


def test_a_report_that_comes_twice_is_kept_once(bench: Bench) -> None:
    run_id = a_run_that_waits_for_its_second_step(bench)
    bench.peers.code = ["old"]
    new_code()
    task = bench.take_task()
    bench.crash()
    for _ in range(2):
        bench.report(task, ReportKind.COMPLETED, result="1")
        bench.turns()

    assert bench.inbox_size() == 1
    bench.peers.code = ["new"]
    old_code()
    bench.crash()
    bench.turns()
    assert bench.events(run_id).count("step.completed") == 2


def test_a_blocked_run_is_not_blocked_again_for_another_reason_while_others_are_there(bench: Bench) -> None:
    run_id = a_run_that_waits_for_its_second_step(bench)
    task = bench.take_task()
    new_code()
    bench.crash()
    bench.complete(task)
    bench.turns()
    blocked = bench.events(run_id)
    assert bench.status(run_id) == "BLOCKED"

    bench.peers.code = ["other"]
    no_code()
    bench.crash()
    bench.turns()

    assert bench.events(run_id) == blocked


def test_a_run_in_which_processes_died_is_blocked_instead_of_run(bench: Bench) -> None:
    run_id = a_run_that_waits_for_its_second_step(bench)
    task = bench.take_task()
    bench.peers.deaths = {run_id: "the last process was killed by SIGSEGV"}
    bench.crash()
    bench.complete(task)
    bench.turns()

    assert bench.status(run_id) == "BLOCKED"
    assert "killed by SIGSEGV" in bench.error(run_id).message


def test_a_run_whose_beginning_is_deadly_is_blocked_too_and_goes_on_when_that_is_over(bench: Bench) -> None:
    run_id = bench.start(old_code())
    bench.peers.deaths = {run_id: "the last process was killed by SIGKILL"}
    bench.crash()
    bench.turns()
    assert bench.status(run_id) == "BLOCKED"

    bench.peers.deaths = {}
    bench.crash()
    bench.work()

    assert bench.status(run_id) == "COMPLETED"
