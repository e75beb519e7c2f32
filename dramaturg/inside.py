"""What workflow code can call besides asyncio: the same on every replay."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random as random_module
import uuid as uuid_module
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, MutableMapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

from dramaturg.calls import DurableCall
from dramaturg_protocol.ambient import RunInfo, WorkflowScope, current_scope, workflow_scope
from dramaturg_protocol.durations import Duration, parse_moment

P = ParamSpec("P")
R = TypeVar("R")


def sleep(until: Duration | datetime) -> Coroutine[Any, Any, None]:
    """Wait for a duration or until a moment, durably: it holds no worker, and survives restarts.

    Parameters:
      until: a duration (``"1d"``, a ``timedelta``, seconds) or an aware ``datetime``.

    Raises:
      ValueError: a duration that cannot be read, or a moment without a time zone.
      RuntimeError: called outside a workflow.
    """
    scope = workflow_scope("sleep()")
    return _Sleep(scope, parse_moment(until, scope.now()))


class _Sleep(DurableCall[None]):
    def __init__(self, scope: WorkflowScope, due: datetime) -> None:
        super().__init__("sleep()", scope)
        self._due = due

    def _run(self) -> Generator[Any, Any, None]:
        yield from workflow_scope("sleep()").start_timer(self._due)


def shield() -> AbstractAsyncContextManager[object]:
    """What a cancel does not interrupt: the block of an ``async with`` around clean-up.

    What the task awaits in it (steps, timers, task groups) goes on when the run, or the task, is cancelled or runs out of
    time. That is raised where the block ends, once, as `asyncio.CancelledError`. Terminate ends a run all the same.

    Raises:
      RuntimeError: called outside a workflow.
    """
    return workflow_scope("shield()").shield()


def now() -> datetime:
    """The time of the event that the workflow is handling: aware, UTC, the same on replay."""
    return workflow_scope("now()").now()


def random() -> random_module.Random:
    """A random generator whose seed follows from the run and the position in it."""
    return workflow_scope("random()").random()


def uuid4() -> uuid_module.UUID:
    """A UUID that follows from the run and the position in it."""
    return workflow_scope("uuid4()").uuid4()


def side_effect(fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a short local function once; what it returned is recorded and given again on every replay.

    Raises:
      PayloadError: what it returned cannot be encoded.
      StepFailed: it raised; that is recorded too, and raised again on every replay.
      TypeError: the function is async: that is what steps are for.
    """
    scope = workflow_scope("side_effect()")
    if inspect.iscoroutinefunction(fn):
        raise TypeError("side_effect() takes a plain function that returns at once; what has to wait is a step")
    name = getattr(fn, "__qualname__", repr(fn))
    return scope.side_effect(name, lambda: fn(*args, **kwargs), Any)  # type: ignore[no-any-return]


def patched(change_id: str) -> bool:
    """Whether the run is to pass here with the changed code: true for runs that get here after the change."""
    return workflow_scope("patched()").patched(change_id)


def as_completed(awaitables: Iterable[Awaitable[R]], *, timeout: float | None = None) -> Iterator[Awaitable[R]]:
    """As `asyncio.as_completed`, in an order that is the same on every replay.

    asyncio's own puts what it is given into a set: for native coroutines their order there is an accident of memory.
    """
    futures = [asyncio.ensure_future(each) for each in awaitables]
    completed: Iterable[Awaitable[R]] = asyncio.as_completed(futures, timeout=timeout)
    return iter(completed)


def info() -> RunInfo:
    """About the run itself."""
    return workflow_scope("info()").info()


def set_step_context(value: Any) -> None:
    """Let every step that is asked for from here on see this as ``current_step().context``.

    Parameters:
      value: a dict, a pydantic model, or whatever else a payload can hold; ``None`` for no context.

    Raises:
      PayloadError: it cannot be encoded, or is too large.
    """
    workflow_scope("set_step_context()").set_context(value)


class _WorkflowLogger(logging.LoggerAdapter[logging.Logger]):
    """Silent on replay; from ``HISTORY_LOG_LEVEL`` on a record is an event of the history too."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a record, unless it was logged before."""
        scope = current_scope()
        if scope is not None and not scope.log(level, _text_of(msg, args)):
            return
        # The record names the line of the workflow's code.
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        super().log(level, msg, *args, **kwargs)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Name the run in every record."""
        scope = current_scope()
        if scope is not None:
            about = scope.info()
            names = {"run_id": about.run_id, "workflow_id": about.workflow_id, "workflow": about.workflow}
            kwargs["extra"] = {**names, **kwargs.get("extra", {})}
        return msg, kwargs


def _text_of(msg: object, args: tuple[object, ...]) -> str:
    try:
        return logging.LogRecord("", 0, "", 0, msg, args, None).getMessage()
    except Exception:  # noqa: BLE001 - as in logging itself, a record that cannot be formatted ends nothing
        return f"{msg!r} {args!r}"


#: The logger of workflow code.
logger = _WorkflowLogger(logging.getLogger("dramaturg.workflow"))
