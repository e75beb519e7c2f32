"""The threads and the event loop on which a coordinator runs local steps."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator
from queue import SimpleQueue
from typing import Any

import pytest

from dramaturg import lifespan, step
from dramaturg_actors.context import current_step
from dramaturg_actors.fair_queue import FairQueue
from dramaturg_actors.local_runner import LocalRunner
from dramaturg_actors.surroundings import OwnSurroundings
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.errors import StepCancelled
from dramaturg_protocol.messages import ReportKind, StepReport, StepTask
from dramaturg_protocol.payloads import Payload

WAIT = 60.0
NO_ARGUMENTS = Payload('{"args": [], "kwargs": {}}')


def task_of(name: str, *, run_id: str = "run", seq: int = 1, **fields: Any) -> StepTask:
    return StepTask(run_id, 1, seq, 1, 1, name, "default", "flow", run_id, NO_ARGUMENTS, 3, **fields)


@pytest.fixture
def make_runner() -> Generator[Callable[..., LocalRunner], None, None]:
    runners: list[LocalRunner] = []

    def make(**options: Any) -> LocalRunner:
        runners.append(LocalRunner(OwnSurroundings(registry, 1 << 20), process="test", **options))
        return runners[-1]

    with registry.isolated():
        yield make
        for runner in runners:
            runner.stop(0.0)


def report_of(runner: LocalRunner, task: StepTask) -> StepReport:
    reports: SimpleQueue[StepReport] = SimpleQueue()
    runner.begin(task, reports.put)
    return reports.get(timeout=WAIT)


def test_a_queue_gives_one_of_each_key_in_turn() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in ("a1", "a2", "a3", "b1", "c1", "b2"):
        queue.put(item[0], item)

    assert [queue.get() for _ in range(7)] == ["a1", "b1", "c1", "a2", "b2", "a3", None]


def test_who_begins_many_does_not_hold_up_another_run(make_runner: Callable[..., LocalRunner]) -> None:
    runner, gate, order = make_runner(threads=1), threading.Event(), SimpleQueue[str]()

    @step
    def work() -> None:
        gate.wait(WAIT)
        me = current_step()
        assert me is not None
        order.put(me.run_id)

    ended: SimpleQueue[StepReport] = SimpleQueue()
    for seq in range(20):
        runner.begin(task_of("work", run_id="wide", seq=seq), ended.put)
    runner.begin(task_of("work", run_id="narrow"), ended.put)
    gate.set()
    for _ in range(21):
        assert ended.get(timeout=WAIT).kind is ReportKind.COMPLETED

    assert [order.get() for _ in range(21)].index("narrow") <= 2


def test_no_more_threads_run_than_allowed(make_runner: Callable[..., LocalRunner]) -> None:
    runner, gate = make_runner(threads=3), threading.Event()
    running: set[str] = set()

    @step
    def work() -> None:
        running.add(threading.current_thread().name)
        gate.wait(WAIT)

    ended: SimpleQueue[StepReport] = SimpleQueue()
    for seq in range(10):
        runner.begin(task_of("work", seq=seq), ended.put)
    gate.set()
    for _ in range(10):
        ended.get(timeout=WAIT)

    assert len(running) <= 3


def test_lifespans_are_entered_with_the_first_step_only_and_left_at_the_end(
    make_runner: Callable[..., LocalRunner],
) -> None:
    seen: list[str] = []

    @lifespan
    async def tools() -> AsyncIterator[dict[str, Any]]:
        seen.append("entered")
        yield {"tool": 1}
        seen.append("left")

    @step
    async def work() -> int:
        me = current_step()
        assert me is not None
        return int(me.state["tool"])

    runner = make_runner()
    assert not seen

    results = [report_of(runner, task_of("work", seq=seq)).result for seq in range(3)]
    runner.stop(0.0)

    assert results == ["1", "1", "1"]
    assert seen == ["entered", "left"]


def test_a_lifespan_that_raises_fails_the_attempt_and_is_tried_again(make_runner: Callable[..., LocalRunner]) -> None:
    tries: list[int] = []

    @lifespan
    def tools() -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("no database")
        yield {}

    @step
    def work() -> None: ...

    runner = make_runner()
    first, second = report_of(runner, task_of("work")), report_of(runner, task_of("work"))

    assert (first.kind, first.error_type, first.fatal) == (ReportKind.FAILED, "ConnectionError", False)
    assert second.kind is ReportKind.COMPLETED


def test_a_step_that_does_not_stop_when_it_is_told_to_takes_no_place_from_others(
    make_runner: Callable[..., LocalRunner],
) -> None:
    runner, began, gate = make_runner(threads=1), threading.Event(), threading.Event()

    @step
    def stubborn() -> None:
        began.set()
        while not gate.is_set():
            try:
                gate.wait(WAIT)
            except StepCancelled:
                continue

    @step
    def work() -> None: ...

    end = runner.begin(task_of("stubborn", run_id="a"), lambda _: None)
    assert began.wait(WAIT)
    end()
    report = report_of(runner, task_of("work", run_id="b"))
    gate.set()

    assert report.kind is ReportKind.COMPLETED


def test_one_that_is_ended_before_it_began_never_runs(make_runner: Callable[..., LocalRunner]) -> None:
    runner, gate = make_runner(threads=1), threading.Event()
    ran: list[int] = []

    @step
    def blocking() -> None:
        gate.wait(WAIT)

    @step
    def work() -> None:
        me = current_step()
        assert me is not None
        ran.append(me.seq)

    ended: SimpleQueue[StepReport] = SimpleQueue()
    runner.begin(task_of("blocking"), ended.put)
    end = runner.begin(task_of("work", seq=2), ended.put)
    runner.begin(task_of("work", seq=3), ended.put)
    end()
    gate.set()
    for _ in range(2):
        ended.get(timeout=WAIT)

    assert ran == [3]


@pytest.mark.parametrize("is_async", [False, True])
def test_what_still_runs_at_the_end_is_given_back(make_runner: Callable[..., LocalRunner], is_async: bool) -> None:
    began, never = threading.Event(), threading.Event()

    def slow() -> None:
        began.set()
        while not never.wait(0.005):
            pass

    async def slow_async() -> None:
        began.set()
        await asyncio.Event().wait()

    step(name="slow")(slow_async if is_async else slow)
    runner = make_runner()
    reports: SimpleQueue[StepReport] = SimpleQueue()
    runner.begin(task_of("slow"), reports.put)
    assert began.wait(WAIT)
    runner.stop(0.0)

    report = reports.get(timeout=WAIT)
    assert (report.kind, report.worker) == (ReportKind.RELEASED, "local test"), report


def test_after_the_end_nothing_begins(make_runner: Callable[..., LocalRunner]) -> None:
    ran: list[int] = []

    @step
    def work() -> None:
        ran.append(1)

    runner = make_runner()
    report_of(runner, task_of("work"))
    runner.stop(0.0)
    runner.begin(task_of("work"), lambda _: None)
    runner.stop(0.0)

    assert ran == [1]


def test_async_steps_that_come_before_the_lifespans_are_entered_run_on_the_loop_too(
    make_runner: Callable[..., LocalRunner],
) -> None:
    gate = threading.Event()

    @lifespan
    def tools() -> Any:
        gate.wait(WAIT)
        yield {}

    @step
    async def work() -> str:
        return threading.current_thread().name

    runner = make_runner()
    reports: SimpleQueue[StepReport] = SimpleQueue()
    for seq in range(5):
        runner.begin(task_of("work", seq=seq), reports.put)
    gate.set()

    assert {reports.get(timeout=WAIT).result for _ in range(5)} == {'"dramaturg-loop"'}


class Notes:
    def __init__(self) -> None:
        self.under_way: dict[int, str] = {}
        self._count = 0

    def begin_local(self, run_id: str) -> int:
        self._count += 1
        self.under_way[self._count] = run_id
        return self._count

    def end_local(self, place: int | None) -> None:
        assert place is not None
        del self.under_way[place]


def test_it_is_noted_of_which_runs_steps_are_under_way(make_runner: Callable[..., LocalRunner]) -> None:
    notes = Notes()
    runner, gate, begun = make_runner(note=notes, threads=1), threading.Event(), SimpleQueue[str]()

    @step
    def on_thread() -> None:
        begun.put("on_thread")
        gate.wait(WAIT)

    @step
    async def on_loop() -> None:
        begun.put("on_loop")
        await asyncio.to_thread(gate.wait, WAIT)

    @step
    def first() -> None:
        """So that the lifespans are entered."""

    assert report_of(runner, task_of("first")).kind is ReportKind.COMPLETED
    ended: SimpleQueue[StepReport] = SimpleQueue()
    runner.begin(task_of("on_thread", run_id="threaded"), ended.put)
    runner.begin(task_of("on_loop", run_id="looped"), ended.put)
    runner.begin(task_of("on_thread", run_id="waits for a thread"), ended.put)
    assert {begun.get(timeout=WAIT), begun.get(timeout=WAIT)} == {"on_thread", "on_loop"}

    assert sorted(notes.under_way.values()) == ["looped", "threaded"]
    gate.set()
    for _ in range(3):
        assert ended.get(timeout=WAIT).kind is ReportKind.COMPLETED
    runner.stop(WAIT)
    assert notes.under_way == {}
