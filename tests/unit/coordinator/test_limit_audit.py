"""A place of a limit whose execution is over is found and taken back, whatever bug lost it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from dramaturg import step, workflow
from dramaturg_coordinator import run_limits
from dramaturg_protocol.limits import Slot
from dramaturg_protocol.records import RunWrites
from tests.unit.coordinator.bench import Bench


@step(name="limited", concurrency=1)
def work(number: int) -> int:
    raise NotImplementedError


@workflow(name="limited_flow")
async def flow(count: int) -> int:
    return sum(await asyncio.gather(*[work(number) for number in range(count)]))


@step(name="plain_under_a_limited_run")
def plain() -> int:
    raise NotImplementedError


@workflow(name="one_at_a_time", concurrency=1)
async def one_at_a_time() -> int:
    return await plain()


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


@pytest.mark.parametrize("has_place", [False, True], ids=["never noted", "granted and not told"])
def test_a_step_that_waits_and_that_its_limit_does_not_know_asks_anew(
    bench: Bench, caplog: pytest.LogCaptureFixture, has_place: bool
) -> None:
    run_id = bench.start(flow, 2)
    bench.turns()
    (waiter,) = (slot for slot in slots_of(bench) if slot.granted_at is None)
    lose(bench, waiter)
    bench.complete(bench.take_task(), 1)
    bench.turns()
    if has_place:
        bench.database.tables.slots.write(RunWrites(run_id, slots=[replace(waiter, granted_at=bench.clock.now())]))
    assert bench.broker.tasks == []

    look_at_all(bench)
    assert bench.coordinator.troubles.leaked_slots == 0
    look_at_all(bench)
    bench.turns()
    bench.complete(bench.take_task(), 1)
    bench.turns()

    assert bench.status(run_id) == "COMPLETED"
    assert bench.coordinator.troubles.leaked_slots == 1
    assert f"run {run_id} waits for a limit that does not know of it" in caplog.text
    assert slots_of(bench) == []


def test_a_run_whose_place_is_forgotten_asks_for_it_anew(bench: Bench) -> None:
    first, second = bench.start(one_at_a_time), bench.start(one_at_a_time)
    bench.turns()
    (waiter,) = (slot for slot in slots_of(bench) if slot.granted_at is None)
    lose(bench, waiter)

    look_at_all(bench)
    look_at_all(bench)
    bench.turns()
    assert [slot.run_id for slot in slots_of(bench) if slot.granted_at is None] == [waiter.run_id]
    for _ in range(2):
        bench.complete(bench.take_task(), 1)
        bench.turns()

    assert (bench.status(first), bench.status(second)) == ("COMPLETED", "COMPLETED")


def slots_of(bench: Bench) -> Sequence[Slot]:
    return bench.database.store.slots(bench.database.partitions, bench.clock.now())


def lose(bench: Bench, slot: Slot) -> None:
    """A row of a limit is gone, and nobody knows of it."""
    bench.database.tables.slots.write(RunWrites(slot.run_id, freed=[slot.ticket]))
    tenure = bench.coordinator._tenure  # pyright: ignore[reportPrivateUsage]
    assert tenure is not None
    tenure.turn.limits.forget()
