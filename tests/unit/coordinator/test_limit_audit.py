"""A place of a limit whose execution is over is found and taken back, whatever bug lost it."""

from __future__ import annotations

import asyncio

import pytest

from dramaturg import step, workflow
from dramaturg_coordinator import run_limits
from tests.unit.coordinator.bench import Bench


@step(name="limited", concurrency=1)
def work(number: int) -> int:
    raise NotImplementedError


@workflow(name="limited_flow")
async def flow(count: int) -> int:
    return sum(await asyncio.gather(*[work(number) for number in range(count)]))


def look_at_all(bench: Bench) -> None:
    # The first look of a round only notes what there is to look at.
    bench.look_at_peers()
    bench.look_at_peers()


def test_nothing_is_found_where_nothing_is_lost(bench: Bench) -> None:
    bench.start(flow, 3)
    bench.turns()
    look_at_all(bench)

    assert bench.coordinator.troubles.leaked_slots == 0
    bench.work()
    assert bench.database.store.slots(bench.database.partitions, bench.clock.now()) == []


def test_a_leaked_place_is_found_and_given_to_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = bench.start(flow, 2)
    bench.turns()
    with monkeypatch.context() as planted:
        planted.setattr(run_limits, "freed_by", lambda *_: [])
        bench.complete(bench.take_task(), 1)
        bench.turns()
    assert bench.broker.tasks == []

    look_at_all(bench)
    bench.turns()
    bench.complete(bench.take_task(), 1)
    bench.turns()

    assert bench.status(run_id) == "COMPLETED"
    assert bench.coordinator.troubles.leaked_slots == 1
    assert f"a row of run {run_id}, step 1, outlived it" in caplog.text
