"""Time limits and interrupts: they land in the step's own code or nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from dramaturg_actors.context import StepContext, context_of, current_step
from dramaturg_actors.interrupts import Deadlines, ThreadInterruption
from dramaturg_protocol.errors import StepInterrupt, StepTimedOut, WorkerShutdown
from dramaturg_protocol.messages import ReportKind
from tests.unit.actors.workshop import Workshop


def spin() -> None:
    while True:
        pass


async def sleep_long() -> None:
    await asyncio.sleep(1000)


def swallow() -> str:
    with contextlib.suppress(StepInterrupt):
        spin()
    return "swallowed"


async def async_swallow() -> str:
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        step = current_step()
        assert step is not None
        return f"swallowed {type(step.interrupted).__name__}"
    return "never"


@pytest.mark.parametrize("fn", [spin, sleep_long])
def test_an_attempt_beyond_its_timeout_is_stopped_and_says_so(workshop: Workshop, fn: Any) -> None:
    workshop.step(fn)
    workshop.start(threads=1)

    workshop.send(fn.__name__, timeout=0.05)
    started, ended = workshop.report(), workshop.report()

    assert (started.kind, ended.kind) == (ReportKind.STARTED, ReportKind.TIMED_OUT)
    assert ended.message == f"step {fn.__name__!r} took longer than its timeout of 0.05 s"
    assert f"in {fn.__name__}" in ended.traceback
    assert ended.seconds is not None
    assert 0.04 < ended.seconds < 2
    assert not ended.fatal


def test_the_thread_of_a_stopped_step_takes_the_next(workshop: Workshop) -> None:
    workshop.step(spin)
    workshop.step(swallow)
    workshop.start(threads=1)

    for _ in range(5):
        workshop.send("spin", timeout=0.01)
    workshop.send("swallow", timeout=0.01)
    kinds = [workshop.outcome().kind for _ in range(6)]

    assert kinds == [ReportKind.TIMED_OUT] * 5 + [ReportKind.COMPLETED]


@pytest.mark.parametrize(("fn", "result"), [(swallow, '"swallowed"'), (async_swallow, '"swallowed StepTimedOut"')])
def test_a_step_may_answer_an_interrupt_with_a_result(workshop: Workshop, fn: Any, result: str) -> None:
    workshop.step(fn)
    workshop.start()

    assert workshop.run(fn.__name__, timeout=0.02).result == result


def test_an_exception_does_not_swallow_an_interrupt(workshop: Workshop) -> None:
    @workshop.step
    def stubborn() -> None:
        while True:
            with contextlib.suppress(Exception):
                spin()

    workshop.start()

    assert workshop.run("stubborn", timeout=0.02).kind is ReportKind.TIMED_OUT


def test_a_step_without_a_timeout_reports_its_end_only(workshop: Workshop) -> None:
    @workshop.step
    def ok() -> None:
        pass

    workshop.start()
    workshop.send("ok")

    assert workshop.report().kind is ReportKind.COMPLETED


def test_a_step_that_raises_an_interrupt_by_itself_failed(workshop: Workshop) -> None:
    @workshop.step
    def pretend() -> None:
        raise WorkerShutdown("not really")

    workshop.start()

    assert workshop.run("pretend").kind is ReportKind.FAILED


def a_context(workshop: Workshop) -> StepContext:
    return context_of(workshop.task("x"), {}, lambda: False)


def count_to(number: int) -> int:
    return sum(1 for _ in range(number))


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hasty_threads")
def test_no_interrupt_lands_outside_the_call(workshop: Workshop) -> None:
    """Each round ends about when its interrupt comes: it is raised inside, or never."""
    landed = whole = 0
    stop = threading.Event()
    current: list[ThreadInterruption] = []

    def interrupt() -> None:
        while not stop.is_set():
            for interruption in current:
                interruption.send(StepTimedOut("x"))

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    for length in itertools.cycle(range(0, 2000, 7)):
        if landed >= 5 and whole >= 500:
            break
        interruption = ThreadInterruption(a_context(workshop))
        current[:] = [interruption]
        try:
            interruption.run(partial(count_to, length))
            whole += 1
        except StepTimedOut:
            landed += 1
        current.clear()
    stop.set()
    thread.join(5)


def test_what_comes_before_or_after_the_call_is_ignored(workshop: Workshop) -> None:
    context = a_context(workshop)
    interruption = ThreadInterruption(context)

    interruption.send(StepTimedOut("early"))
    assert interruption.run(lambda: 1) == 1
    interruption.send(StepTimedOut("late"))

    assert context.interrupted is None


def test_the_first_reason_counts(workshop: Workshop) -> None:
    context = a_context(workshop)
    interruption = ThreadInterruption(context)
    first = StepTimedOut("first")

    def call() -> None:
        interruption.send(first)
        interruption.send(WorkerShutdown("second"))

    with pytest.raises(StepTimedOut):
        interruption.run(call)
    assert context.interrupted is first


def test_deadlines_pass_in_their_order_and_only_if_not_removed() -> None:
    deadlines = Deadlines()
    passed: list[str] = []
    is_held, may_go_on, last = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        is_held.set()
        may_go_on.wait(60)

    deadlines.add(0, hold)
    assert is_held.wait(60)
    # The thread is kept from looking, so that all have passed when it does.
    deadlines.add(-1, last.set)
    deadlines.add(-3, lambda: passed.append("second"))
    removed = deadlines.add(-4, lambda: passed.append("removed"))
    deadlines.add(-5, lambda: passed.append("first"))
    deadlines.remove(removed)
    may_go_on.set()

    assert last.wait(60)
    deadlines.close()
    assert passed == ["first", "second"]


def test_a_far_deadline_does_not_keep_a_near_one_waiting() -> None:
    deadlines = Deadlines()
    passed = threading.Event()

    deadlines.add(1e9, lambda: None)
    deadlines.add(0.01, passed.set)

    assert passed.wait(60)
    deadlines.close()
