"""What is told of attempts that run: those that take long, and what they say of themselves; little, and in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest

from dramaturg_actors import pulse
from dramaturg_actors.attempts import Attempt
from dramaturg_actors.context import context_of, current_step
from dramaturg_actors.failures import Outcome
from dramaturg_actors.pulse import Pulse
from dramaturg_protocol.messages import ReportKind, StepReport
from tests.unit.actors.workshop import Workshop


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the monotonic clock."""
    shift = [0.0]
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + shift[0])

    def move(seconds: float) -> None:
        shift[0] += seconds

    return move


def an_attempt(workshop: Workshop, **fields: Any) -> Attempt:
    task = workshop.task("work", **fields)
    return Attempt(task, context_of(task, {}, lambda: False))


def test_an_attempt_is_told_of_once_it_takes_long(workshop: Workshop, clock: Callable[[float], None]) -> None:
    attempt, sent = an_attempt(workshop), list[StepReport]()
    watch = Pulse(lambda: [attempt], sent.append, "w")

    watch.look()
    assert not sent
    clock(pulse.LONG_SECONDS)
    watch.look()
    watch.look()

    assert [report.kind for report in sent] == [ReportKind.STARTED]
    assert sent[0].seconds is not None
    assert sent[0].seconds >= pulse.LONG_SECONDS


def test_what_a_step_says_is_gathered(workshop: Workshop, clock: Callable[[float], None]) -> None:
    attempt, sent = an_attempt(workshop), list[StepReport]()
    attempt.is_announced = True
    watch = Pulse(lambda: [attempt], sent.append, "w")

    for number in range(1000):
        attempt.context.heartbeat(number)
    attempt.context.progress(5, 10)
    watch.look()
    attempt.context.heartbeat("later")
    watch.look()
    assert [(report.beat, report.heartbeat) for report in sent] == [(True, "[999]")]
    assert sent[0].progress is not None
    assert sent[0].progress.done == 5
    clock(pulse.PERIOD_SECONDS)
    watch.look()

    assert [report.heartbeat for report in sent] == ["[999]", '["later"]']


def test_what_was_not_taken_is_told_again(workshop: Workshop, clock: Callable[[float], None]) -> None:
    attempt, sent = an_attempt(workshop), list[StepReport]()
    attempt.is_announced = True
    is_down = [True]

    def send(report: StepReport) -> None:
        if is_down[0]:
            raise ConnectionError
        sent.append(report)

    watch = Pulse(lambda: [attempt], send, "w")
    attempt.context.heartbeat(1)
    attempt.context.progress(1)
    watch.look()
    attempt.context.heartbeat(2)
    is_down[0] = False
    clock(pulse.PERIOD_SECONDS)
    watch.look()

    (report,) = sent
    assert (report.heartbeat, report.progress is not None) == ("[2]", True)


def test_what_was_said_last_goes_with_the_outcome_of_an_attempt_that_fails(workshop: Workshop) -> None:
    failed, done = an_attempt(workshop), an_attempt(workshop)
    for attempt, kind in ((failed, ReportKind.FAILED), (done, ReportKind.COMPLETED)):
        attempt.context.heartbeat(3)
        attempt.settle(Outcome(kind))

    reports = [attempt.claim_report("w") for attempt in (failed, done)]

    assert [report.heartbeat if report else "" for report in reports] == ["[3]", None]


def test_a_settled_attempt_is_told_of_no_more(workshop: Workshop, clock: Callable[[float], None]) -> None:
    attempt, sent = an_attempt(workshop), list[StepReport]()
    attempt.context.heartbeat(1)
    attempt.settle(Outcome(ReportKind.COMPLETED))
    clock(60)

    assert Pulse(lambda: [attempt], sent.append, "w").look() is None
    assert not sent


@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_a_step_that_gives_no_heartbeat_is_stopped_and_says_so(workshop: Workshop, kind: str) -> None:
    @workshop.step
    def on_thread() -> None:
        while True:
            Event().wait(0.01)

    @workshop.step
    async def on_loop() -> None:
        import asyncio

        await asyncio.sleep(600)

    workshop.start()
    name = "on_thread" if kind == "thread" else "on_loop"
    report = workshop.run(name, heartbeat_timeout=0.2)

    assert (report.kind, report.limit) == (ReportKind.TIMED_OUT, "heartbeat_timeout")
    assert "gave no heartbeat for 0.2 s" in report.message


def test_a_step_that_gives_them_is_left_alone(workshop: Workshop) -> None:
    @workshop.step
    def beats() -> str:
        context = current_step()
        assert context is not None
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            context.heartbeat()
            Event().wait(0.01)
        return "done"

    workshop.start()

    assert workshop.run("beats", heartbeat_timeout=60.0).kind is ReportKind.COMPLETED
    kinds = [workshop.report().kind for _ in range(workshop.reports.qsize())]
    assert len([kind for kind in kinds if kind is ReportKind.ALIVE]) <= 3


def test_what_is_picked_up_too_late_is_dropped_unless_it_was_begun_before(workshop: Workshop) -> None:
    from datetime import UTC, datetime, timedelta

    ran: list[int] = []

    @workshop.step
    def work() -> None:
        ran.append(1)

    now = datetime(2030, 1, 1, tzinfo=UTC)
    workshop.start(now=lambda: now)

    assert workshop.run("work", start_by=now).kind is ReportKind.COMPLETED
    assert workshop.run("work", start_by=now - timedelta(seconds=1)).kind is ReportKind.EXPIRED
    assert ran == [1]
