# pyright: reportPrivateUsage=false
"""The coordinator's thread: woken at once, stopped in any state, ended by nothing but the loss of its lease."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import pytest

from dramaturg import Workflow, step, workflow
from dramaturg_coordinator.memory import MemoryReports
from dramaturg_coordinator.ports import Leases
from dramaturg_coordinator.turn import BATCH
from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.messages import StepReport
from dramaturg_protocol.records import DeadLetter, Lease, RunWrites
from tests.unit.coordinator.bench import Bench, Faulty

PATIENCE = 10.0
AWAY = Unreachable("the database is away")


class Watcher:
    """Told of commits; tests wait on it instead of sleeping."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._closed: set[str] = set()
        self._seen: set[str] = set()

    def __call__(self, writes: Sequence[RunWrites]) -> None:
        with self._condition:
            self._seen.update(write.run_id for write in writes)
            self._closed.update(write.run_id for write in writes if write.is_closed)
            self._condition.notify_all()

    def wait_closed(self, *run_ids: str) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: self._closed.issuperset(run_ids), PATIENCE)

    def wait_seen(self, *run_ids: str) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: self._seen.issuperset(run_ids), PATIENCE)


def at_once() -> Workflow[[], Any]:
    @workflow
    async def flow() -> str:
        return "done"

    return flow


def test_a_wake_before_the_wait_is_not_lost() -> None:
    reports = MemoryReports()
    reports.wake()

    reports.wait(timedelta(hours=1))


def test_a_report_before_the_wait_is_not_lost() -> None:
    reports = MemoryReports()
    reports.put("anything")

    reports.wait(timedelta(hours=1))

    assert len(reports.take(10)) == 1


def test_reports_stay_until_they_are_acknowledged_while_others_come() -> None:
    reports = MemoryReports()
    count = 5000

    def put() -> None:
        for number in range(count):
            reports.put(str(number))

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    taken = 0
    while taken < 4 * count:
        found = reports.take(100)
        assert [*found] == [*reports.take(100)][: len(found)]
        reports.acknowledge(len(found))
        taken += len(found)
    for thread in threads:
        thread.join()
    assert not reports.take(1)


def test_starts_are_taken_at_once_when_the_coordinator_is_woken() -> None:
    watcher = Watcher()
    bench = Bench(observers=[watcher])
    flow = at_once()
    bench.coordinator.start()

    for _ in range(200):
        run_id = bench.start(flow)
        bench.coordinator.wake()
        watcher.wait_closed(run_id)

    bench.coordinator.stop()


def test_a_backlog_is_worked_off_without_a_pause_between_the_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher()
    bench = Bench(observers=[watcher])
    flow = at_once()
    runs = [bench.start(flow) for _ in range(3 * BATCH)]
    waits: list[int] = []
    real = bench.reports.wait

    def wait(timeout: timedelta) -> None:
        waits.append(bench.inbox_size())
        real(timeout)

    monkeypatch.setattr(bench.reports, "wait", wait)
    bench.coordinator.start()
    watcher.wait_closed(*runs)
    bench.coordinator.stop()

    assert all(size == 0 for size in waits)


def test_no_turn_is_taken_to_find_that_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher()
    bench = Bench(observers=[watcher])
    run_id = bench.start(at_once())
    calls: list[str] = []
    take, wait = bench.reports.take, bench.reports.wait

    def noted_take(limit: int) -> Sequence[StepReport | DeadLetter]:
        calls.append("turn")
        return take(limit)

    def noted_wait(timeout: timedelta) -> None:
        calls.append("wait")
        wait(timeout)

    monkeypatch.setattr(bench.reports, "take", noted_take)
    monkeypatch.setattr(bench.reports, "wait", noted_wait)
    bench.coordinator.start()
    watcher.wait_closed(run_id)
    bench.coordinator.stop()

    assert calls[:2] == ["turn", "wait"]


@pytest.mark.parametrize("error", [AWAY, RuntimeError("a bug")])
def test_a_turn_that_fails_is_taken_again(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    watcher = Watcher()
    bench = Bench(observers=[watcher])
    run_id = bench.start(at_once())
    bench.store.fail("commit", error, times=2)

    bench.coordinator.start()
    watcher.wait_closed(run_id)
    bench.coordinator.stop()

    assert str(error) in caplog.text


def test_what_a_turn_could_not_publish_is_published_by_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    @step
    def work() -> int:
        raise NotImplementedError

    @workflow
    async def flow() -> int:
        return await work()

    watcher = Watcher()
    bench = Bench(observers=[watcher])
    published = threading.Event()
    real = bench.broker.publish

    def publish(*args: Any) -> None:
        real(*args)
        published.set()

    monkeypatch.setattr(bench.broker, "publish", publish)
    bench.start(flow)
    bench.publisher.fail("publish", Unreachable("the broker is away"), times=2)

    bench.coordinator.start()

    assert published.wait(PATIENCE)
    bench.coordinator.stop()


def test_a_coordinator_that_lost_its_lease_writes_nothing_until_it_has_one_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher()
    bench = Bench(observers=[watcher])
    is_asked = threading.Event()
    bench.database.leases.close()
    taken = bench.database.leases.acquire("another")
    assert taken is not None
    real = bench.database.leases.acquire

    def acquire(owner: str) -> Lease | None:
        is_asked.set()
        return real(owner)

    monkeypatch.setattr(bench.database.leases, "acquire", acquire)
    run_id = bench.start(at_once())

    bench.coordinator.start()
    assert is_asked.wait(PATIENCE)

    assert "no longer the owner" in caplog.text
    assert bench.status(run_id) == "unknown"
    bench.database.leases.release(taken)
    watcher.wait_closed(run_id)
    bench.coordinator.stop()


def test_a_stop_records_what_workers_reported_before_it() -> None:
    @step
    def work() -> int:
        raise NotImplementedError

    @workflow
    async def flow() -> int:
        return await work()

    watcher = Watcher()
    bench = Bench(observers=[watcher])
    run_id = bench.start(flow)
    bench.turns()
    task = bench.take_task()
    bench.coordinator._is_stopping.set()
    bench.complete(task, 7)

    bench.coordinator.start()
    bench.coordinator.stop()

    assert bench.record(run_id).result == "7"


def test_a_stop_does_not_wait_for_ever_for_a_turn(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench()
    is_in_commit, may_go_on = threading.Event(), threading.Event()
    real = bench.database.store.commit

    def commit(*args: Any) -> None:
        is_in_commit.set()
        assert may_go_on.wait(PATIENCE)
        real(*args)

    monkeypatch.setattr(bench.database.store, "commit", commit)
    bench.start(at_once())
    bench.coordinator.start()
    assert is_in_commit.wait(PATIENCE)
    thread = bench.coordinator._thread
    assert thread is not None

    with caplog.at_level(logging.ERROR):
        bench.coordinator.stop(0.01)

    assert "a turn does not end" in caplog.text
    assert bench.database.leases.acquire("the next one") is not None
    may_go_on.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_stop_returns_though_the_database_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    leases = Faulty(bench.database.leases)
    leases.fail("release", AWAY)
    bench.coordinator._leases = cast("Leases", leases)
    bench.coordinator.start()

    bench.coordinator.stop()
    bench.coordinator.stop()

    assert "the lease is not given back" in caplog.text


def test_a_coordinator_that_cannot_read_the_time_gives_its_lease_back() -> None:
    bench = Bench()
    bench.coordinator.stop()
    leases = Faulty(bench.database.leases)
    leases.fail("renew", AWAY)
    bench.coordinator._leases = cast("Leases", leases)
    bench.coordinator._clock = None

    with pytest.raises(Unreachable):
        bench.coordinator.acquire()

    assert bench.database.leases.acquire("the next one") is not None


def test_no_thread_is_left_after_a_stop() -> None:
    before = set(threading.enumerate())
    for _ in range(5):
        watcher = Watcher()
        bench = Bench(observers=[watcher])
        run_id = bench.start("flow")
        bench.coordinator.start()
        watcher.wait_seen(run_id)
        bench.coordinator.stop()

    assert {thread.name for thread in set(threading.enumerate()) - before} == set()
