"""What is counted of schedules: each time by its end, how late those were that began a run, and how all of them stand."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from dramaturg import sleep, workflow
from dramaturg.testing import WorkflowEnv
from dramaturg_coordinator.schedule_metrics import ScheduleMetrics, gauges_of
from dramaturg_coordinator.schedules import Firer
from dramaturg_protocol.definitions import registry


class Told:
    """A clock that says what it is told."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment


class Counted:
    """Fires an engine's schedules by hand, and counts what they do."""

    def __init__(self, env: WorkflowEnv) -> None:
        self._env = env
        self._numbers = CollectorRegistry()
        metrics = ScheduleMetrics(self._numbers)
        tenure = env._coordinator._tenure  # pyright: ignore[reportPrivateUsage]
        assert tenure is not None
        self.clock = Told(env.now)
        self._firer = Firer(
            env.database.schedules,
            namespace=env.client.settings.namespace,
            lease=tenure.lease,
            clock=self.clock,
            registry=registry,
            on_fired=metrics.fired,
        )

    def fire_after(self, hours: float) -> None:
        self.clock.moment = self._env.now + timedelta(hours=hours)
        self._firer.fire(looks=True)

    @property
    def outcomes(self) -> tuple[float, ...]:
        """How many times were fired, skipped and missed."""
        found = [
            self._numbers.get_sample_value("dramaturg_schedule_times_total", {"outcome": each})
            for each in ("fired", "skipped", "missed")
        ]
        return tuple(each for each in found if each is not None)

    def late(self, sample: str) -> float | None:
        return self._numbers.get_sample_value(f"dramaturg_schedule_lateness_seconds_{sample}")


def gauges_in(env: WorkflowEnv) -> dict[str, Any]:
    """The samples of the gauges, by their name and label."""
    counts = env.database.figures.read().schedules
    samples = [sample for metric in gauges_of(counts) for sample in metric.samples]
    return {" ".join([each.name, *each.labels.values()]): each.value for each in samples}


@pytest.fixture
def lasting() -> Any:
    @workflow(name="lasts_for_a_year")
    async def lasts() -> None:
        await sleep("365d")

    return lasts


def test_each_time_counts_once_by_its_end(env: WorkflowEnv, lasting: Any) -> None:
    counted = Counted(env)
    env.client.schedules.create("a", lasting, every="1h", overlap="allow_all")
    env.client.schedules.create("s", lasting, every="1h", overlap="skip")
    counted.fire_after(0)
    assert counted.outcomes == (2, 0, 0)

    counted.fire_after(1)
    assert counted.outcomes == (3, 1, 0)
    counted.fire_after(4.5)
    # Three were due, two of them by more than the hour of the window.
    assert counted.outcomes == (4, 2, 4)
    counted.fire_after(4.5)
    assert counted.outcomes == (4, 2, 4)


def test_lateness_is_that_of_the_times_that_began_a_run(env: WorkflowEnv, lasting: Any) -> None:
    counted = Counted(env)
    env.client.schedules.create("a", lasting, every="1h", overlap="allow_all")
    counted.fire_after(0.5)
    counted.fire_after(1.25)

    assert counted.late("count") == 2
    assert counted.late("sum") == pytest.approx(45 * 60)


def test_gauges_say_how_they_stand_and_how_late_the_next_one_is(env: WorkflowEnv, lasting: Any) -> None:
    assert gauges_in(env) == {"dramaturg_schedules active": 0, "dramaturg_schedule_firings_waiting": 0}
    schedules = env.client.schedules
    schedules.create("a", lasting, every="1h", start_at=env.now, overlap="buffer_all")
    schedules.create("p", lasting, every="1m", paused=True)
    schedules.create("gone", "no_such_workflow", every="1h")
    env.advance("2h30m")

    shown = gauges_in(env)
    assert shown.pop("dramaturg_schedule_next_due_seconds") is not None
    assert shown == {
        "dramaturg_schedules active": 1,
        "dramaturg_schedules by_hand": 1,
        "dramaturg_schedules trouble": 1,
        "dramaturg_schedule_firings_waiting": 2,
    }
