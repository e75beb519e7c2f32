"""Local steps: attempts that run in the coordinator's process, without message, queue or hooks of a broker.

A ``def`` step runs on one of a few threads, an ``async def`` step on the event loop that all steps of the process
share. What is around the code is what a worker has: arguments, time limit, interrupts, `current_step`, outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, Protocol

from dramaturg_actors.async_lane import value_of
from dramaturg_actors.attempts import Attempt
from dramaturg_actors.context import context_of
from dramaturg_actors.execution import is_async
from dramaturg_actors.fair_queue import FairQueue
from dramaturg_actors.interrupts import TaskInterruption
from dramaturg_actors.pulse import Pulse
from dramaturg_actors.surroundings import Surroundings
from dramaturg_protocol.definitions import StepDefinition
from dramaturg_protocol.errors import StepCancelled, StepInterrupt, WorkerShutdown
from dramaturg_protocol.ids import name_of_local_worker
from dramaturg_protocol.messages import StepReport, StepTask

#: How many `def` and `async def` local steps run at once.
THREADS: Final = 8
ASYNC_LIMIT: Final = 100
#: Threads that may be stuck in code that does not end when it is told to, before no more are replaced.
MOST_STUCK: Final = 4 * THREADS

_GRACE_SECONDS: Final = 1.0

_logger = logging.getLogger("dramaturg.actors")


class StepNote(Protocol):
    """Where it stands of which runs steps are under way, for whoever looks when the process is gone."""

    def begin_local(self, run_id: str) -> int | None:
        """One is under way from now on; the place of the note."""
        ...

    def end_local(self, place: int | None) -> None:
        """It has ended."""
        ...


class LocalRunner:
    """Runs attempts of local steps beside a coordinator: its port `LocalExecutor`.

    Parameters:
      surroundings: what it shares with the other steps of the process.
      process: the process's name, for reports.
      note: hears of which runs steps are under way; ``None`` where nobody asks.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        *,
        process: str,
        note: StepNote | None = None,
        threads: int = THREADS,
        async_limit: int = ASYNC_LIMIT,
    ) -> None:
        self._surroundings = surroundings
        self._worker = name_of_local_worker(process)
        self._note: StepNote = note or _NoNote()
        self._limit = threads
        self._async_limit = async_limit
        self._waiting: FairQueue[_Job] = FairQueue()
        self._tickets: SimpleQueue[bool] = SimpleQueue()
        self._waiting_async: FairQueue[_Job] = FairQueue()
        self._running_async = 0
        self._changed = threading.Condition()
        self._running: set[_Job] = set()
        self._is_async: dict[str, tuple[StepDefinition, bool]] = {}
        self._threads = 0
        self._stuck = 0
        self._state: Mapping[str, Any] | None = None
        self._pulse = Pulse(self._attempts, self._tell, self._worker)
        self.stopping = threading.Event()

    def begin(self, task: StepTask, report: Callable[[StepReport], None]) -> Callable[[], None]:
        """Run an attempt as soon as there is room; gives what ends it when nobody waits for it any more."""
        job = _Job(task, report)
        if self._state is not None and self._runs_on_loop(task):
            self._put_on_loop(job)
        else:
            self._put_on_thread(job)
        return partial(self._end, job)

    def stop(self, timeout_seconds: float) -> None:
        """Begin no more attempts and wait for those that run; what still runs then is told to stop and given back.

        The coordinator goes on meanwhile and records what they report.
        """
        self.stopping.set()
        due = time.monotonic() + timeout_seconds
        if not self._wait_idle(due):
            reason = WorkerShutdown("the coordinator stopped before the step ended")
            due = time.monotonic() + _GRACE_SECONDS
            while not self._wait_idle(min(due, time.monotonic() + _GRACE_SECONDS / 10)) and time.monotonic() < due:
                for job in self._jobs():
                    job.interrupt(reason)
            for job in self._jobs():
                _logger.error("%s does not stop; its thread is left alone", job.task.message_id)
        for _ in range(self._threads):
            self._tickets.put(False)
        self._pulse.close()
        self._surroundings.leave()

    def _wait_idle(self, due: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, max(0.0, due - time.monotonic()))

    def _jobs(self) -> list[_Job]:
        with self._changed:
            return list(self._running)

    def _runs_on_loop(self, task: StepTask) -> bool:
        definition = self._surroundings.registry.steps.get(task.name)
        if definition is None:
            return False
        if (known := self._is_async.get(task.name)) is None or known[0] is not definition:
            known = self._is_async[task.name] = definition, is_async(definition)
        return known[1]

    def _end(self, job: _Job) -> None:
        job.is_ended = True
        if job.attempt is None or job.attempt.is_settled:
            return
        job.attempt.cancel(StepCancelled("the workflow no longer waits for this step"))
        with self._changed:
            if job in self._running and job.is_on_thread and not job.is_stuck and self._stuck < MOST_STUCK:
                # Whether it lets go of its thread is its own affair: others must not wait for that.
                job.is_stuck = True
                self._stuck += 1

    # On threads.

    def _put_on_thread(self, job: _Job) -> None:
        self._waiting.put(job.task.run_id, job, job.task.priority or 0)
        self._tickets.put(True)
        if self._threads - self._stuck < self._limit:
            with self._changed:
                self._threads += 1
                name = f"dramaturg-local-{self._threads}"
                threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while self._tickets.get():
            job = self._waiting.get()
            if job is not None and self._is_wanted(job):
                job.is_on_thread = True
                place = self._note.begin_local(job.task.run_id)
                try:
                    self._run(job)
                except BaseException:
                    _logger.exception("a bug in the running of local steps; please report it")
                self._note.end_local(place)
                if self._ended(job):
                    break
        with self._changed:
            self._threads -= 1

    def _is_wanted(self, job: _Job) -> bool:
        if job.is_ended or self.stopping.is_set():
            return False
        with self._changed:
            self._running.add(job)
        return True

    def _ended(self, job: _Job) -> bool:
        """Take note that a job has left its thread; whether the thread has been replaced meanwhile."""
        with self._changed:
            self._running.discard(job)
            if not self._running:
                self._changed.notify_all()
            if job.is_stuck:
                self._stuck -= 1
            return self._threads - self._stuck > self._limit

    def _run(self, job: _Job) -> None:
        if self._state is None and not self._enter(job):
            return
        if self._runs_on_loop(job.task):
            job.is_on_thread = False
            self._put_on_loop(job)
            return
        attempt = self._attempt_of(job, self._state or {})
        self._say_started(job, attempt)
        # What a step raised is in its outcome.
        with contextlib.suppress(BaseException):
            self._surroundings.execution.run_in_thread(attempt)
        self._report(job, attempt)

    def _enter(self, job: _Job) -> bool:
        """Enter the lifespans for the first attempts; false where that failed them."""
        try:
            self._state = self._surroundings.enter()
        except BaseException as error:  # noqa: BLE001 - whatever a lifespan raised
            attempt = self._attempt_of(job, {})
            attempt.fail(error)
            self._report(job, attempt)
            return False
        return True

    # On the event loop.

    def _put_on_loop(self, job: _Job) -> None:
        self._waiting_async.put(job.task.run_id, job, job.task.priority or 0)
        self._surroundings.loop.call_soon_threadsafe(self._fill_loop)

    def _fill_loop(self) -> None:
        while self._running_async < self._async_limit and (job := self._waiting_async.get()) is not None:
            if self._is_wanted(job):
                self._running_async += 1
                job.place_on_loop = self._note.begin_local(job.task.run_id)
                self._start_on_loop(job)

    def _start_on_loop(self, job: _Job) -> None:
        attempt = self._attempt_of(job, self._state or {})
        self._say_started(job, attempt)
        execution = self._surroundings.execution
        try:
            call = execution.prepare(attempt)
            interruption = attempt.interruption = TaskInterruption(attempt.context, self._surroundings.loop)
            step = execution.start_on_loop(attempt, call, interruption, contextvars.copy_context())
        except BaseException as error:  # noqa: BLE001 - whatever the arguments raised
            attempt.fail(error)
            self._left_loop(job, attempt)
        else:
            step.add_done_callback(partial(self._settle, job, attempt))

    def _settle(self, job: _Job, attempt: Attempt, step: asyncio.Task[Any]) -> None:
        try:
            self._surroundings.execution.complete(attempt, value_of(attempt, step))
        except BaseException as error:  # noqa: BLE001 - whatever the step raised
            attempt.fail(error)
        self._left_loop(job, attempt)

    def _left_loop(self, job: _Job, attempt: Attempt) -> None:
        self._running_async -= 1
        self._note.end_local(job.place_on_loop)
        self._ended(job)
        self._report(job, attempt)
        self._fill_loop()

    # What both have in common.

    def _attempt_of(self, job: _Job, state: Mapping[str, Any]) -> Attempt:
        job.attempt = Attempt(job.task, context_of(job.task, state, self.stopping.is_set))
        return job.attempt

    def _attempts(self) -> list[Attempt]:
        return [job.attempt for job in self._jobs() if job.attempt is not None]

    def _tell(self, report: StepReport) -> None:
        for job in self._jobs():
            if job.attempt is not None and (job.task.key, job.task.attempt) == (report.key, report.attempt):
                job.report(report)

    def _say_started(self, job: _Job, attempt: Attempt) -> None:
        if job.task.announce:
            attempt.is_announced = True
            job.report(attempt.started_report(self._worker))
        self._pulse.begins()

    def _report(self, job: _Job, attempt: Attempt) -> None:
        report = attempt.claim_report(self._worker)
        if report is not None:
            job.report(report)


class _Job:
    """One attempt that was asked for.

    Attributes:
      attempt: from its pick-up on.
      is_on_thread: it has a thread to itself.
      is_ended: nobody waits for it any more.
      is_stuck: it was told so, and another thread has taken the place of its own.
      place_on_loop: of its note, while the event loop has it.
    """

    __slots__ = ("attempt", "is_ended", "is_on_thread", "is_stuck", "place_on_loop", "report", "task")

    def __init__(self, task: StepTask, report: Callable[[StepReport], None]) -> None:
        self.task = task
        self.report = report
        self.attempt: Attempt | None = None
        self.is_on_thread = False
        self.is_ended = False
        self.is_stuck = False
        self.place_on_loop: int | None = None

    def interrupt(self, reason: StepInterrupt) -> None:
        """Tell the step's code to stop, if it is running."""
        if self.attempt is not None:
            self.attempt.interrupt(reason)


class _NoNote:
    def begin_local(self, run_id: str) -> None:
        pass

    def end_local(self, place: int | None) -> None:
        pass
