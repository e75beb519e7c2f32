"""What falls due: never early, never lost, once, over restarts and clocks that jump."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from dramaturg import RetryPolicy, sleep, step, workflow
from dramaturg_coordinator import clocks
from dramaturg_coordinator.clocks import DatabaseClock
from dramaturg_coordinator.core.timeouts import TIMEOUT_GRACE
from dramaturg_coordinator.timers import Timers
from dramaturg_protocol.messages import ReportKind, RequestKind
from dramaturg_protocol.records import WorkItem, WorkKind
from tests.conformance.worlds import EPOCH
from tests.unit.coordinator.bench import Bench

SECOND = timedelta(seconds=1)


# Timers of runs.


def test_a_timer_fires_when_it_is_due_and_never_before(bench: Bench) -> None:
    @workflow
    async def sleeper() -> str:
        await sleep("1h")
        return "slept"

    begun = bench.clock.now()
    run_id = bench.start(sleeper)
    bench.turns()
    for minutes in range(1, 60):
        bench.clock.set(begun + timedelta(minutes=minutes))
        bench.turns()
    bench.clock.set(begun + timedelta(hours=1) - timedelta(microseconds=1))
    bench.turns()
    assert bench.status(run_id) == "WAITING"

    bench.clock.set(begun + timedelta(hours=1))
    bench.turns()

    assert bench.events(run_id) == ["run.started", "timer.started", "timer.fired", "run.completed"]


@pytest.mark.parametrize("crashes", [1, 5])
def test_a_timer_fires_on_time_and_once_after_restarts(bench: Bench, crashes: int) -> None:
    @workflow
    async def sleeper() -> str:
        await sleep("1h")
        return "slept"

    begun = bench.clock.now()
    run_id = bench.start(sleeper)
    bench.turns()
    for _ in range(crashes):
        bench.advance(minutes=10)
        bench.crash()
        bench.turns()
    bench.clock.set(begun + timedelta(hours=1))
    bench.turns()
    bench.crash()
    bench.turns()

    assert bench.events(run_id).count("timer.fired") == 1
    assert bench.time_of(run_id, "timer.fired") == begun + timedelta(hours=1)


def test_a_timer_that_came_due_while_nobody_was_there_fires_at_once(bench: Bench) -> None:
    @workflow
    async def sleeper() -> str:
        await sleep("1h")
        return "slept"

    run_id = bench.start(sleeper)
    bench.turns()
    bench.advance(days=9)

    bench.crash()
    bench.turns()

    assert bench.status(run_id) == "COMPLETED"


def test_thousands_that_are_due_at_once_all_fire_once(bench: Bench) -> None:
    @workflow
    async def sleeper() -> None:
        await sleep("10m")

    runs = [bench.start(sleeper) for _ in range(2500)]
    bench.turns()
    bench.advance(minutes=10)

    bench.turns()

    assert {bench.status(run_id) for run_id in runs} == {"COMPLETED"}
    assert all(bench.events(run_id).count("timer.fired") == 1 for run_id in runs)


def test_many_timers_of_one_run_fire_in_the_order_in_which_they_are_due(bench: Bench) -> None:
    woken: list[int] = []

    @workflow
    async def sleepers() -> None:
        async def one(number: int) -> None:
            await sleep(number * SECOND)
            woken.append(number)

        await asyncio.gather(*(one(number) for number in (5, 3, 61, 1, 130, 2)))

    run_id = bench.start(sleepers)
    bench.turns()
    for _ in range(130):
        bench.advance(seconds=1)
        bench.turns()

    assert woken == [1, 2, 3, 5, 61, 130]
    assert bench.status(run_id) == "COMPLETED"


def test_a_timer_that_is_cancelled_does_not_fire(bench: Bench) -> None:
    @step
    def work() -> int:
        raise NotImplementedError

    @workflow
    async def flow() -> str:
        try:
            await asyncio.wait_for(work(), 20)
        except TimeoutError:
            return "too late"
        await sleep("1h")
        return "done"

    run_id = bench.start(flow)
    bench.turns()
    bench.complete(bench.take_task(), 1)
    bench.turns()
    bench.advance(minutes=5)
    bench.turns()

    names = bench.events(run_id)
    assert "timer.cancelled" in names
    assert "timer.fired" not in names
    assert [item.kind for item in bench.open_work(run_id)] == [WorkKind.TIMER]


def test_an_outcome_and_a_time_out_in_one_turn_are_taken_in_order_of_arrival(bench: Bench) -> None:
    @step
    def work() -> int:
        raise NotImplementedError

    @workflow
    async def flow() -> str:
        try:
            await asyncio.wait_for(work(), 20)
        except TimeoutError:
            return "too late"
        return "done"

    run_id = bench.start(flow)
    bench.turns()
    bench.advance(seconds=20)
    bench.complete(bench.take_task(), 1)
    bench.turns()

    assert bench.record(run_id).result == '"done"'


# Time-outs of steps.


def timed(bench: Bench, retries: int | RetryPolicy = 0) -> str:
    @step(timeout="30s", retries=retries)
    def work() -> int:
        raise NotImplementedError

    @workflow
    async def flow() -> int:
        return await work()

    run_id = bench.start(flow)
    bench.turns()
    return run_id


def test_a_step_that_nobody_reports_of_times_out_after_its_pick_up_and_a_grace(bench: Bench) -> None:
    run_id = timed(bench)
    bench.advance(hours=2)
    bench.turns()
    assert bench.status(run_id) == "RUNNING"

    bench.report(bench.take_task(), ReportKind.STARTED)
    bench.turns()
    bench.advance(seconds=30)
    bench.clock.set(bench.clock.now() + TIMEOUT_GRACE - timedelta(microseconds=1))
    bench.turns()
    assert bench.status(run_id) == "RUNNING"

    bench.advance(microseconds=1)
    bench.turns()

    assert bench.events(run_id)[-2:] == ["step.timed_out", "run.failed"]


def test_a_late_outcome_after_the_time_out_is_recorded_nowhere(bench: Bench) -> None:
    run_id = timed(bench, RetryPolicy(max_attempts=2, initial="1m"))
    task = bench.take_task()
    bench.report(task, ReportKind.STARTED)
    bench.turns()
    bench.advance(seconds=36)
    bench.turns()
    assert bench.events(run_id)[-1] == "step.retrying"

    bench.complete(task, 1)
    bench.turns()

    assert bench.events(run_id)[-1] == "step.retrying"


def test_after_a_restart_a_time_out_counts_from_the_next_pick_up(bench: Bench) -> None:
    run_id = timed(bench)
    bench.report(bench.take_task(), ReportKind.STARTED, worker="first")
    bench.turns()
    bench.advance(seconds=20)

    bench.crash()
    bench.turns()
    bench.advance(seconds=60)
    bench.turns()
    assert bench.status(run_id) == "RUNNING"

    bench.report(bench.take_task(), ReportKind.STARTED, worker="second")
    bench.turns()
    bench.advance(seconds=34)
    bench.turns()
    assert bench.status(run_id) == "RUNNING"
    bench.advance(seconds=1)
    bench.turns()
    assert bench.status(run_id) == "FAILED"


@pytest.mark.xfail(reason="core: a pick-up by a worker of the same name is no event, so that no time-out runs")
def test_after_a_restart_a_time_out_runs_though_the_worker_has_the_name_of_the_one_before(bench: Bench) -> None:
    run_id = timed(bench)
    bench.report(bench.take_task(), ReportKind.STARTED, worker="pod-0:1")
    bench.turns()
    bench.crash()
    bench.report(bench.take_task(), ReportKind.STARTED, worker="pod-0:1")
    bench.turns()

    bench.advance(seconds=60)
    bench.turns()

    assert bench.status(run_id) == "FAILED"


# Retries.


def test_a_wait_for_the_next_attempt_goes_on_over_a_restart_and_is_neither_early_nor_lost(bench: Bench) -> None:
    @step(retries=RetryPolicy(max_attempts=3, initial="10m", maximum="10m", jitter=False))
    def work() -> int:
        raise NotImplementedError

    @workflow
    async def flow() -> int:
        return await work()

    begun = bench.clock.now()
    run_id = bench.start(flow)
    bench.turns()
    bench.fail(bench.take_task())
    bench.turns()
    bench.advance(minutes=5)
    bench.crash()
    bench.turns()
    assert not bench.take_tasks()

    bench.clock.set(begun + timedelta(minutes=10) - timedelta(microseconds=1))
    bench.turns()
    assert not bench.take_tasks()
    bench.clock.set(begun + timedelta(minutes=10))
    bench.turns()

    task = bench.take_task()
    assert task.attempt == 2
    bench.crash()
    again = bench.take_task()
    assert (again.attempt, again.message_id) == (2, task.message_id)
    bench.complete(again, 1)
    bench.turns()
    assert bench.status(run_id) == "COMPLETED"


def test_a_step_of_a_run_that_was_cancelled_is_not_tried_again(bench: Bench) -> None:
    @step(retries=RetryPolicy(initial="10m", jitter=False))
    def work() -> int:
        raise NotImplementedError

    @workflow
    async def flow() -> int:
        return await work()

    run_id = bench.start(flow)
    bench.turns()
    bench.fail(bench.take_task())
    bench.turns()
    bench.request(run_id, RequestKind.TERMINATE)
    bench.turns()
    bench.advance(hours=1)
    bench.turns()

    assert not bench.take_tasks()
    assert not bench.open_work(run_id)


# The due times in memory.


class Table:
    """Just `due_work`, over a list."""

    def __init__(self, items: Sequence[WorkItem]) -> None:
        self.items = list(items)
        self.reads = 0
        self.rows_read = 0

    def due_work(self, partitions: object, until: datetime, limit: int) -> Sequence[WorkItem]:
        self.reads += 1
        found = sorted((item for item in self.items if item.due and item.due <= until), key=lambda i: (i.due, i.seq))
        self.rows_read += len(found[:limit])
        return found[:limit]


def an_item(seq: int, seconds: float) -> WorkItem:
    return WorkItem("run", 1, seq, 1, WorkKind.TIMER, EPOCH + timedelta(seconds=seconds))


def timers_over(items: Sequence[WorkItem], limit: int = 10_000) -> tuple[Timers, Table]:
    table = Table(items)
    return Timers(table, limit=limit), table  # type: ignore[arg-type]


def fired(timers: Timers, table: Table, seconds: float) -> list[int]:
    """Let it be that late, take what is due, and settle it."""
    now = EPOCH + timedelta(seconds=seconds)
    timers.load([1], now)
    due = timers.take(now, 1000)
    table.items = [item for item in table.items if item not in due]
    return [item.seq for item in due]


def test_rows_beyond_the_loaded_minute_are_read_in_time() -> None:
    timers, table = timers_over([an_item(seconds, seconds) for seconds in range(1, 400)])

    seen = [seq for seconds in range(400) for seq in fired(timers, table, seconds)]

    assert seen == list(range(1, 400))
    assert table.reads <= 400 / 30 + 2


def test_a_row_within_the_minute_that_a_turn_adds_is_on_time() -> None:
    timers, table = timers_over([])
    assert fired(timers, table, 0) == []

    timers.note([an_item(1, 5), an_item(2, 70)])

    assert timers.next_due() == EPOCH + 5 * SECOND
    assert fired(timers, table, 4.9) == []
    assert fired(timers, table, 5) == [1]


def test_a_leap_of_the_clock_finds_everything_that_is_due() -> None:
    timers, table = timers_over([an_item(1, 10), an_item(2, 3600), an_item(3, 90_000)])
    assert fired(timers, table, 0) == []

    assert fired(timers, table, 100_000) == [1, 2, 3]


def test_a_clock_that_is_set_back_fires_nothing_early() -> None:
    timers, table = timers_over([an_item(1, 30), an_item(2, 100)])
    assert fired(timers, table, 20) == []

    assert fired(timers, table, -3000) == []
    assert fired(timers, table, 29) == []
    assert fired(timers, table, 30) == [1]
    assert fired(timers, table, 100) == [2]


@pytest.mark.parametrize("count", [9, 10, 11, 95])
def test_more_rows_than_one_look_reads_all_come(count: int) -> None:
    timers, table = timers_over([an_item(number, number // 20) for number in range(count)], limit=10)

    seen: list[int] = []
    for seconds in range(30):
        seen += fired(timers, table, seconds)

    assert sorted(seen) == list(range(count))


def test_rows_that_nobody_settles_do_not_keep_those_behind_them_from_coming() -> None:
    stuck = [an_item(number, 1) for number in range(100)]
    timers, table = timers_over([*stuck, an_item(1000, 2)], limit=10)

    seen: set[int] = set()
    for _ in range(20):
        now = EPOCH + 5 * SECOND
        timers.load([1], now)
        seen.update(item.seq for item in timers.take(now, 1000))

    assert 1000 in seen
    assert table.rows_read < 400


# The clock.


class MonotonicByHand:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> MonotonicByHand:
    made = MonotonicByHand()
    monkeypatch.setattr(clocks, "time", made)
    return made


def test_the_clock_goes_on_between_two_samples(machine: MonotonicByHand) -> None:
    clock = DatabaseClock(EPOCH)
    machine.seconds += 3

    assert clock.now() == EPOCH + 3 * SECOND


def test_the_clock_follows_a_database_that_leaps(machine: MonotonicByHand) -> None:
    clock = DatabaseClock(EPOCH)
    machine.seconds += 5
    clock.sample(EPOCH + timedelta(hours=1))

    assert clock.now() == EPOCH + timedelta(hours=1)


def test_the_clock_waits_where_it_ran_a_little_ahead(machine: MonotonicByHand) -> None:
    clock = DatabaseClock(EPOCH)
    machine.seconds += 5
    assert clock.now() == EPOCH + 5 * SECOND
    clock.sample(EPOCH + 4.9 * SECOND)

    assert clock.now() == EPOCH + 5 * SECOND
    machine.seconds += 1
    assert clock.now() == EPOCH + 5.9 * SECOND


def test_the_clock_goes_on_where_the_database_was_set_back_by_an_hour(machine: MonotonicByHand) -> None:
    clock = DatabaseClock(EPOCH)
    times: list[datetime] = []
    for _ in range(120):
        machine.seconds += 5
        clock.sample(EPOCH - timedelta(hours=1))
        times.append(clock.now())

    assert times == sorted(times)
    assert times[-1] >= EPOCH + 595 * SECOND


def test_the_clock_goes_on_where_the_file_keeps_its_highest_time(machine: MonotonicByHand) -> None:
    clock = DatabaseClock(EPOCH)
    for _ in range(120):
        machine.seconds += 5
        clock.sample(EPOCH)

    assert clock.now() >= EPOCH + 595 * SECOND


def test_the_clock_never_goes_back_while_another_thread_samples(machine: MonotonicByHand) -> None:
    clock = DatabaseClock(EPOCH)
    is_over = threading.Event()

    def sample() -> None:
        for number in range(2000):
            clock.sample(EPOCH + (number % 7) * SECOND)
        is_over.set()

    thread = threading.Thread(target=sample)
    thread.start()
    last = EPOCH
    while not is_over.is_set():
        machine.seconds += 0.001
        now = clock.now()
        assert now >= last
        last = now
    thread.join()
