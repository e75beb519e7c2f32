"""How limits stand, for a scrape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from dramaturg_coordinator.troubles import Troubles
from dramaturg_store.limit_figures import LimitFigures


def gauges_of_limits(figures: Sequence[LimitFigures]) -> Iterator[Metric]:
    """What limits have granted, and who waits for them, by step or ``workflow …``."""
    granted = GaugeMetricFamily(
        "dramaturg_limit_granted", "Executions that limits let through and that count at the moment.", labels=["name"]
    )
    waiting = GaugeMetricFamily("dramaturg_limit_waiting", "Executions that wait for a limit.", labels=["name"])
    for each in figures:
        granted.add_metric([each.name], each.granted)
        waiting.add_metric([each.name], each.waiting)
    yield granted
    yield waiting


def gauge_of_leaks(troubles: Troubles) -> Metric:
    """What should be zero."""
    return GaugeMetricFamily(
        "dramaturg_leaked_slots",
        "Places of limits that were lost, as the audit found and mended them since the start.",
        value=troubles.leaked_slots,
    )
