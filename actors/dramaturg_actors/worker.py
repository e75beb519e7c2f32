"""`StepWorker`: the worker side of one process, wired together."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from dramatiq.broker import Broker, MessageProxy
from dramatiq.middleware import Middleware

from dramaturg_actors.async_lane import AsyncLane
from dramaturg_actors.brokers import MemoryBroker
from dramaturg_actors.control_channel import control_over
from dramaturg_actors.declare import Declaring, StepActor, actor_of
from dramaturg_actors.dramatiq_logs import QuietDramatiq
from dramaturg_actors.event_loop import EventLoopThread
from dramaturg_actors.execution import Execution, is_async
from dramaturg_actors.interrupts import Deadlines
from dramaturg_actors.lifespans import Lifespans
from dramaturg_actors.processes import ProcessPool
from dramaturg_actors.reporting import Reporting
from dramaturg_actors.threads import StepThreads
from dramaturg_protocol.clock import system_now
from dramaturg_protocol.config import DEFAULT_MAX_PAYLOAD
from dramaturg_protocol.definitions import Registry
from dramaturg_protocol.errors import ConfigurationError, InternalError, WorkerShutdown
from dramaturg_protocol.ids import name_of_process
from dramaturg_protocol.transport import priority_of

if TYPE_CHECKING:
    from dramaturg_actors.metrics import WorkerMetrics

#: How long a step that was told to stop may take to do so, before its worker gives it back and goes.
INTERRUPT_GRACE_SECONDS: Final = 1.0
#: How long the exits of lifespans, and after them the event loop, may take.
EXIT_SECONDS: Final = 5.0

# In memory a message waits as well here as there, and only what was fetched is sorted by priority.
_PREFETCH_IN_MEMORY: Final = 65_535

_logger = logging.getLogger("dramaturg.actors")


class StepWorker:
    """Takes the steps of a broker's queues, runs them, and reports.

    One at a time serves a broker. It starts once and stops once.

    Parameters:
      report: takes an encoded `StepReport`; an exception means that it was not taken, and it is asked again.
      registry: the steps and lifespans of this process; a step that is registered later is served too.
      threads: how many ``def`` steps run at once.
      async_limit: how many ``async def`` steps run at once.
      queues: those to serve, and no others; ``None`` for all that its steps and actors name, and `more_queues`.
      except_queues: those not to serve.
      more_queues: queues that no step here names, and that are served too: calls may choose a queue of their own.
      max_payload: bytes that a result may take, encoded.
      name: what reports call this worker.
      metrics: counts its attempts.
      now: the clock by which a step's time to begin is over.
      lifespans: those to enter; the registry's by default.
    """

    def __init__(
        self,
        broker: Broker,
        report: Callable[[str], None],
        *,
        registry: Registry,
        threads: int = 8,
        async_limit: int = 100,
        queues: Collection[str] | None = None,
        except_queues: Collection[str] = (),
        more_queues: Collection[str] = (),
        max_payload: int = DEFAULT_MAX_PAYLOAD,
        name: str | None = None,
        metrics: WorkerMetrics | None = None,
        now: Callable[[], datetime] = system_now,
        lifespans: Sequence[Callable[[], Any]] | None = None,
    ) -> None:
        self._metrics = metrics
        if metrics is not None:
            metrics.may_run(threads=threads, async_limit=async_limit)
        self._broker = broker
        self._registry = registry
        self._deadlines = Deadlines()
        self._loop = EventLoopThread()
        self._lifespans = Lifespans(registry.lifespans if lifespans is None else lifespans, self._loop)
        self._processes = ProcessPool(registry, max_payload)
        self._execution = Execution(registry, self._deadlines, max_payload, self._processes)
        self._reporting = Reporting(report, name or name_of_process(), self._execution.decode, now=now)
        self._control = control_over(broker, self._reporting.revoke)
        self._queues = {*(queues or ()), *more_queues}
        self._threads = StepThreads(
            broker,
            queues=queues,
            except_queues=except_queues,
            threads=threads,
            prefetch=_PREFETCH_IN_MEMORY if isinstance(broker, MemoryBroker) else 2 * threads + async_limit,
            route=self._route,
            is_unreported=self._reporting.is_unreported,
        )
        self._lane = AsyncLane(
            broker=broker,
            consumers=self._threads.consumers,
            execution=self._execution,
            reporting=self._reporting,
            loop=self._loop,
            limit=async_limit,
        )
        self._declaring = Declaring(broker, self._run_current, lambda: self._reporting.current is not None)
        self._quiet = QuietDramatiq(lambda: self._reporting.current is not None)
        self._late = threading.Lock()
        self._is_started = False
        self._is_stopped = False

    @property
    def surroundings(self) -> WorkerSurroundings:
        """What its steps share, for the local steps of a coordinator in the same process."""
        return WorkerSurroundings(self._registry, self._execution, self._loop, self._reporting)

    @property
    def name(self) -> str:
        """What reports call this worker."""
        return self._reporting.worker

    @property
    def state(self) -> Mapping[str, Any]:
        """What its lifespans gave; set, once it is started, to what steps are to find instead."""
        return self._reporting.state

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self._reporting.state = state

    def waiting(self) -> list[MessageProxy]:
        """The messages that were taken from the broker and not begun."""
        return [*self._threads.waiting(), *self._lane.waiting()]

    def start(self) -> None:
        """Enter the lifespans, then begin to take steps.

        Raises:
          ConfigurationError: another worker serves this broker, or an actor of it has the name of a step.
          BaseException: whatever a lifespan raised; no step was taken.
        """
        if self._is_started:
            raise InternalError("a StepWorker starts once")
        if any(isinstance(middleware, Reporting) for middleware in self._broker.middleware):
            raise ConfigurationError("another StepWorker serves this broker: stop it first, or give each a broker")
        self._is_started = True
        try:
            _add_first(self._broker, self._reporting)
            if self._metrics is not None:
                self._broker.add_middleware(self._metrics, after=Reporting)
            self._declaring.declare_all(self._registry.steps)
            self._declare_queues()
            self._loop.start()
            self._reporting.state = self._lifespans.start()
        except BaseException:
            self._is_stopped = True
            self._let_go()
            raise
        self._quiet.start()
        self._lane.start()
        self._control.start()
        self._broker.emit_after("process_boot")
        self._threads.start()

    def revoke(self, ids: Collection[str]) -> None:
        """Nobody waits for these attempts any more: stop those that run here, begin none of the others."""
        self._reporting.revoke(ids)

    def stop(self, timeout_seconds: float = 25.0) -> None:
        """Take no more steps, wait for those that run, give back what is left, and end.

        Steps that still run after the timeout are interrupted with `WorkerShutdown`. One that does not stop even then
        is reported as released and left to its daemon thread; so this returns in any case.
        """
        if not self._is_started or self._is_stopped:
            return
        self._is_stopped = True
        due = time.monotonic() + timeout_seconds
        self._threads.refuse_new()
        # In this order: what the lane refuses from now on finds the threads' queue closed, and goes back too.
        self._threads.hand_back(self._lane.refuse_new())
        self._reporting.stopping.set()
        self._processes.tell_stopping()
        self._broker.emit_before("worker_shutdown", self._threads)
        self._threads.join_workers(due)
        if not (self._lane.wait_idle(due) and self._reporting.wait_idle(due)):
            self._interrupt_running()
        self._reporting.abandon()
        self._lane.close(INTERRUPT_GRACE_SECONDS)
        self._threads.join_workers(time.monotonic() + 0.1)
        self._threads.close(time.monotonic() + INTERRUPT_GRACE_SECONDS)
        self._broker.emit_after("worker_shutdown", self._threads)
        self._let_go()

    def lost_threads(self) -> list[str]:
        """The names of threads that should run and do not; a worker that lost one is to be replaced."""
        if not self._is_started or self._is_stopped:
            return []
        threads: list[threading.Thread] = [*self._threads.workers, *self._threads.consumers.values()]
        return [thread.name for thread in threads if not thread.is_alive()]

    def _declare_queues(self) -> None:
        for queue in sorted(self._queues):
            self._broker.declare_queue(queue)

    def _run_current(self, *_: Any, **__: Any) -> None:
        """What the Dramatiq actor of a step does."""
        attempt = self._reporting.current
        if attempt is None:
            raise ConfigurationError("a step's actor takes messages of workflows only: start a workflow instead")
        self._execution.run_in_thread(attempt)

    def _route(self, message: MessageProxy) -> bool:
        """Take an async step to the lane, after declaring one that was registered late; false for all else."""
        definition = self._registry.steps.get(message.actor_name)
        if definition is None or definition.fn is None:
            return False
        with self._late:
            if actor_of(self._broker, definition.name) is None:
                self._declaring.declare(definition)
        if not (is_async(definition) and isinstance(actor_of(self._broker, definition.name), StepActor)):
            return False
        return self._lane.put(priority_of(message, definition.options.get("priority", 0)), message)

    def _interrupt_running(self) -> None:
        reason = WorkerShutdown("the worker stopped before the step ended")
        due = time.monotonic() + INTERRUPT_GRACE_SECONDS
        while time.monotonic() < due:
            # Anew each time: an attempt whose code had not begun is not interrupted by what was sent before.
            for attempt in self._reporting.running():
                attempt.interrupt(reason)
            if self._reporting.wait_idle(time.monotonic() + INTERRUPT_GRACE_SECONDS / 10):
                return
        for attempt in self._reporting.running():
            if not attempt.is_settled:
                _logger.error("%s does not stop; it is given back, and its thread is left alone", attempt)
                self._reporting.release(attempt, reason)

    def _let_go(self) -> None:
        self._control.close()
        self._processes.close(EXIT_SECONDS)
        if not self._lifespans.stop(EXIT_SECONDS):
            _logger.error("a lifespan does not end; it is left alone")
        if not self._loop.stop(EXIT_SECONDS):
            _logger.error("code on the event loop does not let go of it; it is left alone")
        self._deadlines.close()
        self._declaring.forget_all()
        self._quiet.close()
        ours = (self._reporting, self._metrics)
        self._broker.middleware[:] = [each for each in self._broker.middleware if each not in ours]


@dataclass(frozen=True, slots=True)
class WorkerSurroundings:
    """The `Surroundings` that a worker has entered, and exits itself."""

    registry: Registry
    execution: Execution
    _loop: EventLoopThread
    _reporting: Reporting

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The worker's event loop."""
        return self._loop.loop

    def enter(self) -> Mapping[str, Any]:
        """What the worker's lifespans gave."""
        return self._reporting.state

    def leave(self) -> None:
        """Nothing: the worker does it."""


def _add_first(broker: Broker, middleware: Middleware) -> None:
    """Add a middleware before all others: its ``before_`` hooks run first, its ``after_`` hooks last."""
    first = broker.middleware[0] if broker.middleware else None
    broker.add_middleware(middleware, before=type(first) if first is not None else None)
