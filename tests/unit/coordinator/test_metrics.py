from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from prometheus_client import CollectorRegistry

from dramaturg import step
from dramaturg_coordinator.gauges import STALE, Gauges
from dramaturg_coordinator.metrics import OTHER, CoordinatorMetrics, Names
from dramaturg_coordinator.queue_depths import BrokerFigures, QueueDepth
from dramaturg_coordinator.troubles import Troubles
from dramaturg_protocol import events as e
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import RunRecord, RunWrites
from dramaturg_store.figures import OpenRuns, StoreFigures
from dramaturg_store.memory import MemoryDatabase

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUN = RunRecord("r1", "dramatiq", 1, "w1", "checkout", 1, "RUNNING", 0, 1, "{}", NOON, NOON)
NOTHING = Payload("null")
ERROR = e.ErrorInfo("ValueError", "no")


def at(seconds: float, body: e.EventBody) -> e.HistoryEvent:
    return e.HistoryEvent(1, NOON + timedelta(seconds=seconds), body)


def told(*events: e.HistoryEvent) -> RunWrites:
    return RunWrites("r1", record=RUN, events=list(events))


class Counted:
    """Metrics in a registry of their own, and what it shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = CoordinatorMetrics(self.registry, registry)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"dramaturg_{name}", labels)


def test_runs_are_counted_when_they_begin_and_when_they_are_closed() -> None:
    counted = Counted()
    closed = replace(RUN, status="COMPLETED", closed_at=NOON + timedelta(seconds=3))

    counted.metrics.committed([RunWrites("r1", record=RUN, is_new=True)])
    assert counted("runs_total", workflow="checkout", status="COMPLETED") is None
    counted.metrics.committed([RunWrites("r1", record=closed, is_closed=True)])

    assert counted("runs_started_total", workflow="checkout") == 1
    assert counted("runs_total", workflow="checkout", status="COMPLETED") == 1
    assert counted("run_duration_seconds_sum", workflow="checkout") == 3


def test_a_wait_lasts_from_the_schedule_to_what_the_worker_says_it_ran() -> None:
    counted = Counted()

    counted.metrics.committed([told(at(0, e.StepScheduled(1, "charge", NOTHING, "gpu")))])
    counted.metrics.committed([told(at(5, e.StepCompleted(1, "charge", 1, NOTHING, seconds=2.0)))])

    assert counted("step_schedule_to_start_seconds_sum", queue="gpu") == 3
    assert counted("step_duration_seconds_sum", step="charge") == 2
    assert counted("steps_total", step="charge", queue="gpu", outcome="COMPLETED") == 1


def test_a_wait_of_an_attempt_that_says_that_it_began_is_counted_once() -> None:
    counted = Counted()

    counted.metrics.committed(
        [
            told(
                at(0, e.StepScheduled(1, "charge", NOTHING, "gpu")),
                at(4, e.StepStarted(1, "charge", 1)),
                at(9, e.StepCompleted(1, "charge", 1, NOTHING, seconds=1.0)),
            )
        ]
    )

    assert counted("step_schedule_to_start_seconds_count", queue="gpu") == 1
    assert counted("step_schedule_to_start_seconds_sum", queue="gpu") == 4


def test_the_next_attempt_waits_from_when_it_is_due() -> None:
    counted = Counted()

    counted.metrics.committed(
        [
            told(
                at(0, e.StepScheduled(1, "charge", NOTHING, "gpu")),
                at(1, e.StepRetrying(1, "charge", 1, ERROR, NOON + timedelta(seconds=30))),
                at(32, e.StepCompleted(1, "charge", 2, NOTHING, seconds=1.0)),
            )
        ]
    )

    assert counted("step_retries_total", step="charge", reason="error") == 1
    assert counted("step_schedule_to_start_seconds_sum", queue="gpu") == 1


def test_an_outcome_counts_where_another_coordinator_scheduled_the_step() -> None:
    counted = Counted()

    with registry.isolated():

        @step(queue="gpu")
        def embed() -> None: ...

        counted.metrics.committed([told(at(5, e.StepFailed(1, "embed", 1, ERROR)))])

    assert counted("steps_total", step="embed", queue="gpu", outcome="FAILED") == 1


def test_names_that_nobody_registered_are_bounded() -> None:
    names = Names(lambda: {"known"}, strangers=1)

    assert [names(each) for each in ("a", "b", "known", "a")] == ["a", OTHER, "known", "a"]


def test_turns_and_commits_are_timed_and_the_rest_of_a_store_is_left_alone() -> None:
    counted = Counted()
    database = MemoryDatabase(now=lambda: NOON)
    lease = database.leases.acquire("me")
    assert lease is not None

    store = counted.metrics.metered(database.store)
    store.commit([], lease, NOON)
    assert store.load(["unknown"]) == {}
    counted.metrics.turn_took(0.25)

    assert counted("commit_seconds_count") == 1
    assert counted("turn_seconds_sum") == 0.25


class Figures:
    def __init__(self) -> None:
        self.count = 1
        self.error: Unreachable | None = None

    def read(self) -> StoreFigures:
        if self.error is not None:
            raise self.error
        rows = [OpenRuns("checkout", "BLOCKED", self.count, 60.0), OpenRuns("checkout", "RUNNING", 2, 5.0)]
        return StoreFigures(rows, {"report": 3}, 1.5)


class Depths:
    error: Unreachable | None = None

    def read(self, queues: object) -> BrokerFigures:
        if self.error is not None:
            raise self.error
        return BrokerFigures({"default": QueueDepth(4, 9.0)}, report_seconds=2.5)


class Stand:
    """Gauges under a clock and a lease that the test moves."""

    def __init__(self) -> None:
        self.now, self.held, self.is_first = 0.0, 1, True
        self.registry = CollectorRegistry()
        self.figures, self.depths = Figures(), Depths()
        self.gauges = Gauges(
            self.registry,
            registry,
            figures=self.figures,
            depths=self.depths,
            partitions_held=lambda: self.held,
            is_first=lambda: self.is_first,
            troubles=lambda: Troubles(stuck_runs=3, parked_runs=5, unreported_steps=7),
            monotonic=lambda: self.now,
        )

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"dramaturg_{name}", labels)


def test_gauges_show_what_was_read() -> None:
    stand = Stand()

    stand.gauges.refresh()

    assert stand("runs_open", workflow="checkout", status="BLOCKED") == 1
    assert stand("runs_idle_seconds_max", workflow="checkout") == 60
    assert stand("dead_letters", reason="report") == 3
    assert stand("dead_letters", reason="inbox") == 0
    assert stand("queue_depth", queue="default") == 4
    assert stand("queue_oldest_age_seconds", queue="default") == 9
    assert stand("partition_lag_seconds") == 2.5
    assert stand("partitions_held") == 1


def test_each_coordinator_shows_what_does_not_get_on_of_its_own() -> None:
    stand = Stand()
    stand.is_first = False

    assert stand("stuck_runs") == 3
    assert stand("parked_runs") == 5
    assert stand("unreported_steps") == 7


def test_one_of_several_coordinators_shows_the_namespace_so_that_sums_are_right() -> None:
    first, second = Stand(), Stand()
    second.is_first = False
    for stand in (first, second):
        stand.held = 32
        stand.gauges.refresh()

    assert second("runs_open", workflow="checkout", status="BLOCKED") is None
    assert second("partition_lag_seconds") is None
    assert second("partitions_held") == 32

    first.is_first, second.is_first = False, True
    assert first("runs_open", workflow="checkout", status="BLOCKED") is None
    second.gauges.refresh()
    assert second("runs_open", workflow="checkout", status="BLOCKED") == 1


def test_what_is_stale_is_shown_no_more() -> None:
    stand = Stand()
    stand.gauges.refresh()
    stand.figures.error = Unreachable("gone")

    stand.now = STALE.total_seconds() + 1

    assert stand("partition_lag_seconds") is None


def test_a_broker_that_is_away_leaves_what_the_database_says() -> None:
    stand = Stand()
    stand.depths.error = Unreachable("gone")

    stand.gauges.refresh()

    assert stand("queue_depth", queue="default") is None
    assert stand("partition_lag_seconds") == 1.5
