"""What becomes of a step: its result or its error, exactly one final report."""

from __future__ import annotations

import asyncio
import logging
import queue
from typing import Any, NoReturn

import dramatiq
import pytest
from dramatiq.middleware import Middleware, SkipMessage

from dramaturg_actors import reporting, worker
from dramaturg_actors.brokers import MemoryBroker
from dramaturg_protocol.errors import FatalError, RetryableError
from dramaturg_protocol.messages import ReportKind, StepTask, decode_task, encode_message
from dramaturg_protocol.transport import TASK_OPTION, message_of
from tests.unit.actors.workshop import Workshop


def test_a_step_in_a_thread_reports_its_result_encoded(workshop: Workshop) -> None:
    @workshop.step
    def add(a: int, b: int) -> int:
        return a + b

    workshop.start()

    report = workshop.run("add", 1, 2)

    assert (report.kind, report.result) == (ReportKind.COMPLETED, "3")
    assert (report.run_id, report.generation, report.seq, report.attempt, report.partition) == ("r", 0, 1, 1, 3)
    assert report.worker == "the worker"
    assert report.seconds is not None
    assert 0 <= report.seconds < 5


def test_an_async_step_reports_its_result_encoded(workshop: Workshop) -> None:
    @workshop.step
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    workshop.start()

    assert workshop.run("add", 1, 2).result == "3"


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


ERRORS: dict[str, Any] = {
    "plain": (ValueError("wrong"), "ValueError", "wrong"),
    "broken str": (Broken(), f"{__name__}.Broken", "<str() of Broken failed>"),
    "a NUL": (ValueError("a\0b"), "ValueError", "a\0b"),
    "a lone surrogate": (ValueError("a\ud800b"), "ValueError", "a\\ud800b"),
    "a group": (ExceptionGroup("both", [ValueError("1"), KeyError("2")]), "ExceptionGroup", "both (2 sub-exceptions)"),
    "sys.exit": (SystemExit(3), "SystemExit", "3"),
    "ctrl-c": (KeyboardInterrupt(), "KeyboardInterrupt", ""),
}


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_any_exception_becomes_a_failure_and_the_worker_goes_on(workshop: Workshop, case: str, kind: str) -> None:
    error, error_type, message = ERRORS[case]

    def fail() -> NoReturn:
        raise error

    async def async_fail() -> NoReturn:
        raise error

    workshop.step(fail)
    workshop.step(async_fail)
    workshop.step(ok)
    workshop.start(threads=1)

    report = workshop.run("fail" if kind == "thread" else "async_fail")

    assert (report.kind, report.error_type, report.message) == (ReportKind.FAILED, error_type, message)
    assert "fail()" in report.traceback or "in fail" in report.traceback or "in async_fail" in report.traceback
    assert not report.fatal
    assert workshop.run("ok").kind is ReportKind.COMPLETED


def ok() -> None:
    pass


def test_the_traceback_begins_in_the_step(workshop: Workshop) -> None:
    @workshop.step
    def fail() -> NoReturn:
        raise ValueError("wrong")

    workshop.start()

    report = workshop.run("fail")

    assert report.traceback.splitlines()[0] == "Traceback (most recent call last):"
    assert report.traceback.count('File "') == 1
    assert "in fail" in report.traceback
    assert report.traceback.splitlines()[-1] == "ValueError: wrong"


def test_the_names_of_all_bases_are_reported(workshop: Workshop) -> None:
    @workshop.step
    def fail() -> NoReturn:
        raise ConnectionResetError("gone")

    workshop.start()

    assert workshop.run("fail").bases == (
        "ConnectionResetError",
        "ConnectionError",
        "OSError",
        "Exception",
        "BaseException",
    )


def test_message_and_traceback_are_bounded(workshop: Workshop) -> None:
    @workshop.step
    def fail() -> NoReturn:
        raise ValueError("é" * 100_000)

    @workshop.step
    def deep(n: int) -> int:
        return deep(n - 1) + deep_too(n - 1) if n else int("x")

    @workshop.step
    def deep_too(n: int) -> int:
        return deep(n)

    workshop.start()

    report = workshop.run("fail")

    assert 8_000 < len(report.message.encode()) <= 8 * 1024
    assert len(report.traceback.encode()) <= 32 * 1024
    assert workshop.run("deep", 100).traceback.endswith("invalid literal for int() with base 10: 'x'\n")


def test_retryable_and_fatal_errors_say_how_to_go_on(workshop: Workshop) -> None:
    @workshop.step
    def later() -> NoReturn:
        raise RetryableError("later", retry_after="1m30s")

    @workshop.step
    def unreadable() -> NoReturn:
        raise RetryableError("later", retry_after="soon")

    @workshop.step
    def never() -> NoReturn:
        raise FatalError("never")

    @workshop.step
    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(async_never())

    workshop.start()

    assert workshop.run("later").retry_after == 90.0
    assert workshop.run("unreadable").retry_after is None
    assert workshop.run("never").fatal
    assert workshop.run("grouped").fatal


async def async_never() -> NoReturn:
    raise FatalError("never")


@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_a_result_that_cannot_be_encoded_fails_the_step_for_good(workshop: Workshop, kind: str) -> None:
    @workshop.step
    def strange() -> object:
        return object()

    @workshop.step
    async def async_strange() -> object:
        return object()

    workshop.start()

    report = workshop.run("strange" if kind == "thread" else "async_strange")

    assert report.kind is ReportKind.FAILED
    assert report.error_type == "dramaturg_protocol.errors.PayloadError"
    assert report.fatal


def test_a_result_beyond_the_limit_fails_the_step_for_good(workshop: Workshop) -> None:
    @workshop.step
    def large() -> str:
        return "x" * 1000

    workshop.start(max_payload=100)

    report = workshop.run("large")

    assert (report.kind, report.fatal) == (ReportKind.FAILED, True)
    assert "the limit of 100" in report.message


def test_arguments_that_do_not_fit_fail_the_step_for_good(workshop: Workshop) -> None:
    @workshop.step
    def half(n: int) -> float:
        return n / 2

    workshop.start()

    report = workshop.run("half", "not a number")

    assert (report.kind, report.fatal) == (ReportKind.FAILED, True)
    assert "argument 'n' of step 'half'" in report.message


def test_an_unknown_step_fails_with_advice(workshop: Workshop) -> None:
    workshop.step(ok)
    workshop.start()

    report = workshop.run("nowhere", queue="gpu")

    assert (report.kind, report.error_type, report.fatal) == (ReportKind.FAILED, "UnknownStep", True)
    assert "'nowhere'" in report.message
    assert "'gpu'" in report.message
    assert "import the module" in report.message
    assert workshop.run("ok").kind is ReportKind.COMPLETED


def test_a_step_that_is_registered_later_is_served(workshop: Workshop) -> None:
    workshop.start()
    workshop.step_with(queue="late")(ok)

    assert workshop.run("ok", queue="late").kind is ReportKind.COMPLETED


def test_a_function_that_hides_its_coroutine_fails_with_advice(workshop: Workshop) -> None:
    @workshop.step
    def hidden() -> Any:
        return async_never()

    workshop.start()

    report = workshop.run("hidden")

    assert (report.kind, report.fatal) == (ReportKind.FAILED, True)
    assert "make it an `async def`" in report.message


def test_a_step_whose_middleware_skips_it_is_reported_as_skipped(workshop: Workshop) -> None:
    class Gate(Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            raise SkipMessage("closed")

    workshop.step(ok)
    workshop.broker.add_middleware(Gate())
    workshop.start()

    report = workshop.run("ok")

    assert (report.kind, report.fatal) == (ReportKind.SKIPPED, True)
    assert report.error_type.endswith("SkipMessage")


def test_other_middleware_sees_the_exception_of_a_step(workshop: Workshop) -> None:
    seen: queue.Queue[BaseException | None] = queue.Queue()

    class Witness(Middleware):
        def after_process_message(
            self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
        ) -> None:
            seen.put(exception)

    @workshop.step
    def fail() -> NoReturn:
        raise ValueError("in a thread")

    @workshop.step
    async def async_fail() -> NoReturn:
        raise ValueError("on the loop")

    workshop.broker.add_middleware(Witness())
    workshop.start()

    workshop.send("fail")
    assert str(seen.get(timeout=10)) == "in a thread"
    workshop.send("async_fail")
    assert str(seen.get(timeout=10)) == "on the loop"


def test_a_task_that_cannot_be_read_is_dropped_and_logged(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    workshop.step(ok)
    workshop.start()

    for text in ("{", '{"run_id": 1}', None, 7):
        workshop.put_body(foreign_body("default", {TASK_OPTION: text}))
    for body in (
        b"\xff",
        b"[]",
        b'{"queue_name": "default"}',
        foreign_body("other", {}),
        foreign_body("default", None),
    ):
        workshop.put_body(body)
    workshop.send("ok")

    assert workshop.outcome().kind is ReportKind.COMPLETED
    workshop.stop()
    assert workshop.reports.empty()
    assert sum("dropped" in record.message for record in caplog.records) == 9


def foreign_body(queue_name: str, options: Any) -> bytes:
    return dramatiq.Message(queue_name=queue_name, actor_name="ok", args=(), kwargs={}, options=options).encode()


@pytest.mark.parametrize("failures", [0, 1, 3])
@pytest.mark.parametrize("name", ["ok", "fail", "async_ok", "async_fail", "nowhere"])
def test_each_message_gives_one_report_however_often_it_is_not_taken(
    workshop: Workshop, name: str, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "_FIRST_PAUSE_SECONDS", 0.001)
    asked: list[str] = []

    def report(text: str) -> None:
        asked.append(text)
        if len(asked) <= failures:
            raise ConnectionError("try again")
        workshop.reports.put(text)

    @workshop.step
    def fail() -> NoReturn:
        raise ValueError("wrong")

    @workshop.step
    async def async_ok() -> None:
        pass

    @workshop.step
    async def async_fail() -> NoReturn:
        raise ValueError("wrong")

    workshop.step(ok)
    workshop.start(report)

    workshop.run(name)
    workshop.stop()

    assert workshop.reports.empty()
    assert len(asked) == failures + 1


def test_a_message_is_not_acknowledged_before_its_report_was_taken(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "INTERRUPT_GRACE_SECONDS", 0.05)
    tried: queue.Queue[str] = queue.Queue()

    def report(text: str) -> NoReturn:
        tried.put(text)
        raise ConnectionError("down")

    workshop.step(ok)
    workshop.start(report)

    workshop.send("ok")
    tried.get(timeout=10)
    workshop.stop(0.1)

    assert workshop.broker.queues["default"].unfinished_tasks == 1


def test_a_report_that_cannot_be_encoded_says_so(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_results(report: Any) -> str:
        if report.result is not None:
            raise ValueError("no JSON")
        return encode_message(report)

    monkeypatch.setattr(reporting, "encode_message", refuse_results)
    workshop.step(ok)
    workshop.start()

    report = workshop.run("ok")

    assert (report.kind, report.error_type, report.fatal) == (ReportKind.FAILED, "InternalError", True)


def test_messages_of_plain_actors_are_left_alone(workshop: Workshop) -> None:
    done: queue.Queue[int] = queue.Queue()
    plain = dramatiq.Actor(
        done.put, broker=workshop.broker, actor_name="plain", queue_name="default", priority=0, options={}
    )
    workshop.step(ok)
    workshop.start()

    plain.send(7)
    report = workshop.run("ok")

    assert done.get(timeout=10) == 7
    assert report.kind is ReportKind.COMPLETED
    workshop.stop()
    assert workshop.reports.empty()


def test_a_step_for_a_plain_actor_fails_and_is_not_run(workshop: Workshop) -> None:
    called: list[int] = []
    dramatiq.Actor(
        lambda: called.append(1),
        broker=workshop.broker,
        actor_name="plain",
        queue_name="default",
        priority=0,
        options={},
    )
    workshop.start()

    report = workshop.run("plain")

    assert (report.kind, report.fatal, called) == (ReportKind.FAILED, True, [])


def test_refused_steps_do_not_gather_in_the_broker(workshop: Workshop) -> None:
    workshop.start()

    for _ in range(3):
        workshop.run("nowhere")
    workshop.stop()

    assert isinstance(workshop.broker, MemoryBroker)
    assert not workshop.broker.dead_letters


def test_failed_attempts_are_logged_once_and_quietly(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    @workshop.step
    def fail() -> NoReturn:
        raise ValueError("wrong")

    caplog.set_level(logging.INFO)
    workshop.start()

    workshop.run("fail", attempt=7)
    workshop.run("fail", attempt=8)
    workshop.stop()

    told = [(record.levelname, record.getMessage()) for record in caplog.records if "wrong" in record.getMessage()]
    assert told == [
        ("INFO", "step 'fail' (r:0:1:7, attempt 7 of 8) failed: ValueError: wrong"),
        ("WARNING", "step 'fail' (r:0:2:8, attempt 8 of 8) failed: ValueError: wrong"),
    ]
    assert not [record for record in caplog.records if record.exc_info]


def test_a_message_carries_its_task_and_the_attempts_id() -> None:
    task = StepTask("r", 1, 2, 3, 0, "charge", "gpu", "flow", "w", '{"args":[]}', 8)  # type: ignore[arg-type]

    message = message_of(encode_message(task))

    assert (message.actor_name, message.queue_name, message.message_id) == ("charge", "gpu", "r:1:2:3")
    assert decode_task(message.options[TASK_OPTION]) == task
