"""Async steps: they wait for their turn beside the worker threads, run on the event loop, and come back for the hooks.

A worker thread is never held by an async step, and no hook of Dramatiq runs on the event loop: what comes before and
after a step is done by the lane's own threads.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from dramatiq.broker import Broker, MessageProxy
from dramatiq.middleware import SkipMessage
from dramatiq.worker import ConsumerThread

from dramaturg_actors.attempts import Attempt
from dramaturg_actors.event_loop import EventLoopThread
from dramaturg_actors.execution import Execution
from dramaturg_actors.interrupts import TaskInterruption
from dramaturg_actors.reporting import ReportAbandoned, Reporting
from dramaturg_protocol.errors import WorkerShutdown

_THREADS: Final = 2

_logger = logging.getLogger("dramaturg.actors")


@dataclass(slots=True)
class _Passage:
    """One message on its way through the lane, with the `contextvars` that its hooks set and its step inherits."""

    message: MessageProxy
    context: contextvars.Context = field(default_factory=contextvars.copy_context)


class AsyncLane:
    """Runs async steps.

    Parameters:
      consumers: by queue: who acknowledges.
      limit: how many run at once.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        consumers: Mapping[str, ConsumerThread],
        execution: Execution,
        reporting: Reporting,
        loop: EventLoopThread,
        limit: int,
    ) -> None:
        self._broker = broker
        self._consumers = consumers
        self._execution = execution
        self._reporting = reporting
        self._loop = loop
        self._limit = limit
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        self._ended = threading.Condition(lock)
        self._waiting: list[tuple[int, int, MessageProxy]] = []
        self._finished: deque[Callable[[], None]] = deque()
        self._order = itertools.count()
        self._running = 0
        self._takes_new = True
        self._is_closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"dramaturg-async-{number}", daemon=True)
            for number in range(_THREADS)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def put(self, priority: int, message: MessageProxy) -> bool:
        """Have a message's step run as soon as there is room, a lower priority first; false where none begins any more."""
        with self._changed:
            if not self._takes_new:
                return False
            heapq.heappush(self._waiting, (priority, next(self._order), message))
            self._changed.notify()
            return True

    def waiting(self) -> list[MessageProxy]:
        """Messages whose step did not begin."""
        with self._changed:
            return [message for _, _, message in self._waiting]

    def refuse_new(self) -> list[MessageProxy]:
        """Begin no more steps; the messages of those that waited. Those that run come to their end."""
        with self._changed:
            self._takes_new = False
            waiting, self._waiting = self._waiting, []
            return [message for _, _, message in waiting]

    def wait_idle(self, due: float) -> bool:
        """Wait for the steps that run; false if a moment of the monotonic clock came before their end."""
        with self._ended:
            return self._ended.wait_for(lambda: not self._running, max(0.0, due - time.monotonic()))

    def close(self, timeout_seconds: float) -> None:
        """End the threads."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout_seconds)

    def _run(self) -> None:
        while (job := self._next_job()) is not None:
            try:
                job()
            except ReportAbandoned:
                _logger.warning("a message stays unacknowledged: its report was not taken before the worker stopped")
            except BaseException:
                _logger.exception("a hook ended the processing of an async step")

    def _next_job(self) -> Callable[[], None] | None:
        with self._changed:
            while not (self._finished or self._may_begin() or self._is_closed):
                self._changed.wait()
            if self._finished:
                return self._finished.popleft()
            if not self._may_begin():
                return None
            self._running += 1
            _, _, message = heapq.heappop(self._waiting)
        return partial(self._begin, _Passage(message))

    def _may_begin(self) -> bool:
        return bool(self._waiting) and self._running < self._limit

    def _begin(self, passage: _Passage) -> None:
        start = passage.context.run(self._prepare, passage)
        if start is not None:
            self._loop.loop.call_soon_threadsafe(start, passage.context.copy())

    def _prepare(self, passage: _Passage) -> Callable[[contextvars.Context], None] | None:
        """What Dramatiq's worker thread does before it calls an actor; what starts the step on the loop."""
        try:
            self._broker.emit_before("process_message", passage.message)
            attempt = self._reporting.attempt_of(passage.message)
            if passage.message.failed or attempt is None:
                self._end(passage, None)
                return None
            call = self._execution.prepare(attempt)
        except BaseException as error:  # noqa: BLE001 - as Dramatiq's worker thread does
            self._end(passage, error)
            return None
        interruption = attempt.interruption = TaskInterruption(attempt.context, self._loop.loop)
        return partial(self._start_on_loop, passage, attempt, call, interruption)

    def _start_on_loop(
        self,
        passage: _Passage,
        attempt: Attempt,
        call: Callable[[], Any],
        interruption: TaskInterruption,
        context: contextvars.Context,
    ) -> None:
        task = self._execution.start_on_loop(attempt, call, interruption, context)
        task.add_done_callback(partial(self._step_ended, passage, attempt))

    def _step_ended(self, passage: _Passage, attempt: Attempt, task: asyncio.Task[Any]) -> None:
        with self._changed:
            self._finished.append(lambda: passage.context.run(self._settle, passage, attempt, task))
            self._changed.notify()

    def _settle(self, passage: _Passage, attempt: Attempt, task: asyncio.Task[Any]) -> None:
        # This thread had other messages since, or is another one.
        self._reporting.enter(attempt)
        try:
            self._execution.complete(attempt, value_of(attempt, task))
        except BaseException as error:  # noqa: BLE001 - whatever the step raised
            attempt.fail(error)
            self._end(passage, error)
        else:
            self._end(passage, None)

    def _end(self, passage: _Passage, error: BaseException | None) -> None:
        """What Dramatiq's worker thread does after it called an actor."""
        message = passage.message
        try:
            if isinstance(error, SkipMessage):
                self._broker.emit_after("skip_message", message)
            elif error is not None:
                message.stuff_exception(error)
                self._broker.emit_after("process_message", message, exception=error)
            else:
                self._broker.emit_after("process_message", message, result=None)
        finally:
            try:
                self._consumers[message.queue_name].post_process_message(message)
            finally:
                message.clear_exception()
                with self._changed:
                    self._running -= 1
                    self._changed.notify()
                    self._ended.notify()


def value_of(attempt: Attempt, task: asyncio.Task[Any]) -> Any:
    """What an async step gave; raises what it raised, or why it was told to stop."""
    try:
        return task.result()
    except asyncio.CancelledError as error:
        if attempt.context.interrupted is not None:
            raise attempt.context.interrupted.with_traceback(error.__traceback__) from None
        if attempt.context.stopping:
            # The loop was closed before the step heard why.
            attempt.context.interrupted = WorkerShutdown("the worker stopped before the step ended")
            raise attempt.context.interrupted from None
        raise
