"""An exception of workflow code as it is recorded: bounded text, whatever the exception does."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import cast

from dramaturg_coordinator.core.tries import Cause
from dramaturg_protocol import errors
from dramaturg_protocol import events as e
from dramaturg_protocol.durations import parse_duration
from dramaturg_protocol.retries import qualified_name

_MESSAGE_LIMIT = 8 * 1024
_TRACEBACK_LIMIT = 32 * 1024


def error_info(error: BaseException) -> e.ErrorInfo:
    """An exception as it is recorded, bounded."""
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001 - user code
        message = f"(its message cannot be read: {type(broken).__name__})"
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception as broken:  # noqa: BLE001 - user code
        trace = f"(its traceback cannot be read: {type(broken).__name__})"
    return e.ErrorInfo(qualified_name(type(error)), clean(message[:_MESSAGE_LIMIT]), clean(trace[-_TRACEBACK_LIMIT:]))


def positions_of(error: BaseException | None) -> set[int]:
    """The positions of the steps, children and hooks that an error stems from."""
    failed = (errors.StepFailed, errors.ChildFailed, errors.HookTimeout)
    return {each.seq for each in _stems_from(error) if isinstance(each, failed) and each.seq}


def cause_of(error: BaseException) -> Cause:
    """What an error of workflow code is to a retry policy: of a group, all of its members."""
    names: set[str] = set()
    for each in _with_members(error):
        names.update(qualified_name(kind) for kind in type(each).__mro__ if kind is not object)
    failed = (errors.StepFailed, errors.ChildFailed)
    names.update(each.error_type for each in _stems_from(error) if isinstance(each, failed))
    return Cause(frozenset(names), qualified_name(errors.FatalError) in names, _retry_after(error))


def _retry_after(error: BaseException) -> float | None:
    if not isinstance(error, errors.RetryableError) or error.retry_after is None:
        return None
    try:
        return parse_duration(error.retry_after).total_seconds()
    except (TypeError, ValueError):
        return None


def _with_members(error: BaseException) -> Iterator[BaseException]:
    yield error
    if isinstance(error, BaseExceptionGroup):
        for each in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _with_members(each)


def _stems_from(error: BaseException | None) -> Iterator[BaseException]:
    """An error, its causes, contexts and, in a group, its members with theirs."""
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            todo.extend(cast("BaseExceptionGroup[BaseException]", each).exceptions)
        todo.extend((each.__cause__, each.__context__))


def clean(text: str) -> str:
    """Text that JSON can hold: lone surrogates are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
