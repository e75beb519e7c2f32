"""One run's code, alive: `Execution` is told events and says what the code asks for in reply."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from traceback import walk_tb
from types import CoroutineType, FrameType
from typing import Any, cast

from dramaturg_coordinator.call_sites import is_ours
from dramaturg_coordinator.core.commands import Command
from dramaturg_coordinator.core.onward import Onward
from dramaturg_coordinator.core.tries import Cause
from dramaturg_coordinator.failures import cause_of, error_info, positions_of
from dramaturg_coordinator.loop import WorkflowLoop
from dramaturg_coordinator.saga import end_after, why_of
from dramaturg_coordinator.scope import Scope
from dramaturg_coordinator.waiting import StepFuture
from dramaturg_protocol import errors
from dramaturg_protocol import events as e
from dramaturg_protocol.ambient import RunInfo
from dramaturg_protocol.definitions import StepDefinition, WorkflowDefinition
from dramaturg_protocol.errors import InternalError, PayloadError

logger = logging.getLogger("dramaturg.coordinator")

_TRIES_TO_DROP = 100


class Execution:
    """The workflow function of one run, suspended wherever it waits.

    Parameters:
      watch: gives a context in which code that does not come back is interrupted.
      history: the events that will be told first; empty for a run that just begins. Only positions and markers are
        taken from it here.
      steps: the registered ones, by name.
      secret: of the namespace, for tokens.
      public_url: where links lead that are new.

    Attributes:
      cause: what the code's error is to a policy, once it has failed.
    """

    def __init__(
        self,
        run_id: str,
        definition: WorkflowDefinition,
        history: Sequence[e.HistoryEvent],
        *,
        max_payload: int,
        default_queue: str,
        history_log_level: int,
        watch: Callable[[WorkflowLoop], AbstractContextManager[None]],
        steps: Mapping[str, StepDefinition],
        secret: str,
        public_url: str,
    ) -> None:
        self._watch = watch
        self._definition = definition
        self._max_payload = max_payload
        self._main: asyncio.Task[Any] | None = None
        self._is_ended = False
        self._end: e.EventBody | None = None
        self.cause: Cause | None = None
        self._is_cancel_requested = False
        self._is_timed_out = False
        first = history[0]
        assert isinstance(first.body, e.RunStarted)
        self._input = first.body.input
        self._started_by = first.body.message_id
        self._begins_at = first.body.begins_at
        self._limit = first.body.limit
        markers = {event.body.seq: event.body for event in history if isinstance(event.body, e.MarkerRecorded)}
        info = RunInfo(
            run_id=run_id,
            workflow_id=first.body.workflow_id,
            workflow=first.body.workflow,
            version=definition.version,
            started_at=max(first.time, first.body.begins_at or first.time),
            attempt=1,
            parent=first.body.parent.run_id if first.body.parent is not None else None,
            tags=dict(first.body.tags),
        )
        self.scope = Scope(
            info,
            markers=markers,
            recorded_up_to=max((getattr(event.body, "seq", 0) for event in history), default=0),
            max_payload=max_payload,
            default_queue=default_queue,
            history_log_level=history_log_level,
            context=first.body.context,
            seeds=first.body.seeds,
            promised={
                event.body.seq: event.body.compensate for event in history if isinstance(event.body, e.StepScheduled)
            },
            steps=steps,
            history=history,
            secret=secret,
            public_url=public_url,
            schema=definition.schema,
        )

        self._try_begins_at = first.time
        anew = next((line for line in history if isinstance(line.body, e.RunRetried) and line.body.anew), None)
        if anew is not None:
            # The code is told of it only once it has begun, but all of it belongs to that try.
            self._try_begins_at = anew.time
            self.scope.generation = cast("e.RunRetried", anew.body).generation
            self._attempt_is(cast("e.RunRetried", anew.body))

    def _attempt_is(self, body: e.Cut) -> None:
        if isinstance(body, e.RunRetried):
            self.scope.attempt = body.attempt

    def _go_on_from(self, cut: e.Cut) -> None:
        self.scope.generation = cut.generation
        self.scope.children.go_on(cut)
        self._attempt_is(cut)

    def _go_on_early(self, cut: e.HistoryEvent) -> None:
        """Let the code be beyond a cut from here on, as to its time and, but for a fork, as to what it draws."""
        assert isinstance(cut.body, e.Cut)
        self.scope.set_now(max(cut.time, self._try_begins_at))
        if cut.body.message_id != self._started_by:
            self._go_on_from(cut.body)

    def tell(self, event: e.HistoryEvent, onward: Onward | None = None) -> list[Command]:
        """Hand one event to the code, let it run until it waits, and give what it asked for.

        Parameters:
          onward: where it is to go on in another way than the history says.
        """
        scope = self.scope
        scope.set_now(max(event.time, self._try_begins_at))
        scope.go_with(onward, self._go_on_early)
        self._hand_over(event.body)
        scope.loop.run_ready()
        scope.dialogue.settle()
        if scope.is_continued:
            self._is_ended = True
        elif self._main is not None and self._main.done() and not self._is_ended and not scope.loop.is_interrupted:
            self._is_ended = True
            self._begin_to_end(self._end_of(self._main))
        elif self._end is not None and not scope.saga.is_active:
            scope.emit_end(end_after(self._end, scope.saga.failed))
            self._end = None
        return scope.take_commands()

    def _begin_to_end(self, end: e.EventBody) -> None:
        """The code has ended: so does the run, once what it did is undone where it did not end well."""
        saga, why = self.scope.saga, why_of(end)
        if why is None or not saga.has_work:
            self.scope.emit(end)
            return
        self.scope.end_code()
        self._drop_coroutines()
        self._end = end
        saga.begin(why, end if isinstance(end, e.RunFailed) else None)

    def drop(self) -> None:
        """Forget the run without a trace."""
        self.scope.mute()
        with self._watch(self.scope.loop):
            self._drop_coroutines()
        self._main = None

    def _drop_coroutines(self) -> None:
        stubborn = self.scope.loop.drop(_TRIES_TO_DROP)
        if stubborn:
            logger.warning(
                "workflow %s swallows GeneratorExit in %d coroutine(s): they stay in memory until this process ends; "
                "let GeneratorExit pass in its except and finally blocks",
                self._definition.name,
                stubborn,
            )

    def where(self) -> str:
        """File and line at which the code stands."""
        if self._main is None:
            return ""
        if self._main.done():
            return self._where_it_ended(self._main)
        frames = [frame for frame in _frames_of(self._main.get_coro()) if not is_ours(frame)]
        return f"{frames[-1].f_code.co_filename}:{frames[-1].f_lineno}" if frames else ""

    def _where_it_ended(self, main: asyncio.Task[Any]) -> str:
        error = _error_of(main)
        trace = list(walk_tb(error.__traceback__)) if error is not None else []
        lines = [f"{frame.f_code.co_filename}:{line}" for frame, line in trace if not is_ours(frame)]
        code = inspect.unwrap(self._definition.fn).__code__
        return lines[-1] if lines else f"{code.co_filename}:{code.co_firstlineno}"

    def _hand_over(self, body: e.EventBody) -> None:
        self.scope.tell_saga(body)
        match body:
            case e.RunStarted():
                self._main = self.scope.loop.create_task(self._run(), name=self._definition.name)
            case e.RunCancelRequested():
                self._is_cancel_requested = True
                self._is_timed_out = body.timed_out
                if self._main is not None:
                    self._main.cancel()
            case e.RunRetried() | e.RunReset():
                self._go_on_from(body)
            case e.StepCompleted():
                self._complete(body)
            case e.StepFailed():
                self._fail(body.seq, errors.StepFailed, body)
            case e.StepTimedOut():
                self._fail(body.seq, errors.StepTimeout, body)
            case e.TimerFired():
                self._fire(body.seq)
            case _:
                hearer = self.scope.hearers.get(type(body))
                if hearer is None:
                    raise InternalError(f"{e.type_of(body)} is not for a workflow's code")
                hearer(body)

    async def _run(self) -> Any:
        if self._begins_at is not None:
            await self.scope.start_timer(self._begins_at)
        if self._limit is not None:
            if self._limit.error:
                raise PayloadError(f"the key of its concurrency cannot be read: {self._limit.error}")
            await self.scope.take_place()
        args, kwargs = self._definition.schema.decode_call(self._input)
        return await self._definition.fn(*args, **kwargs)

    def _complete(self, body: e.StepCompleted) -> None:
        future = self.scope.waiting(body.seq)
        if not isinstance(future, StepFuture):
            return
        try:
            value = future.request.decode(body.result)
        except Exception as error:  # noqa: BLE001 - validators of the user's run here
            future.set_exception(error if isinstance(error, PayloadError) else PayloadError(str(error)))
        else:
            future.set_result(value)

    def _fail(self, seq: int, kind: type[errors.StepFailed], body: e.StepFailed | e.StepTimedOut) -> None:
        future = self.scope.waiting(seq)
        if future is not None:
            error = body.error
            future.set_exception(kind(body.name, body.attempt, error.type, error.message, error.traceback, seq=seq))

    def _fire(self, seq: int) -> None:
        future = self.scope.waiting(seq)
        if future is not None:
            future.set_result(None)
        else:
            self.scope.loop.fire_timer(seq)

    def _end_of(self, main: asyncio.Task[Any]) -> e.EventBody:
        if main.cancelled() and self._is_cancel_requested:
            return e.RunTimedOut() if self._is_timed_out else e.RunCancelled()
        error = _error_of(main)
        if error is None:
            try:
                return e.RunCompleted(self._definition.schema.encode_result(main.result(), limit=self._max_payload))
            except PayloadError as problem:
                error = problem
        self.cause = cause_of(error)
        return e.RunFailed(error_info(error), tuple(sorted(positions_of(error))))


def _error_of(task: asyncio.Task[Any]) -> BaseException | None:
    try:
        return task.exception()
    except asyncio.CancelledError as cancelled:
        return cancelled


def _frames_of(coroutine: Any) -> list[FrameType]:
    frames: list[FrameType] = []
    while isinstance(coroutine, CoroutineType):
        if coroutine.cr_frame is not None:
            frames.append(coroutine.cr_frame)
        coroutine = coroutine.cr_await
    return frames
