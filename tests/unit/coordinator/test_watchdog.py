from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from dramaturg_coordinator.loop import WorkflowLoop
from dramaturg_coordinator.watchdog import CodeInterrupted, Watchdog


def a_loop() -> WorkflowLoop:
    return WorkflowLoop(  # type: ignore[abstract]
        "run", scope=None, start_timer=lambda _: 0, cancel_timer=lambda _: None, report_problem=lambda _: None
    )


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    watchdog = Watchdog(0.01)
    yield watchdog
    watchdog.stop()


def for_ever() -> None:
    while True:
        pass


def in_traced_thread(work: Callable[[], None]) -> bool:
    """Whether the work ends in a thread that a profiler looks at."""

    def run() -> None:
        sys.setprofile(lambda frame, event, argument: None)
        work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    return not thread.is_alive()


def test_code_that_does_not_come_back_is_interrupted(watchdog: Watchdog) -> None:
    loop = a_loop()

    with watchdog.watch(loop):
        for_ever()

    assert loop.is_interrupted
    assert "for_ever" in watchdog.stack


def test_an_interrupt_that_the_code_swallows_does_not_land_later(watchdog: Watchdog) -> None:
    loop = a_loop()

    with watchdog.watch(loop), contextlib.suppress(CodeInterrupted):
        for_ever()

    assert loop.is_interrupted
    for_a_while = [each for each in range(100_000) if each % 2]
    assert for_a_while


def test_watched_code_can_be_traced(watchdog: Watchdog) -> None:
    def work() -> None:
        with watchdog.watch(a_loop()):
            pass
        for _ in range(10):
            a_loop()

    assert in_traced_thread(work)


def test_code_can_be_traced_after_an_interrupt(watchdog: Watchdog) -> None:
    def work() -> None:
        with watchdog.watch(a_loop()):
            for_ever()
        for _ in range(10):
            a_loop()

    assert in_traced_thread(work)
