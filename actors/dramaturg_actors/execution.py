"""What happens between the pick-up of an attempt and its outcome: decode, run under a time limit, encode."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from types import FunctionType
from typing import Any

from dramaturg_actors.actor_rules import refine
from dramaturg_actors.attempts import Attempt
from dramaturg_actors.context import enter_step
from dramaturg_actors.failures import Outcome, process_lost, unknown_step
from dramaturg_actors.interrupts import Deadlines, Interruption, TaskInterruption, ThreadInterruption
from dramaturg_actors.processes import ProcessInterruption, ProcessLost, ProcessPool
from dramaturg_protocol.definitions import Registry, StepDefinition
from dramaturg_protocol.errors import FatalError, InternalError, StepTimedOut
from dramaturg_protocol.messages import ReportKind, StepTask


class IsolatedStepFailed(Exception):
    """What the hooks of a broker see of an error that a step raised in its own process."""


class Execution:
    """Runs attempts of the steps that a process knows.

    Parameters:
      registry: asked anew for each attempt, so that a step that was defined again runs its new code.
      max_payload: bytes that a result may take, encoded.
      processes: for isolated steps; ``None`` in one of them.
    """

    def __init__(
        self, registry: Registry, deadlines: Deadlines, max_payload: int, processes: ProcessPool | None = None
    ) -> None:
        self._processes = processes
        self._registry = registry
        self._deadlines = deadlines
        self._max_payload = max_payload

    def run_in_thread(self, attempt: Attempt) -> None:
        """Run a ``def`` step here, from its arguments to its outcome; its exception goes on to the caller."""
        try:
            if attempt.task.isolated:
                self._run_in_process(attempt)
                return
            call = self.prepare(attempt)
            # A context of its own: what a step sets there is gone when the next one runs in this thread.
            value = contextvars.copy_context().run(self._run_limited, attempt, call)
            self.complete(attempt, value)
        except BaseException as error:
            attempt.fail(error)
            raise

    def prepare(self, attempt: Attempt) -> Callable[[], Any]:
        """The call of an attempt, with its arguments.

        Raises:
          UnknownStep: there is no code for it.
          PayloadError: the arguments do not fit it.
        """
        definition, fn = self._definition_of(attempt.task)
        if attempt.task.isolated:
            raise FatalError(f'step {attempt.task.name!r} is an `async def`: isolation="process" is for a `def` step')
        if definition.actor is not None:
            attempt.refine = partial(_refine, attempt.task, definition)
        args, kwargs = attempt.call or definition.schema.decode_call(attempt.task.input)
        call = partial(fn, *args, **kwargs)
        if definition.options.get("exactly_once") is None:
            return call
        from dramaturg_actors.exactly_once import once

        return once(definition, attempt.context, call, self._max_payload)

    def decode(self, attempt: Attempt) -> None:
        """Decode the arguments for whoever wants to see them before the call; it is no error where that fails."""
        definition = self._registry.steps.get(attempt.task.name)
        if definition is not None and definition.fn is not None:
            with contextlib.suppress(Exception):
                attempt.call = definition.schema.decode_call(attempt.task.input)

    def complete(self, attempt: Attempt, value: Any) -> None:
        """Write the outcome of a call that returned.

        Raises:
          PayloadError: the value cannot be encoded, or is too large.
          FatalError: it is a coroutine, whose function did not look like one.
        """
        definition, _ = self._definition_of(attempt.task)
        if inspect.iscoroutine(value):
            value.close()
            raise FatalError(f"step {attempt.task.name!r} is a `def` that returned a coroutine: make it an `async def`")
        if attempt.context.is_left_open:
            attempt.settle(Outcome(ReportKind.LEFT_OPEN))
            return
        result = definition.schema.encode_result(value, limit=self._max_payload)
        attempt.settle(Outcome(ReportKind.COMPLETED, result=result))

    def start_on_loop(
        self,
        attempt: Attempt,
        call: Callable[[], Awaitable[Any]],
        interruption: TaskInterruption,
        context: contextvars.Context,
    ) -> asyncio.Task[Any]:
        """Begin an ``async def`` step; on the event loop.

        Parameters:
          context: the step's own.
        """
        context.run(enter_step, attempt.context)
        loop = asyncio.get_running_loop()
        name = f"step {attempt.task.message_id}"
        task = interruption.task = loop.create_task(_awaited(call), name=name, context=context)
        if attempt.task.timeout is not None:
            timer = loop.call_later(attempt.task.timeout, interruption.cancel, _timed_out(attempt.task))
            task.add_done_callback(lambda _: timer.cancel())
        if attempt.context.cancel_reason is not None:
            interruption.cancel(attempt.context.cancel_reason)
        return task

    def _run_limited(self, attempt: Attempt, call: Callable[[], Any]) -> Any:
        enter_step(attempt.context)
        interruption = attempt.interruption = ThreadInterruption(attempt.context)
        with self._limited(attempt, interruption):
            return interruption.run(call)

    def _run_in_process(self, attempt: Attempt) -> None:
        task = attempt.task
        _, fn = self._definition_of(task)
        if self._processes is None:
            raise InternalError("an isolated step came to a process of isolated steps")
        interruption = attempt.interruption = ProcessInterruption(attempt.context)
        try:
            with self._processes.child(interruption) as child, self._limited(attempt, interruption):
                signs = attempt.context.signs
                signs.begin()
                outcome = child.run(task, _module_of(fn), signs)
        except ProcessLost as lost:
            if attempt.context.interrupted is not None:
                raise attempt.context.interrupted from None
            attempt.take(process_lost(task, str(lost)))
            raise
        attempt.take(outcome)
        if outcome.kind not in (ReportKind.COMPLETED, ReportKind.LEFT_OPEN):
            raise IsolatedStepFailed(f"{outcome.error_type}: {outcome.message}")

    @contextlib.contextmanager
    def _limited(self, attempt: Attempt, interruption: Interruption) -> Generator[None, None, None]:
        timeout = attempt.task.timeout
        if timeout is None:
            yield
            return
        key = self._deadlines.add(timeout, lambda: interruption.send(_timed_out(attempt.task)))
        try:
            yield
        finally:
            self._deadlines.remove(key)

    def _definition_of(self, task: StepTask) -> tuple[StepDefinition, Callable[..., Any]]:
        definition = self._registry.steps.get(task.name)
        if definition is None or definition.fn is None:
            raise unknown_step(task)
        return definition, definition.fn


def _refine(task: StepTask, definition: StepDefinition, outcome: Outcome, error: BaseException) -> Outcome:
    return refine(outcome, error, task, definition)


async def _awaited(call: Callable[[], Awaitable[Any]]) -> Any:
    # The call is made on the loop too, so that a function that only returns an awaitable may look for the loop.
    return await call()


def _timed_out(task: StepTask) -> StepTimedOut:
    text = f"step {task.name!r} took longer than its {task.limit} of {task.timeout:g} s"
    if task.limit != "timeout":
        text = f"step {task.name!r} took longer than the {task.timeout:g} s that were left of its {task.limit}"
    return StepTimedOut(text, limit=task.limit)


def _module_of(fn: Callable[..., Any]) -> str:
    """Where the code of a step is; of an object that can be called, where its class is."""
    return str(getattr(inspect.unwrap(fn), "__module__", None) or type(fn).__module__)


def is_async(definition: StepDefinition) -> bool:
    """Whether a step runs on the event loop."""
    fn = definition.fn
    if inspect.iscoroutinefunction(fn):
        return True
    # Asked for each message; what the call of a plain function is need not be looked into.
    return not isinstance(fn, FunctionType) and inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004
