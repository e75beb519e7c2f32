"""What workflow code hears from outside: signals, and conditions that they bring about."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Generator
from datetime import datetime
from typing import Any, Generic, Self, TypeVar, overload

from pydantic import TypeAdapter

from dramaturg.calls import DurableCall
from dramaturg_protocol.ambient import WorkflowScope, workflow_scope
from dramaturg_protocol.dialogue import TimeLimit
from dramaturg_protocol.durations import Duration, format_duration, parse_duration, parse_moment
from dramaturg_protocol.errors import PayloadError
from dramaturg_protocol.payloads import Payload, encode_value
from dramaturg_protocol.received import decode_received
from dramaturg_protocol.talk_names import check_name

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: How much of a payload an error shows.
_SHOWN = 200


@overload
def wait_signal(
    name: str, timeout: Duration | datetime | None = None, type: None = None
) -> Coroutine[object, None, Any]: ...
@overload
def wait_signal(
    name: str, timeout: Duration | datetime | None = None, *, type: type[T] | TypeAdapter[T]
) -> Coroutine[object, None, T]: ...
@overload
def wait_signal(
    name: str, timeout: Duration | datetime | None, type: type[T] | TypeAdapter[T]
) -> Coroutine[object, None, T]: ...
def wait_signal(
    name: str,
    timeout: Duration | datetime | None = None,
    type: Any = None,  # noqa: A002 - the contract's
) -> Coroutine[object, None, Any]:
    """Wait for the next signal of a name. Signals are kept in order of arrival, also those that came before.

    Parameters:
      timeout: how long to wait, or until which moment; ``None`` for ever.
      type: what its payload is: a class, an alias like ``list[int]``, or for a union a `pydantic.TypeAdapter`.

    Raises:
      TimeoutError: none came in time.
      PayloadError: the payload of the one that came does not fit; it is taken all the same.
      RuntimeError: called outside a workflow.
    """
    scope = workflow_scope("wait_signal()")
    return _WaitSignal(scope, check_name("signal", name), _limit_of(scope, timeout), type)


@overload
def signals(name: str, type: None = None) -> Signals[Any]: ...
@overload
def signals(name: str, type: type[T] | TypeAdapter[T]) -> Signals[T]: ...
def signals(name: str, type: Any = None) -> Signals[Any]:  # noqa: A002 - as `wait_signal`
    """An iterator over the signals of a name that does not end by itself, for ``async for payload in``.

    Parameters:
      type: as in `wait_signal`.
    """
    workflow_scope("signals()")
    return Signals(check_name("signal", name), type)


class Signals(Generic[T_co]):
    """An async iterator over the signals of a name."""

    def __init__(self, name: str, type: Any) -> None:  # noqa: A002 - as `wait_signal`
        self._name = name
        self._type = type

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[object, None, T_co]:
        return _WaitSignal(workflow_scope("signals()"), self._name, None, self._type)


class _WaitSignal(DurableCall[Any]):
    def __init__(self, scope: WorkflowScope, name: str, limit: TimeLimit | None, type: Any) -> None:  # noqa: A002
        super().__init__(f"wait_signal({name!r})", scope)
        self._name = name
        self._limit = limit
        self._type = type

    def _run(self) -> Generator[Any, Any, Any]:
        dialogue = workflow_scope("wait_signal()").dialogue
        payload = yield from dialogue.wait_signal(self._name, self._limit)
        return _decoded(payload, self._type, self._name)


def wait_until(
    predicate: Callable[[], object], timeout: Duration | datetime | None = None
) -> Coroutine[object, None, None]:
    """Wait until a function gives something true: it is called at once, and again after all that happens to the run.

    Parameters:
      predicate: a plain function that looks at variables of the workflow.
      timeout: as in `wait_signal`.

    Raises:
      TimeoutError: it did not come true in time.
      RuntimeError: called outside a workflow.
    """
    scope = workflow_scope("wait_until()")
    if inspect.iscoroutinefunction(predicate):
        raise TypeError(f"wait_until() takes a plain function, not {predicate!r}")
    return _WaitUntil(scope, predicate, _limit_of(scope, timeout))


class _WaitUntil(DurableCall[None]):
    def __init__(self, scope: WorkflowScope, predicate: Callable[[], object], limit: TimeLimit | None) -> None:
        super().__init__("wait_until()", scope)
        self._predicate = predicate
        self._limit = limit

    def _run(self) -> Generator[Any, Any, None]:
        yield from workflow_scope("wait_until()").dialogue.wait_until(self._predicate, self._limit)


def set_status(value: Any) -> None:
    """Have a value shown with the run: `describe().custom_status`, ``dramaturg status``. Setting the same again is free.

    Parameters:
      value: any value that a payload can hold.

    Raises:
      PayloadError: it cannot be encoded, or is too large.
      RuntimeError: called outside a workflow.
    """
    scope = workflow_scope("set_status()")
    where = "the argument of set_status()"
    scope.dialogue.set_status(encode_value(value, Any, where=where, limit=scope.max_payload))


def external(workflow_id: str) -> External:
    """Another run, to be told something: the newest with that workflow id, be it open or still to come.

    What is sent is durable: it leaves in the commit that records it. A run that does not begin within a day does not get it;
    that, and a signal for a run that is closed, become dead letters.

    Raises:
      RuntimeError: called outside a workflow.
    """
    workflow_scope("external()")
    return External(check_name("run: its workflow id", workflow_id))


class External:
    """Another run, as `external` names it."""

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id

    def signal(self, name: str, payload: Any = None) -> Sent:
        """Send it a signal. It is sent when this returns; awaiting that is allowed and waits for nothing.

        Raises:
          PayloadError: the payload cannot be encoded, or is too large.
        """
        return send_signal("External.signal()", self.workflow_id, "", name, payload)

    def cancel(self) -> Sent:
        """Have it cancelled; one that has ended stays as it is."""
        workflow_scope("External.cancel()").dialogue.send_cancel(self.workflow_id)
        return Sent()

    def __repr__(self) -> str:
        return f"<external {self.workflow_id!r}>"


class Sent:
    """Something was sent; awaiting it waits for nothing."""

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


def send_signal(what: str, workflow_id: str, run_id: str, name: str, payload: Any) -> Sent:
    """Send another run a signal.

    Parameters:
      what: is called, for an error.
      run_id: where it is known.
    """
    scope = workflow_scope(what)
    where = f"the payload of signal {name!r}"
    encoded = encode_value(payload, Any, where=where, limit=scope.max_payload)
    scope.dialogue.send_signal(workflow_id, check_name("signal", name), encoded, run_id)
    return Sent()


def _limit_of(scope: WorkflowScope, timeout: Duration | datetime | None) -> TimeLimit | None:
    if timeout is None:
        return None
    words = str(timeout) if isinstance(timeout, datetime) else format_duration(parse_duration(timeout))
    return TimeLimit(parse_moment(timeout, scope.now()), words)


def _decoded(payload: Payload, kind: Any, name: str) -> Any:
    try:
        return decode_received(payload, kind, where=f"the payload of signal {name!r}")
    except PayloadError as error:
        raise PayloadError(f"{error}; what arrived is {_shown(payload)}") from None


def _shown(payload: Payload) -> str:
    return payload if len(payload) <= _SHOWN else payload[:_SHOWN] + "…"
