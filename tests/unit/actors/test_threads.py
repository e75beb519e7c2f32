"""Dramatiq's threads under a StepWorker: none dies unseen, and its own middleware does not act on steps."""

from __future__ import annotations

import ctypes
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import dramatiq
import pytest
from dramatiq.broker import MessageProxy
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Middleware

from dramaturg_actors.threads import StepThreads, WorkQueue
from dramaturg_protocol.messages import ReportKind
from tests.unit.actors.workshop import Workshop


def test_a_worker_thread_that_is_interrupted_between_messages_goes_on(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    @workshop.step
    def whoami() -> int:
        return threading.get_ident()

    workshop.start(threads=1)
    ident = int(workshop.run("whoami").result or 0)

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(KeyboardInterrupt))
    workshop.run("whoami")

    assert int(workshop.run("whoami").result or 0) == ident
    assert any("goes on" in record.message for record in caplog.records)


def test_an_interrupt_before_the_acknowledgement_does_not_lose_the_report(workshop: Workshop) -> None:
    strays: queue.Queue[BaseException] = queue.Queue()
    strays.put(KeyboardInterrupt())

    class Stray(Middleware):
        def before_ack(self, broker: Any, message: Any) -> None:
            if not strays.empty():
                raise strays.get()

    @workshop.step
    def ok() -> None:
        pass

    # Before ours, so that it strikes while the report is still owed.
    workshop.start(threads=1)
    workshop.broker.middleware.insert(0, Stray())

    assert [workshop.run("ok").kind for _ in range(2)] == [ReportKind.COMPLETED] * 2
    workshop.stop()
    assert workshop.reports.empty()


def test_an_interrupt_while_a_report_is_published_does_not_lose_it(workshop: Workshop) -> None:
    strays: queue.Queue[BaseException] = queue.Queue()
    strays.put(KeyboardInterrupt())

    def report(text: str) -> None:
        if not strays.empty():
            raise strays.get()
        workshop.reports.put(text)

    @workshop.step
    def ok() -> None:
        pass

    workshop.start(report, threads=1)

    assert [workshop.run("ok").kind for _ in range(2)] == [ReportKind.COMPLETED] * 2
    workshop.stop()
    assert workshop.reports.empty()


@pytest.mark.slow  # Dramatiq's own consumer cannot be woken
def test_the_default_middleware_of_a_broker_neither_retries_nor_doubles(workshops: Callable[..., Workshop]) -> None:
    workshop = workshops(StubBroker())

    @workshop.step
    def fail() -> NoReturn:
        raise ValueError("wrong")

    @workshop.step
    async def async_fail() -> NoReturn:
        raise ValueError("wrong")

    @workshop.step
    def ok() -> None:
        pass

    workshop.start(threads=2)

    assert [workshop.run(name).kind for name in ("fail", "async_fail", "nowhere", "ok")] == [
        ReportKind.FAILED,
        ReportKind.FAILED,
        ReportKind.FAILED,
        ReportKind.COMPLETED,
    ]
    workshop.stop()
    assert workshop.reports.empty()
    assert all(each.empty() for each in workshop.broker.queues.values())


def test_a_closed_work_queue_gives_nothing_more() -> None:
    work = WorkQueue()
    for number in (2, 1, 3):
        work.put(number)

    assert work.get() == 1
    work.close()
    with pytest.raises(queue.Empty):
        work.get(timeout=60)
    assert sorted(work.drain()) == [2, 3]


def test_what_was_taken_before_the_stop_and_sorted_after_it_goes_back_at_once(workshop: Workshop) -> None:
    taken, go_on = threading.Event(), threading.Event()

    def route(message: MessageProxy) -> bool:
        taken.set()
        return not go_on.wait(10)

    dramatiq.actor(actor_name="work", broker=workshop.broker)(print)
    threads = StepThreads(
        workshop.broker,
        queues=None,
        except_queues=(),
        threads=1,
        prefetch=8,
        route=route,
        is_unreported=lambda message: False,
    )
    threads.start()
    workshop.send("work")
    assert taken.wait(10)

    threads.refuse_new()
    go_on.set()

    assert b"work" in workshop.broker.queues["default"].get(timeout=10)
    threads.close(time.monotonic() + 10)
