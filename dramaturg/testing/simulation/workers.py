"""Workers without threads: what they do with a message is the code of real ones, the time that it takes is a number."""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from dramaturg_actors.attempts import Attempt
from dramaturg_actors.context import context_of, enter_step
from dramaturg_actors.execution import Execution
from dramaturg_actors.failures import interrupted
from dramaturg_actors.interrupts import Deadlines
from dramaturg_protocol.definitions import Registry
from dramaturg_protocol.errors import WorkerShutdown
from dramaturg_protocol.messages import StepTask, encode_message


@dataclass(slots=True, order=True)
class Delivery:
    """A message in a worker's hands.

    Attributes:
      at: when something happens to it next.
      report: what the worker says then; empty where it dies before.
      is_copy: of a report that was made before; there is no message any more.
    """

    at: datetime
    number: int
    task: StepTask = field(compare=False)
    worker: str = field(compare=False)
    report: str = field(default="", compare=False)
    is_copy: bool = field(default=False, compare=False)


class SimulatedWorker:
    """Runs attempts.

    Parameters:
      max_payload: bytes that a result may take, encoded.
    """

    def __init__(self, registry: Registry, max_payload: int) -> None:
        # Nothing is added to the deadlines: time does not pass while code runs here.
        self._execution = Execution(registry, Deadlines(), max_payload)

    def run(self, task: StepTask, worker: str) -> str:
        """Run an attempt to its end; the encoded report."""
        attempt = _attempt(task)
        try:
            call = self._execution.prepare(attempt)
            value = contextvars.copy_context().run(_call, attempt, call)
            self._execution.complete(attempt, value)
        except BaseException as error:  # noqa: BLE001 - whatever a step raises is its outcome
            attempt.fail(error)
        return _report(attempt, worker)

    def hand_back(self, task: StepTask, worker: str) -> str:
        """The encoded report of a worker that stops before it ran the attempt."""
        attempt = _attempt(task)
        attempt.settle(interrupted(WorkerShutdown("the worker stops")))
        return _report(attempt, worker)

    def started(self, task: StepTask, worker: str) -> str:
        """The encoded report that an attempt was picked up."""
        return encode_message(_attempt(task).started_report(worker))


def _attempt(task: StepTask) -> Attempt:
    return Attempt(task, context_of(task, MappingProxyType({}), lambda: False))


def _report(attempt: Attempt, worker: str) -> str:
    report = attempt.claim_report(worker)
    assert report is not None
    return encode_message(report)


def _call(attempt: Attempt, call: object) -> object:
    enter_step(attempt.context)
    assert callable(call)
    value = call()
    if not asyncio.iscoroutine(value):
        return value
    with asyncio.Runner() as runner:
        return runner.run(value)
