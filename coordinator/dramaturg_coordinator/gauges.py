"""How things stand in a namespace: read by a duty, shown at each scrape.

One coordinator shows what is true of the whole namespace, the one that holds its first partition: so sums over all
coordinators are right. A scrape never waits for a database. What was read is shown until it is stale; then nothing is
shown, so that an alert sees the gap instead of an old number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dramaturg_coordinator.limit_gauges import gauge_of_leaks, gauges_of_limits
from dramaturg_coordinator.metrics import Names, queues_of
from dramaturg_coordinator.queue_depths import BrokerFigures, Depths
from dramaturg_coordinator.schedule_metrics import gauges_of
from dramaturg_coordinator.troubles import Troubles
from dramaturg_protocol.definitions import Registry
from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.records import LetterKind
from dramaturg_store.figures import OpenRuns, StoreFigures

#: How often the figures are read.
PERIOD = timedelta(seconds=10)
#: How long they are shown.
STALE = timedelta(seconds=60)

# Reading may take so much of the time; where it takes longer, for millions of open runs, it is done less often.
_SHARE = 0.05


class ReadsFigures(Protocol):
    """Where the figures of the database come from."""

    def read(self) -> StoreFigures:
        """Those of this moment. Raises `Unreachable`."""
        ...


@dataclass(frozen=True, slots=True)
class _Snapshot:
    taken: float
    store: StoreFigures
    broker: BrokerFigures | None


class Gauges(Collector):
    """Shows how things stand.

    Parameters:
      registry: where it registers itself.
      known: the workflows and steps of this process.
      figures: of the database.
      depths: of the broker.
      partitions_held: how many partitions this coordinator holds now.
      is_first: whether it is the one of the namespace's coordinators that shows the figures of all of it.
      troubles: what does not get on of what it holds.
      queues: names of queues besides those of the registered steps.
      monotonic: seconds, of a clock that is never set.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        known: Registry,
        *,
        figures: ReadsFigures,
        depths: Depths,
        partitions_held: Callable[[], int],
        is_first: Callable[[], bool],
        troubles: Callable[[], Troubles] = Troubles,
        queues: Collection[str] = (),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._known = known
        self._workflows = Names(lambda: known.workflows)
        self._figures = figures
        self._depths = depths
        self._partitions_held = partitions_held
        self._is_first = is_first
        self._troubles = troubles
        self._queues = set(queues)
        self._monotonic = monotonic
        self._snapshot: _Snapshot | None = None
        self._not_before = 0.0
        registry.register(self)

    def refresh(self) -> None:
        """Read the figures, where this coordinator is to show them: a duty.

        Raises:
          Unreachable: the database does not answer; what was read before is shown until it is stale.
        """
        began = self._monotonic()
        if not self._is_first():
            self._snapshot = None
            return
        if began < self._not_before:
            return
        store = self._figures.read()
        try:
            broker = self._depths.read(self._queues | queues_of(self._known))
        except Unreachable:
            # Another duty tells of a broker that is away; the database is no less worth showing.
            broker = None
        self._snapshot = _Snapshot(began, store, broker)
        self._not_before = began + (self._monotonic() - began) / _SHARE

    def collect(self) -> Iterator[Metric]:
        """What a scrape sees."""
        yield GaugeMetricFamily(
            "dramaturg_partitions_held",
            "Partitions that this coordinator holds; their sum is the number of those that are served.",
            value=self._partitions_held(),
        )
        troubles = self._troubles()
        yield from _of_troubles(troubles)
        yield gauge_of_leaks(troubles)
        snapshot = self._snapshot
        if snapshot is None or not self._is_first() or self._is_stale(snapshot):
            return
        yield from self._of_store(snapshot.store)
        report_seconds = 0.0
        if snapshot.broker is not None:
            yield from _of_queues(snapshot.broker)
            report_seconds = snapshot.broker.report_seconds
        yield GaugeMetricFamily(
            "dramaturg_partition_lag_seconds",
            "For how long the oldest request, due work or report has been waiting for its coordinator.",
            value=max(snapshot.store.lag_seconds, report_seconds),
        )

    def describe(self) -> Iterator[Metric]:
        """Names only: without it the registry would collect once to learn them."""
        return iter(())

    def _is_stale(self, snapshot: _Snapshot) -> bool:
        longest = max(STALE.total_seconds(), 2 * (self._not_before - snapshot.taken))
        return self._monotonic() - snapshot.taken > longest

    def _of_store(self, figures: StoreFigures) -> Iterator[Metric]:
        open_runs = GaugeMetricFamily("dramaturg_runs_open", "Open runs by status.", labels=["workflow", "status"])
        for (workflow, status), count in self._counted(figures.open_runs).items():
            open_runs.add_metric([workflow, status], count)
        yield open_runs
        idle = GaugeMetricFamily(
            "dramaturg_runs_idle_seconds_max",
            "For how long nothing has happened to the open run that moved least recently.",
            labels=["workflow"],
        )
        for workflow, seconds in self._idle(figures.open_runs).items():
            idle.add_metric([workflow], seconds)
        yield idle
        letters = GaugeMetricFamily(
            "dramaturg_dead_letters",
            "Dead letters that nobody has dealt with, by what they are about.",
            labels=["reason"],
        )
        for source in LetterKind:
            letters.add_metric([source.value], figures.dead_letters.get(source.value, 0))
        yield letters
        yield from gauges_of(figures.schedules)
        yield from gauges_of_limits(figures.limits)

    def _counted(self, rows: Collection[OpenRuns]) -> Mapping[tuple[str, str], int]:
        counted = {(name, status): 0 for name in list(self._known.workflows) for status in ("RUNNING", "BLOCKED")}
        for row in rows:
            key = (self._workflows(row.workflow), row.status)
            counted[key] = counted.get(key, 0) + row.count
        return counted

    def _idle(self, rows: Collection[OpenRuns]) -> Mapping[str, float]:
        idle = dict.fromkeys(list(self._known.workflows), 0.0)
        for row in rows:
            name = self._workflows(row.workflow)
            idle[name] = max(idle.get(name, 0.0), row.idle_seconds)
        return idle


def _of_troubles(troubles: Troubles) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "dramaturg_stuck_runs",
        "Open runs that nothing will bring on: the audit found them.",
        value=troubles.stuck_runs,
    )
    yield GaugeMetricFamily(
        "dramaturg_parked_runs",
        "Runs that wait for a coordinator with other code.",
        value=troubles.parked_runs,
    )
    yield GaugeMetricFamily(
        "dramaturg_unreported_steps",
        "Steps that were sent again three times or more without a word from any worker.",
        value=troubles.unreported_steps,
    )


def _of_queues(figures: BrokerFigures) -> Iterator[Metric]:
    depth = GaugeMetricFamily("dramaturg_queue_depth", "Messages that no worker has taken yet.", labels=["queue"])
    oldest = GaugeMetricFamily(
        "dramaturg_queue_oldest_age_seconds", "Since when the oldest of them has been on its way.", labels=["queue"]
    )
    for name, queue in figures.queues.items():
        depth.add_metric([name], queue.depth)
        oldest.add_metric([name], queue.oldest_seconds)
    yield depth
    yield oldest
