"""Several coordinators over one database: partitions move between them, and nothing is lost, done twice or held up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import fakeredis
import pytest

from dramaturg import Workflow, sleep, step, workflow
from dramaturg.orders import order_of
from dramaturg.testing import VirtualClock
from dramaturg_coordinator.ports import Inbox, Leases, Publisher, Store
from dramaturg_coordinator.redis_publishing import RedisPublisher
from dramaturg_coordinator.redis_reports import RedisReports
from dramaturg_coordinator.rules import Rules
from dramaturg_coordinator.service import Coordinator
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.faults import Fenced, Unreachable
from dramaturg_protocol.messages import (
    ReportKind,
    Request,
    RequestKind,
    StepReport,
    StepTask,
    decode_task,
    encode_message,
)
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import Lease, WorkItem
from dramaturg_protocol.redis_keys import REPORT_FIELD, RedisKeys
from dramaturg_store.memory import MemoryDatabase
from tests.unit.coordinator.bench import Faulty

PARTITIONS = 4
LEASE_TIME = timedelta(seconds=15)
AWAY = Unreachable("the broker is away")


class FencedBroker:
    """The port `Publisher`: keeps messages by their ids, and the highest epochs that it was told."""

    can_lose = True

    def __init__(self, shared: FencedBroker | None = None) -> None:
        self.tasks: dict[str, StepTask] = shared.tasks if shared else {}
        self.epochs: dict[int, int] = shared.epochs if shared else {}

    def prepare(self, work: Sequence[WorkItem], lease: Lease) -> None: ...

    def publish(self, work: Sequence[WorkItem], lease: Lease) -> None:
        lost = [number for number, epoch in lease.epochs.items() if self.epochs.get(number, 0) > epoch]
        if lost:
            raise Fenced(lost)
        self.epochs.update(lease.epochs)
        for item in work:
            if item.message is not None:
                task = decode_task(item.message)
                self.tasks.setdefault(task.message_id, task)

    def missing(self, work: Sequence[WorkItem], lease: Lease) -> Sequence[WorkItem]:
        return [item for item in work if item.message and decode_task(item.message).message_id not in self.tasks]

    def is_emptied(self) -> bool:
        return False


class Peer:
    """One coordinator, with ports that fail as they are told to."""

    def __init__(self, name: str, site: Site) -> None:
        database = MemoryDatabase(now=site.clock.now, lease_time=LEASE_TIME, shared=site.database)
        self.store = Faulty(database.store)
        self.leases = Faulty(database.leases)
        self.publisher = Faulty(FencedBroker(site.broker))
        self.coordinator = Coordinator(
            namespace="dramatiq",
            owner=name,
            store=cast("Store", self.store),
            inbox=cast("Inbox", database.inbox),
            leases=cast("Leases", self.leases),
            make_reports=lambda lease: RedisReports(site.redis, "ns", lease.epochs),
            publisher=cast("Publisher", self.publisher),
            rules=Rules(registry, partition_of=database.partition_of),
            clock=site.clock,
            monotonic=site.monotonic,
        )
        assert self.coordinator.acquire()
        self.coordinator.recover()

    @property
    def held(self) -> set[int]:
        return {number for number in range(1, PARTITIONS + 1) if self.coordinator.holds(number)}

    def turns(self) -> None:
        while self.coordinator.take_turn():
            pass


class Site:
    """The database, the broker and the workers of several coordinators."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self._began = self.clock.now()
        self.database = MemoryDatabase(partitions=PARTITIONS, now=self.clock.now, lease_time=LEASE_TIME)
        self.broker = FencedBroker()
        self.redis = fakeredis.FakeRedis()

    def monotonic(self) -> float:
        return (self.clock.now() - self._began).total_seconds()

    def advance(self, seconds: float) -> None:
        self.clock.set(self.clock.now() + timedelta(seconds=seconds))

    def settle(self, *peers: Peer) -> None:
        """Let each look after its lease, often enough that all have their share."""
        for _ in range(3):
            self.advance(0.5)
            for peer in peers:
                peer.coordinator.tend()

    def start(self, flow: Any, *args: Any) -> str:
        order, _, _ = order_of(flow, args, {}, {}, namespace="dramatiq", max_payload=1 << 20)
        return self.database.starts.submit([order])[0].run_id

    def terminate(self, run_id: str) -> None:
        partition = self.database.partition_of(run_id)
        self.database.inbox.put([Request(f"end {run_id}", RequestKind.TERMINATE, run_id, partition, "{}")])

    def start_everywhere(self, flow: Any) -> dict[int, str]:
        """A run in each partition."""
        runs: dict[int, str] = {}
        while len(runs) < PARTITIONS:
            run_id = self.start(flow)
            runs.setdefault(self.database.partition_of(run_id), run_id)
        return runs

    def steal(self, partition: int) -> None:
        """Somebody else has it, and has said so nowhere."""
        self.database.tables.leases.give("a thief", [partition])

    def take_tasks(self) -> list[StepTask]:
        return list(self.broker.tasks.values())

    def complete(self, task: StepTask, *, stream: int | None = None) -> None:
        report = StepReport(
            task.run_id,
            task.generation,
            task.seq,
            task.attempt,
            task.partition,
            ReportKind.COMPLETED,
            worker="worker",
            release=task.release,
            result=Payload(json.dumps(7)),
        )
        key = RedisKeys("ns").reports(stream or task.partition)
        self.redis.xadd(key, {REPORT_FIELD: encode_message(report)})

    def status(self, run_id: str) -> str:
        record = self.database.tables.runs.get(run_id)
        return record.status if record is not None else "unknown"

    def statuses(self) -> set[str]:
        return {record.status for record in self.database.tables.runs.values()}

    def outcomes(self, run_id: str) -> int:
        return sum(text[2] == "step.completed" for text in self.database.tables.events[run_id].values())


@pytest.fixture
def site() -> Site:
    return Site()


def one_step() -> Workflow[[], Any]:
    @step
    def work() -> int:
        raise NotImplementedError

    @workflow
    async def flow() -> int:
        return await work()

    return flow


def test_a_newcomer_has_its_share_and_both_get_on_with_the_runs_that_were_open(site: Site) -> None:
    a = Peer("a", site)
    runs = site.start_everywhere(one_step())
    a.turns()

    b = Peer("b", site)
    assert b.held == set()
    site.settle(a, b)

    assert len(a.held) == len(b.held) == 2
    assert not a.held & b.held
    for task in site.take_tasks():
        site.complete(task)
    a.turns()
    assert {site.status(runs[number]) for number in a.held} == {"COMPLETED"}
    assert {site.status(runs[number]) for number in b.held} == {"RUNNING"}
    b.turns()
    assert site.statuses() == {"COMPLETED"}
    assert {site.outcomes(run_id) for run_id in runs.values()} == {1}


def test_what_is_reported_and_asked_while_a_partition_is_nobodys_waits_for_its_next_owner(site: Site) -> None:
    a = Peer("a", site)
    flow = one_step()
    runs = site.start_everywhere(flow)
    a.turns()
    b = Peer("b", site)
    site.advance(0.5)
    a.coordinator.tend()
    free = set(range(1, PARTITIONS + 1)) - a.held
    assert len(free) == 2

    for task in site.take_tasks():
        site.complete(task)
    more = site.start_everywhere(flow)
    a.turns()
    assert {site.status(more[number]) for number in free} == {"unknown"}

    site.settle(a, b)
    b.turns()
    assert {site.status(runs[number]) for number in free} == {"COMPLETED"}
    assert {site.status(more[number]) for number in free} == {"RUNNING"}


def test_the_broker_hears_of_new_epochs_before_anything_is_read_or_sent(site: Site) -> None:
    a = Peer("a", site)
    site.start_everywhere(one_step())
    a.turns()
    b = Peer("b", site)
    site.advance(0.5)
    a.coordinator.tend()
    before = dict(site.broker.epochs)
    b.publisher.fail("publish", AWAY)
    b.store.calls.clear()

    site.advance(0.5)
    with pytest.raises(Unreachable):
        b.coordinator.tend()

    assert b.store.calls == []
    assert b.held == set()
    # It is taken up by the next look, under a yet higher epoch.
    site.settle(b)
    assert len(b.held) == 2
    assert all(site.broker.epochs[number] == before[number] + 2 for number in b.held)


def test_partitions_whose_giving_back_was_not_answered_are_served_by_somebody_in_the_end(site: Site) -> None:
    a = Peer("a", site)
    b = Peer("b", site)
    a.leases.fail("give_up", Unreachable("the database is away"))
    site.advance(0.5)
    with pytest.raises(Unreachable):
        a.coordinator.tend()
    assert len(a.held) == 2, "what it began to give up it does not touch any more"

    site.settle(a, b)

    assert a.held | b.held == set(range(1, PARTITIONS + 1))
    assert not a.held & b.held


def test_a_turn_that_is_fenced_for_one_partition_is_redone_without_it(site: Site) -> None:
    a = Peer("a", site)
    runs = site.start_everywhere(one_step())
    site.steal(2)

    with pytest.raises(Fenced) as fenced:
        a.coordinator.take_turn()
    assert fenced.value.partitions == {2}
    assert site.statuses() == set(), "nothing of that turn is written"
    assert a.coordinator.lose(fenced.value)
    a.turns()

    assert {site.status(run_id) for number, run_id in runs.items() if number != 2} == {"RUNNING"}
    assert site.status(runs[2]) == "unknown"
    assert 2 not in a.held


def test_who_lost_one_partition_still_reads_and_publishes_for_the_others(site: Site) -> None:
    a = Peer("a", site)
    runs = site.start_everywhere(one_step())
    a.turns()
    site.steal(3)
    for task in site.take_tasks():
        site.complete(task)

    with pytest.raises(Fenced) as fenced:
        a.turns()
    a.coordinator.lose(fenced.value)
    a.turns()

    assert {site.status(run_id) for number, run_id in runs.items() if number != 3} == {"COMPLETED"}
    assert site.status(runs[3]) == "RUNNING"
    assert site.redis.xlen(RedisKeys("ns").reports(3)) > 0, "its report waits for its owner"
    assert site.redis.xlen(RedisKeys("ns").reports(1)) == 0


def test_a_balance_tells_of_a_loss_before_any_turn_runs_into_it(site: Site) -> None:
    a = Peer("a", site)
    site.steal(1)
    site.advance(0.5)

    with pytest.raises(Fenced) as fenced:
        a.coordinator.tend()

    assert fenced.value.partitions == {1}


def test_who_lost_everything_begins_anew(site: Site) -> None:
    a = Peer("a", site)
    site.advance(LEASE_TIME.total_seconds())
    b = Peer("b", site)
    assert b.held == {1, 2, 3, 4}

    with pytest.raises(Fenced) as fenced:
        a.coordinator.tend()
    assert not a.coordinator.lose(fenced.value)
    assert a.held == set()

    assert a.coordinator.acquire()
    a.coordinator.recover()
    site.settle(a, b)
    assert len(a.held) == len(b.held) == 2


def test_nothing_is_taken_after_two_thirds_of_the_lease_without_a_renewal(site: Site) -> None:
    a = Peer("a", site)

    site.advance(LEASE_TIME.total_seconds() * 2 / 3)

    assert not a.coordinator.is_safe
    a.coordinator.tend()
    assert a.coordinator.is_safe


def test_steps_that_were_committed_and_not_sent_are_sent_by_the_next_owner(site: Site) -> None:
    a = Peer("a", site)
    runs = site.start_everywhere(one_step())
    a.publisher.fail("publish", AWAY)
    with pytest.raises(Unreachable):
        a.coordinator.take_turn()
    assert site.take_tasks() == []

    b = Peer("b", site)
    site.settle(a, b)
    b.turns()

    sent = {task.run_id for task in site.take_tasks()}
    assert {runs[number] for number in b.held} <= sent
    a.turns()
    sent = {task.run_id for task in site.take_tasks()}
    assert set(runs.values()) <= sent


def test_a_timer_of_a_partition_that_moved_fires_once_and_at_its_new_owner(site: Site) -> None:
    @workflow
    async def flow() -> str:
        await sleep(30)
        return "slept"

    a = Peer("a", site)
    runs = site.start_everywhere(flow)
    a.turns()
    b = Peer("b", site)
    site.settle(a, b)
    for _ in range(10):
        site.advance(3)
        a.coordinator.tend()
        b.coordinator.tend()

    a.turns()

    assert {site.status(runs[number]) for number in a.held} == {"COMPLETED"}
    assert {site.status(runs[number]) for number in b.held} != {"COMPLETED"}
    b.turns()
    assert {site.status(run_id) for run_id in runs.values()} == {"COMPLETED"}
    fired = [text[2] for events in site.database.tables.events.values() for text in events.values()]
    assert fired.count("timer.fired") == len(site.database.tables.runs)


def test_who_reads_late_cuts_nothing_off_the_stream_of_the_next_owner(site: Site) -> None:
    a = Peer("a", site)
    runs = site.start_everywhere(one_step())
    a.turns()
    (task,) = (task for task in site.take_tasks() if task.run_id == runs[1])
    late = RedisReports(site.redis, "ns", {1: 1})
    site.complete(task)
    assert len(late.take(10)) == 1

    site.advance(LEASE_TIME.total_seconds())
    b = Peer("b", site)
    RedisPublisher(site.redis, "ns").publish((), Lease("b", site.broker.epochs))
    late.acknowledge(1)
    with pytest.raises(Fenced) as fenced:
        late.take(10)

    assert fenced.value.partitions == {1}
    assert site.redis.xlen(RedisKeys("ns").reports(1)) == 1
    b.turns()
    assert site.status(runs[1]) == "COMPLETED"
    assert site.redis.xlen(RedisKeys("ns").reports(1)) == 0


def test_a_report_of_a_run_of_somebody_elses_partition_is_put_aside_and_stops_nobody(site: Site) -> None:
    a, b = Peer("a", site), Peer("b", site)
    site.settle(a, b)
    runs = site.start_everywhere(one_step())
    a.turns()
    b.turns()
    mine, other = min(a.held), min(b.held)
    for task in site.take_tasks():
        site.complete(task, stream=mine if task.run_id == runs[other] else None)

    a.turns()
    b.turns()

    assert site.status(runs[mine]) == "COMPLETED"
    assert site.status(runs[other]) == "RUNNING"
    (letter,) = site.database.tables.letters
    assert "another coordinator holds" in letter.reason


def test_who_is_stopped_hands_over_at_once(site: Site) -> None:
    a, b = Peer("a", site), Peer("b", site)
    site.settle(a, b)
    runs = site.start_everywhere(one_step())
    a.turns()
    for task in site.take_tasks():
        site.complete(task)

    a.coordinator.stop()
    site.settle(b)
    b.turns()
    for task in site.take_tasks():
        site.complete(task)
    b.turns()

    assert b.held == {1, 2, 3, 4}
    assert {site.status(run_id) for run_id in runs.values()} == {"COMPLETED"}
    assert {site.outcomes(run_id) for run_id in runs.values()} == {1}
