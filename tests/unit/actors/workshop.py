"""A worker and its broker, with the coordinator's side played by the test."""

from __future__ import annotations

import itertools
import queue
from collections.abc import Callable
from typing import Any, TypeVar

from dramatiq.broker import Broker

from dramaturg_actors.brokers import make_broker
from dramaturg_actors.worker import StepWorker
from dramaturg_protocol.definitions import Registry, StepDefinition
from dramaturg_protocol.messages import StepReport, StepTask, decode_report, encode_message
from dramaturg_protocol.signatures import CallSchema
from dramaturg_protocol.transport import message_of

Fn = TypeVar("Fn", bound=Callable[..., Any])

WAIT_SECONDS = 10.0


class Workshop:
    """A broker, a registry and one worker, with the coordinator's side played by the test."""

    def __init__(self, broker: Broker | None = None) -> None:
        self.registry = Registry()
        self.broker = broker or make_broker("memory://")
        self.reports: queue.Queue[str] = queue.Queue()
        self.worker: StepWorker | None = None
        self._seq = itertools.count(1)

    def step(self, fn: Fn) -> Fn:
        """Register a step under the function's name."""
        return self.step_with()(fn)

    def step_with(self, **options: Any) -> Callable[[Fn], Fn]:
        """Register a step with options."""

        def register(fn: Fn) -> Fn:
            name = fn.__name__
            schema = CallSchema.of(fn, f"step {name!r}")
            self.registry.add_step(StepDefinition(name, fn, schema, options))
            return fn

        return register

    def start(self, report: Callable[[str], None] | None = None, **options: Any) -> StepWorker:
        """Start the worker."""
        self.worker = StepWorker(
            self.broker, report or self.reports.put, registry=self.registry, name="the worker", **options
        )
        self.worker.start()
        return self.worker

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Stop the worker, if it runs."""
        if self.worker is not None:
            self.worker.stop(timeout_seconds)

    def task(self, name: str, *args: Any, **fields: Any) -> StepTask:
        """A task of run ``r`` at the next position."""
        values: dict[str, Any] = {
            "run_id": "r",
            "generation": 0,
            "seq": next(self._seq),
            "attempt": 1,
            "partition": 3,
            "name": name,
            "queue": "default",
            "workflow": "flow",
            "workflow_id": "w",
            "max_attempts": 8,
        }
        values["announce"] = "timeout" in fields
        values["input"] = CallSchema.open(name).encode_call(args, {}, limit=None)
        return StepTask(**{**values, **fields})

    def send(self, name: str, *args: Any, **fields: Any) -> StepTask:
        """Publish a step, as the coordinator does."""
        task = self.task(name, *args, **fields)
        self.broker.enqueue(message_of(encode_message(task)))  # pyright: ignore[reportUnknownMemberType]
        return task

    def put_body(self, body: bytes) -> None:
        """Put anything into the queue ``default``."""
        self.broker.queues["default"].put(body)

    def report(self) -> StepReport:
        """The next report."""
        return decode_report(self.reports.get(timeout=WAIT_SECONDS))

    def outcome(self) -> StepReport:
        """The next report that is final."""
        while not (report := self.report()).kind.is_final:
            pass
        return report

    def run(self, name: str, *args: Any, **fields: Any) -> StepReport:
        """Publish a step and wait for its outcome."""
        self.send(name, *args, **fields)
        return self.outcome()
