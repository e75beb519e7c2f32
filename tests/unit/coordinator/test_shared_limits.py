"""Limits over several coordinators: the run is one's, the limit another's, and what they say goes through the inbox."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from dramaturg import Limit, Workflow, step, workflow
from dramaturg_protocol.messages import StepTask
from tests.unit.coordinator.test_sharing import Peer, Site


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def peers(site: Site) -> list[Peer]:
    found = [Peer("one", site), Peer("two", site)]
    site.settle(*found)
    assert all(peer.held for peer in found)
    return found


def turns(peers: list[Peer]) -> None:
    took = True
    while took:
        # Each takes one, whatever the other did.
        took = sum(peer.coordinator.take_turn() for peer in peers) > 0


class Workers:
    """Does the steps that are out, one at a time."""

    def __init__(self, site: Site, peers: list[Peer]) -> None:
        self.site, self.peers = site, peers
        self.done: set[str] = set()
        self.order: list[StepTask] = []

    def out(self) -> list[StepTask]:
        turns(self.peers)
        return [task for task in self.site.take_tasks() if task.message_id not in self.done]

    def do(self, task: StepTask) -> None:
        self.done.add(task.message_id)
        self.order.append(task)
        self.site.complete(task)

    def work(self, most: int) -> None:
        while tasks := self.out():
            assert len(tasks) <= most
            self.do(tasks[0])


def limited(name: str, **options: Any) -> Workflow[[], Any]:
    @step(name=name, **options)
    def work() -> int:
        raise NotImplementedError

    @workflow(name=f"{name}_flow")
    async def flow() -> int:
        return await work()

    return flow


def slots(site: Site) -> list[Any]:
    return list(site.database.store.slots(site.database.partitions, site.clock.now()))


def test_so_many_at_once_over_all_coordinators(site: Site, peers: list[Peer]) -> None:
    runs = [site.start(limited("shared", concurrency=2)) for _ in range(12)]
    workers = Workers(site, peers)

    workers.work(2)

    assert Counter(site.status(run_id) for run_id in runs) == {"COMPLETED": 12}
    assert len({site.database.partition_of(run_id) in peers[0].held for run_id in runs}) == 2
    assert slots(site) == []
    assert site.database.tables.inbox == {}


def test_both_limits_of_a_step(site: Site, peers: list[Peer]) -> None:
    flow = limited("both", concurrency=2, rate_limit="3/10s")
    runs = [site.start(flow) for _ in range(7)]
    workers = Workers(site, peers)

    for number in (3, 6, 7):
        workers.work(2)
        assert len(workers.order) == number
        site.advance(10)
        site.settle(*peers)

    assert {site.status(run_id) for run_id in runs} == {"COMPLETED"}
    assert [slot for slot in slots(site) if slot.until is None] == []


def test_a_coordinator_that_is_gone_takes_no_place_along(site: Site, peers: list[Peer]) -> None:
    runs = [site.start(limited("left", concurrency=2)) for _ in range(8)]
    workers = Workers(site, peers)
    for _ in range(3):
        workers.do(workers.out()[0])

    gone = peers.pop(0)
    for _ in range(60):
        site.advance(0.5)
        peers[0].coordinator.tend()
    assert gone.held != peers[0].held
    workers.work(2)

    assert {site.status(run_id) for run_id in runs} == {"COMPLETED"}
    assert slots(site) == []


def test_a_run_that_is_ended_before_it_was_heard_leaves_nothing(site: Site, peers: list[Peer]) -> None:
    flow = limited("early", concurrency=1)
    runs = [site.start(flow) for _ in range(6)]
    workers = Workers(site, peers)
    (first,) = workers.out()
    for run_id in runs:
        if run_id != first.run_id:
            site.terminate(run_id)
    turns(peers)

    workers.work(1)

    assert Counter(site.status(run_id) for run_id in runs) == {"COMPLETED": 1, "TERMINATED": 5}
    assert slots(site) == []


@pytest.mark.parametrize("on_conflict", ["queue", "skip", "cancel_running"])
def test_limits_of_workflows(site: Site, peers: list[Peer], on_conflict: Any) -> None:
    @step(name="inside")
    def work() -> int:
        raise NotImplementedError

    @workflow(name="at_most_one", concurrency=Limit(1, on_conflict=on_conflict))
    async def flow() -> int:
        return await work()

    runs = [site.start(flow) for _ in range(6)]
    workers = Workers(site, peers)
    workers.out()
    if on_conflict == "queue":
        assert Counter(site.status(run_id) for run_id in runs) == {"RUNNING": 1, "PENDING": 5}
    workers.work(6 if on_conflict == "cancel_running" else 1)

    ends = Counter(site.status(run_id) for run_id in runs)
    assert ends == ({"COMPLETED": 6} if on_conflict == "queue" else {"COMPLETED": 1, "CANCELLED": 5})
    assert slots(site) == []
