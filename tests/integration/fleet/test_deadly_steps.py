"""Steps that end the process in which they run: they cost themselves, and nobody else."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack

import pytest

from dramaturg import WorkflowFailed
from tests.integration.fleet.fleets import Fleet
from tests.services import delete_queues, needs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RUNS = 20

DEADLY = """
import ctypes, os
from dramaturg import step, workflow
from orders import note

@step
def ends_its_process() -> None:
    note("began")
    os._exit(1)

@step(isolation="process", retries=1)
def segfaults() -> None:
    note("began")
    ctypes.string_at(0)

@workflow
async def exits(number: int) -> None:
    await ends_its_process()

@workflow
async def crashes(number: int) -> None:
    await segfaults()
"""


@pytest.fixture(params=["redis", "rabbitmq"])
def deadly(request: pytest.FixtureRequest, make_fleet: Callable[..., Fleet]) -> Generator[Fleet, None, None]:
    with ExitStack() as stack:
        if request.param == "redis":
            fleet = make_fleet()
        else:
            fleet = make_fleet(broker_url=needs("rabbitmq"))
            stack.callback(delete_queues, fleet.namespace, ("default", "dramaturg.start"), fleet.partitions)
            stack.callback(fleet.close)
        fleet.write("deadly", DEADLY)
        fleet.coordinator("deadly")
        yield fleet


def test_a_step_that_ends_its_process_every_time_fails_as_worker_lost_and_the_fleet_serves_others(
    deadly: Fleet,
) -> None:
    worker = deadly.worker("-m", "deadly")
    deadly.child_of(worker)
    bomb = deadly.start("exits", 1)[0]
    others = deadly.start("chain", RUNS)

    with pytest.raises(WorkflowFailed, match="begun 3 times"):
        bomb.result(timeout="200s")

    assert [handle.result(timeout="100s") for handle in others] == [number + 10 for number in range(RUNS)]
    # Three times, and once more where the broker does not count.
    assert 3 <= deadly.ledger.executions()[bomb.run_id, 1] <= 4
    lost = [event.data for event in bomb.events() if event.type == "step.retrying"]
    assert {each["reason"] for each in lost} == {"redelivered"}
    (letter,) = deadly.client.dead_letters.list()
    assert (letter.kind, letter.run_id) == ("worker_lost", bomb.run_id)
    assert deadly.client.start("chain", 100).result(timeout="100s") == 110


def test_a_step_that_segfaults_in_a_process_of_its_own_costs_only_itself(deadly: Fleet) -> None:
    worker = deadly.worker("-m", "deadly")
    child = deadly.child_of(worker)
    bombs = deadly.start("crashes", 2)
    others = deadly.start("chain", RUNS)

    for bomb in bombs:
        with pytest.raises(WorkflowFailed, match="SIGSEGV"):
            bomb.result(timeout="100s")

    assert [handle.result(timeout="100s") for handle in others] == [number + 10 for number in range(RUNS)]
    assert "another starts" not in worker.said()
    assert child in worker.children()
