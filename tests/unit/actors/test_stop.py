"""The end of a worker: nothing new is begun, what runs may end, the rest is given back, and it never hangs."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from dramatiq.worker import WorkerThread

from dramaturg_actors import worker
from dramaturg_actors.brokers import make_broker
from dramaturg_actors.context import current_step
from dramaturg_actors.worker import StepWorker
from dramaturg_protocol.definitions import Registry
from dramaturg_protocol.errors import ConfigurationError, InternalError
from dramaturg_protocol.messages import ReportKind
from tests.unit.actors.workshop import Workshop


def kinds(workshop: Workshop) -> list[str]:
    return sorted(workshop.report().kind for _ in range(workshop.reports.qsize()))


@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_what_runs_may_end_and_what_waits_goes_back(workshop: Workshop, kind: str) -> None:
    begun = threading.Event()

    @workshop.step
    def work() -> None:
        begun.set()
        while not is_stopping():
            pass

    @workshop.step
    async def async_work() -> None:
        begun.set()
        while not is_stopping():  # noqa: ASYNC110 - there is nothing to await
            await asyncio.sleep(0)

    name = "work" if kind == "thread" else "async_work"
    workshop.start(threads=1, async_limit=1)
    for _ in range(3):
        workshop.send(name)
    begun.wait(10)
    workshop.stop()

    assert kinds(workshop) == [ReportKind.COMPLETED]
    assert workshop.broker.queues["default"].qsize() == 2

    begun.clear()
    workshop.start(threads=1, async_limit=1)
    begun.wait(10)
    workshop.stop()
    assert kinds(workshop) == [ReportKind.COMPLETED]
    assert workshop.broker.queues["default"].qsize() == 1


def is_stopping() -> bool:
    step = current_step()
    assert step is not None
    return step.stopping


@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_what_runs_beyond_the_timeout_is_interrupted_and_released(workshop: Workshop, kind: str) -> None:
    begun = threading.Event()
    reasons: list[str] = []

    @workshop.step
    def spin() -> None:
        begun.set()
        try:
            while True:
                pass
        finally:
            note_reason()

    @workshop.step
    async def async_sleep() -> None:
        begun.set()
        try:
            await asyncio.sleep(1000)
        finally:
            note_reason()

    def note_reason() -> None:
        step = current_step()
        assert step is not None
        assert step.stopping
        reasons.append(type(step.interrupted).__name__)

    workshop.start()
    workshop.send("spin" if kind == "thread" else "async_sleep")
    begun.wait(10)
    workshop.stop(0.01)

    assert kinds(workshop) == [ReportKind.RELEASED]
    assert reasons == ["WorkerShutdown"]
    assert not our_threads()


@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_a_step_that_does_not_stop_is_released_and_its_late_outcome_is_not_reported(
    workshop: Workshop, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "INTERRUPT_GRACE_SECONDS", 0.05)
    monkeypatch.setattr(worker, "EXIT_SECONDS", 0.05)
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    @workshop.step
    def hold() -> None:
        begun.set()
        release.wait(30)
        ended.set()

    @workshop.step
    async def async_hold() -> None:
        hold()

    workshop.start()
    workshop.send("hold" if kind == "thread" else "async_hold")
    begun.wait(10)
    start = time.monotonic()
    workshop.stop(0.01)

    assert time.monotonic() - start < 5
    assert kinds(workshop) == [ReportKind.RELEASED]
    release.set()
    assert kind == "thread" or ended.wait(10)
    for thread in our_threads():
        thread.join(10)
    assert workshop.reports.empty()


def our_threads() -> list[threading.Thread]:
    return [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("dramaturg-") or isinstance(thread, WorkerThread)
    ]


def test_a_stop_leaves_nothing_behind(workshop: Workshop) -> None:
    @workshop.step
    async def ok() -> None:
        pass

    workshop.start()
    workshop.run("ok", timeout=10.0)
    workshop.stop()

    assert not workshop.broker.middleware
    assert not workshop.broker.get_declared_actors()
    for thread in our_threads():
        thread.join(10)
    assert not our_threads()


def test_a_broker_is_served_again_after_a_stop(workshop: Workshop) -> None:
    @workshop.step
    def ok() -> None:
        pass

    for _ in range(3):
        workshop.start()
        assert workshop.run("ok").kind is ReportKind.COMPLETED
        workshop.stop()


def test_an_idle_worker_starts_and_stops_at_once(workshop: Workshop) -> None:
    @workshop.step
    def ok() -> None:
        pass

    start = time.monotonic()
    workshop.start()
    workshop.stop(25)

    assert time.monotonic() - start < 0.9


def test_stopping_twice_or_before_the_start_does_nothing(workshop: Workshop) -> None:
    StepWorker(make_broker("memory://"), workshop.reports.put, registry=Registry()).stop()
    step_worker = workshop.start()
    step_worker.stop()
    step_worker.stop()


def test_a_broker_has_one_worker_and_a_worker_starts_once(workshop: Workshop) -> None:
    step_worker = workshop.start()

    with pytest.raises(ConfigurationError, match="another StepWorker"):
        StepWorker(workshop.broker, workshop.reports.put, registry=Registry()).start()
    with pytest.raises(InternalError):
        step_worker.start()


def test_only_the_queues_that_were_named_are_served(workshop: Workshop) -> None:
    @workshop.step
    def ok() -> None:
        pass

    workshop.start(queues={"gpu"})

    workshop.send("ok", queue="default")
    report = workshop.run("ok", queue="gpu")

    assert report.seq == 2
    workshop.stop()
    assert workshop.reports.empty()
