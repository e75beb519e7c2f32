"""What a coordinator counts of the schedules that it fires. Labels do not name schedules: there may be very many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from dramaturg_protocol.schedule_records import Fired, ScheduleCounts

_LATE = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86400)
_OUTCOMES = ("fired", "skipped", "missed")


class ScheduleMetrics:
    """Counts what schedules did, as it is committed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        times = Counter(
            "dramaturg_schedule_times",
            "Times of schedules that began a run, were skipped because of the one before, or came too late.",
            ["outcome"],
            registry=registry,
        )
        self._times: dict[str, Any] = {outcome: times.labels(outcome) for outcome in _OUTCOMES}
        self._late = Histogram(
            "dramaturg_schedule_lateness_seconds",
            "From when a time was due to when its run was started; not of those that waited for the one before.",
            buckets=_LATE,
            registry=registry,
        )

    def fired(self, decided: Sequence[Fired]) -> None:
        """Count what was committed."""
        for each in decided:
            for outcome, number in zip(_OUTCOMES, each.outcomes, strict=True):
                self._times[outcome].inc(number)
            for seconds in each.late:
                self._late.observe(max(seconds, 0.0))


def gauges_of(counts: ScheduleCounts) -> Iterator[Metric]:
    """How the schedules of a namespace stand."""
    schedules = GaugeMetricFamily(
        "dramaturg_schedules", "Schedules that fire, and that are paused, for which reason.", labels=["state"]
    )
    for state, number in counts.states.items():
        schedules.add_metric([state], number)
    yield schedules
    yield GaugeMetricFamily(
        "dramaturg_schedule_firings_waiting", "Times that wait for the run before them.", value=counts.waiting
    )
    if counts.next_due_seconds is not None:
        yield GaugeMetricFamily(
            "dramaturg_schedule_next_due_seconds",
            "In how many seconds the next time of any schedule is due; below zero for as long as it is late.",
            value=counts.next_due_seconds,
        )
