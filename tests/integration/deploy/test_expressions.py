"""What the dashboard and the alerts ask for, a real engine shows: names and labels."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from pathlib import Path

import pytest

from dramaturg import Client, RetryPolicy, step, workflow
from dramaturg.embedded import Engine
from dramaturg.monitoring import Monitoring
from dramaturg_protocol.config import Settings
from dramaturg_protocol.definitions import registry
from tests.integration.deploy.expressions import ADDED_LABELS, ADDED_METRICS, Expression, alerts, panels

EXPRESSIONS = [*panels(), *alerts()]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Generator[Mapping[str, set[str]], None, None]:
    """The labels of every sample that an engine shows which ran, failed, repeated and scheduled something."""
    folder: Path = tmp_path_factory.mktemp("engine")
    with registry.isolated():
        tried = threading.Event()

        @step(retries=RetryPolicy(max_attempts=2, initial=0.01, jitter=False))
        def at_the_second_time() -> int:
            if not tried.is_set():
                tried.set()
                raise ValueError("the first time")
            return 1

        @workflow
        async def patient() -> int:
            return await at_the_second_time()

        settings = Settings(database_url=f"sqlite:///{folder}/d.db", metrics_port=0)
        with Client(settings) as client:
            client.schedules.create("nightly", patient, cron="0 2 * * *")
        monitoring = Monitoring(settings)
        with Engine(settings, monitoring=monitoring) as client:
            assert client.start(patient).result(timeout=30) == 1
            yield {
                sample.name: set().union(*(each.labels for each in metric.samples if each.name == sample.name))
                for metric in monitoring.registry.collect()
                for sample in metric.samples
            }


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda each: each.where)
def test_every_expression_asks_for_what_an_engine_shows(expression: Expression, shown: Mapping[str, set[str]]) -> None:
    wanted = expression.metrics

    assert wanted
    missing = wanted.keys() - shown.keys() - ADDED_METRICS
    assert not missing
    labels = {label for name in wanted for label in shown.get(name, ())} | ADDED_LABELS
    assert expression.grouped_by <= labels
    for name, matched in wanted.items():
        assert matched <= shown.get(name, set()) | ADDED_LABELS


def test_there_are_panels_and_alerts() -> None:
    assert len(list(panels())) >= 20
    assert len(list(alerts())) >= 5
