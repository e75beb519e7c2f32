"""`install`: a broker that the application has already serves steps, in whichever worker of Dramatiq's takes it.

``dramaturg worker`` gives more: async steps hold no thread there, SIGTERM hands steps back within its limit, a dead
process is replaced. Under Dramatiq's own ``dramatiq`` command an async step holds a worker thread while it runs; at
SIGTERM steps go on until ``--worker-shutdown-timeout`` (ten minutes, if you do not set it) and are handed back only
then; a step that is defined after the worker's start is not served.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from dramatiq.broker import Broker
from dramatiq.middleware import Middleware
from dramatiq.worker import Worker

from dramaturg_actors.application_broker import use_our_consumer
from dramaturg_actors.async_lane import value_of
from dramaturg_actors.attempts import Attempt
from dramaturg_actors.control_channel import control_over
from dramaturg_actors.declare import Declaring
from dramaturg_actors.dramatiq_logs import QuietDramatiq
from dramaturg_actors.event_loop import EventLoopThread
from dramaturg_actors.execution import Execution, is_async
from dramaturg_actors.interrupts import Deadlines, TaskInterruption
from dramaturg_actors.lifespans import Lifespans
from dramaturg_actors.processes import ProcessPool
from dramaturg_actors.report_channel import report_over
from dramaturg_actors.reporting import Reporting
from dramaturg_actors.threads import StepThreads
from dramaturg_protocol.config import load_settings
from dramaturg_protocol.definitions import Registry, registry
from dramaturg_protocol.errors import ConfigurationError, WorkerShutdown
from dramaturg_protocol.ids import name_of_process

_EXIT_SECONDS: Final = 5.0
_INTERRUPT_SECONDS: Final = 1.0

_logger = logging.getLogger("dramaturg.actors")


def install(broker: Broker) -> None:
    """Have a broker's workers serve steps, beside the actors that it has. It may be called twice.

    Call it where the broker is made, before a worker starts; nothing is opened. Steps are those of the modules that
    were imported when the worker starts.

    Raises:
      ConfigurationError: the broker is not one over Redis.
    """
    if not any(isinstance(each, Installation) for each in broker.middleware):
        broker.add_middleware(Installation(report_over(broker), registry))


class Installation(Middleware):
    """Waits for a worker of Dramatiq's to start, and makes it one of ours.

    Parameters:
      report: takes an encoded report.
      known: the steps and lifespans of this process.
    """

    def __init__(self, report: Callable[[str], None], known: Registry) -> None:
        self._report = report
        self._known = known
        self._side: _WorkerSide | None = None

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Enter the lifespans and declare the steps; what is wrong ends the process, before a message is taken."""
        if isinstance(worker, StepThreads) or self._side is not None:
            return
        try:
            use_our_consumer(broker)
            self._side = _WorkerSide(broker, self._report, self._known)
            self._side.start()
        except BaseException as error:
            # Dramatiq would log an Exception of a hook and go on.
            _logger.critical("the worker does not start", exc_info=True)
            raise SystemExit(1) from error

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Tell steps that the worker is about to stop."""
        if self._side is not None:
            self._side.about_to_stop()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Hand back what is left, and leave the lifespans."""
        side, self._side = self._side, None
        if side is not None:
            side.stop()


class _WorkerSide:
    """What a worker of Dramatiq's has beside its threads."""

    def __init__(self, broker: Broker, report: Callable[[str], None], known: Registry) -> None:
        self._broker = broker
        self._known = known
        self._deadlines = Deadlines()
        self._loop = EventLoopThread()
        self._lifespans = Lifespans(known.lifespans, self._loop)
        max_payload = int(load_settings().max_payload)
        self._processes = ProcessPool(known, max_payload)
        self._execution = Execution(known, self._deadlines, max_payload, self._processes)
        self._reporting = Reporting(report, name_of_process(), self._execution.decode)
        self._control = control_over(broker, self._reporting.revoke)
        self._declaring = Declaring(broker, self._run_current, lambda: self._reporting.current is not None)
        self._quiet = QuietDramatiq(lambda: self._reporting.current is not None)

    def start(self) -> None:
        self._broker.middleware.insert(0, self._reporting)
        self._declaring.declare_all(self._known.steps)
        self._loop.start()
        self._reporting.state = self._lifespans.start()
        self._quiet.start()
        self._control.start()

    def about_to_stop(self) -> None:
        self._reporting.stopping.set()
        self._processes.tell_stopping()

    def stop(self) -> None:
        reason = WorkerShutdown("the worker stopped before the step ended")
        for attempt in self._reporting.running():
            attempt.interrupt(reason)
        self._reporting.wait_idle(time.monotonic() + _INTERRUPT_SECONDS)
        self._reporting.abandon()
        self._control.close()
        self._processes.close(_EXIT_SECONDS)
        self._lifespans.stop(_EXIT_SECONDS)
        self._loop.stop(_EXIT_SECONDS)
        self._deadlines.close()
        self._declaring.forget_all()
        self._quiet.close()
        self._broker.middleware.remove(self._reporting)

    def _run_current(self, *_: Any, **__: Any) -> None:
        attempt = self._reporting.current
        if attempt is None:
            raise ConfigurationError("a step's actor takes messages of workflows only: start a workflow instead")
        definition = self._known.steps.get(attempt.task.name)
        if definition is not None and is_async(definition):
            self._run_async(attempt)
        else:
            self._execution.run_in_thread(attempt)

    def _run_async(self, attempt: Attempt) -> None:
        try:
            self._execution.complete(attempt, self._on_loop(attempt))
        except BaseException as error:
            attempt.fail(error)
            raise

    def _on_loop(self, attempt: Attempt) -> Any:
        """Run an async step on the event loop, while this thread waits for it."""
        call = self._execution.prepare(attempt)
        interruption = attempt.interruption = TaskInterruption(attempt.context, self._loop.loop)
        ended: concurrent.futures.Future[asyncio.Task[Any]] = concurrent.futures.Future()
        context = contextvars.copy_context()

        def start() -> None:
            task = self._execution.start_on_loop(attempt, call, interruption, context)
            task.add_done_callback(ended.set_result)

        self._loop.loop.call_soon_threadsafe(start)
        return value_of(attempt, ended.result())
