"""Runs that a workflow starts: `child`, `start_child`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, Literal, NoReturn, ParamSpec, TypedDict, TypeVar, TypeVarTuple, Unpack, overload

from dramaturg.calls import DurableCall
from dramaturg.handle import Positional
from dramaturg.orders import Target, target_of
from dramaturg.steps import StepFunction
from dramaturg.talking import Sent, send_signal
from dramaturg.workflows import BoundWorkflow, Workflow
from dramaturg_protocol.ambient import ChildRequest, ChildTicket, WorkflowScope, workflow_scope
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.options import check_child_options
from dramaturg_protocol.payloads import encode_value

P = ParamSpec("P")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Ts = TypeVarTuple("Ts")


class ChildOptions(TypedDict, total=False):
    """The options of ``child`` and ``start_child``."""

    id: str | None
    on_parent_close: Literal["cancel", "terminate", "abandon"]


@overload
def child(
    wf: Workflow[P, R] | BoundWorkflow[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> Coroutine[object, None, R]: ...
@overload
def child(wf: str, /, *args: Any, **kwargs: Any) -> Coroutine[object, None, Any]: ...
# Few arguments one by one: so a workflow's defaults may be left out, which `*args: *Ts` does not allow.
@overload
def child(wf: Positional[R], /, **options: Unpack[ChildOptions]) -> Coroutine[object, None, R]: ...
@overload
def child(wf: Positional[A, R], a: A, /, **options: Unpack[ChildOptions]) -> Coroutine[object, None, R]: ...
@overload
def child(wf: Positional[A, B, R], a: A, b: B, /, **options: Unpack[ChildOptions]) -> Coroutine[object, None, R]: ...
@overload
def child(
    wf: Positional[A, B, C, R], a: A, b: B, c: C, /, **options: Unpack[ChildOptions]
) -> Coroutine[object, None, R]: ...
@overload
def child(
    wf: Positional[A, B, C, D, R], a: A, b: B, c: C, d: D, /, **options: Unpack[ChildOptions]
) -> Coroutine[object, None, R]: ...
@overload
def child(wf: Positional[*Ts, R], /, *args: *Ts, **options: Unpack[ChildOptions]) -> Coroutine[object, None, R]: ...
def child(wf: Any, /, *args: Any, **kwargs: Any) -> Coroutine[object, None, Any]:  # type: ignore[misc]
    """Run another workflow as a run of its own, and wait for its result.

    Cancelling the task that awaits it cancels the child, unless that may outlive this run (``abandon``).

    Parameters:
      wf: a workflow, ``wf.options(id=…, tags=…)``, or a workflow's name.
      args: its arguments.
      kwargs: its keyword arguments; ``id``, its workflow id; and ``on_parent_close``, what becomes of it when this run
        closes first: ``cancel`` (the default), ``terminate`` or ``abandon``.

    Raises:
      ChildFailed: where it is awaited: the child failed, was stopped, or found its id taken.
      TypeError: the arguments do not fit the workflow.
      ValueError: an option's value is none that there is.
      PayloadError: an argument cannot be encoded or is too large.
      RuntimeError: called outside a workflow.
    """
    scope = workflow_scope("child()")
    return _ChildCall(scope, _request_of(scope, "child()", wf, args, kwargs))


@overload
def start_child(wf: Workflow[P, R] | BoundWorkflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> ChildHandle[R]: ...
@overload
def start_child(wf: str, /, *args: Any, **kwargs: Any) -> ChildHandle[Any]: ...
# Few arguments one by one: so a workflow's defaults may be left out, which `*args: *Ts` does not allow.
@overload
def start_child(wf: Positional[R], /, **options: Unpack[ChildOptions]) -> ChildHandle[R]: ...
@overload
def start_child(wf: Positional[A, R], a: A, /, **options: Unpack[ChildOptions]) -> ChildHandle[R]: ...
@overload
def start_child(wf: Positional[A, B, R], a: A, b: B, /, **options: Unpack[ChildOptions]) -> ChildHandle[R]: ...
@overload
def start_child(wf: Positional[A, B, C, R], a: A, b: B, c: C, /, **options: Unpack[ChildOptions]) -> ChildHandle[R]: ...
@overload
def start_child(
    wf: Positional[A, B, C, D, R], a: A, b: B, c: C, d: D, /, **options: Unpack[ChildOptions]
) -> ChildHandle[R]: ...
@overload
def start_child(wf: Positional[*Ts, R], /, *args: *Ts, **options: Unpack[ChildOptions]) -> ChildHandle[R]: ...
def start_child(wf: Any, /, *args: Any, **kwargs: Any) -> ChildHandle[Any]:  # type: ignore[misc]
    """Start another workflow as a run of its own, and go on; parameters and errors as `child`."""
    scope = workflow_scope("start_child()")
    request = _request_of(scope, "start_child()", wf, args, kwargs)
    return ChildHandle(request.workflow, scope, scope.start_child(request))


def continue_as_new(*args: Any, **kwargs: Any) -> NoReturn:
    """End this run and begin the next of its chain: the same workflow from the start, without the history so far.

    The next run has the same workflow id, tags, context and parent, signals that were not taken, and the workflow's
    highest version. What is still open is left: steps are cancelled, children by their `on_parent_close`. Clean-up code of
    this run has no effects any more.

    Parameters:
      args: arguments of the next run.
      kwargs: its keyword arguments.

    Raises:
      TypeError: the arguments do not fit the workflow.
      PayloadError: an argument cannot be encoded or is too large.
      RuntimeError: called outside a workflow.
    """
    workflow_scope("continue_as_new()").continue_as_new(args, kwargs)


class ChildHandle(Generic[R_co]):
    """A child that was started."""

    def __init__(self, workflow: str, scope: WorkflowScope, ticket: ChildTicket) -> None:
        self._workflow = workflow
        self._scope = scope
        self._ticket = ticket

    @property
    def run_id(self) -> str:
        """The child's run id."""
        return self._ticket.run_id

    @property
    def workflow_id(self) -> str:
        """The id that it was started under; its run id where none was chosen."""
        return self._ticket.workflow_id

    def result(self) -> Coroutine[object, None, R_co]:
        """Wait for the child's result, as often as you like.

        Raises:
          ChildFailed: where it is awaited: the child failed, was stopped, or found its id taken.
        """
        return _ChildResult(f"result of child {self._workflow!r}", self._scope, self._ticket)

    def signal(self, name: str, payload: Any = None) -> Sent:
        """Send the child a signal. It is sent when this returns; awaiting that is allowed and waits for nothing.

        Raises:
          PayloadError: the payload cannot be encoded, or is too large.
        """
        return send_signal("ChildHandle.signal()", self.workflow_id, self.run_id, name, payload)

    def cancel(self) -> None:
        """Have the child cancelled; `result` tells how it ended. One that has ended stays as it is."""
        self._ticket.cancel()

    def __repr__(self) -> str:
        return f"<child {self._workflow!r}, run {self.run_id}>"


class _ChildCall(DurableCall[R_co]):
    def __init__(self, scope: WorkflowScope, request: ChildRequest) -> None:
        super().__init__(f"child {request.workflow!r}", scope)
        self._request = request

    def _run(self) -> Generator[Any, Any, R_co]:
        ticket = workflow_scope("child()").start_child(self._request)
        future: asyncio.Future[R_co] = ticket.outcome()
        return (yield from future)


class _ChildResult(DurableCall[R_co]):
    def __init__(self, what: str, scope: WorkflowScope, ticket: ChildTicket) -> None:
        super().__init__(what, scope)
        self._ticket = ticket

    def _run(self) -> Generator[Any, Any, R_co]:
        future: asyncio.Future[R_co] = self._ticket.outcome()
        return (yield from future)


def _request_of(
    scope: WorkflowScope, where: str, wf: object, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ChildRequest:
    if isinstance(wf, StepFunction):
        raise TypeError(f"{where} takes a workflow, and {wf!r} is a step: await it as it is")
    options: dict[str, Any] = {name: kwargs[name] for name in ("id", "on_parent_close") if name in kwargs}
    arguments = {name: value for name, value in kwargs.items() if name not in options}
    target = target_of(wf)
    checked = check_child_options({**target.options, **options}, f"{where} of workflow {target.name!r}")
    version = checked.get("version")
    if not target.is_graph:
        target = Target(target.name, registry.workflow(target.name, version), target.options)
    context = checked.get("context")
    words = f"the context of workflow {target.name!r}"
    return ChildRequest(
        workflow=target.name,
        input=target.schema.encode_call(args, arguments, limit=scope.max_payload),
        decode=target.schema.decode_result,
        workflow_id=checked.get("id"),
        version=version,
        on_parent_close=checked.get("on_parent_close", "cancel"),
        tags=dict(checked.get("tags") or {}),
        context=None if context is None else encode_value(context, Any, where=words, limit=scope.max_payload),
    )
