"""Undoing what a run did: `compensate` and `compensate_now`. The step option ``compensate=`` does most of it by itself."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, ParamSpec, TypeVar

from dramaturg.calls import DurableCall
from dramaturg.steps import StepFunction
from dramaturg_protocol.ambient import WorkflowScope, workflow_scope

P = ParamSpec("P")
R = TypeVar("R")


def compensate(step: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> None:
    """Have a step run if the run fails, is cancelled or times out later: the last that was asked for first.

    Call it right after the step that it undoes: a retry of the run goes back to the step that succeeded last before.

    Parameters:
      step: what undoes; under its own options, also such as ``refund.options(retries=20)``.

    Raises:
      TypeError: that is no step, or the arguments do not fit it.
      PayloadError: an argument cannot be encoded or is too large.
      RuntimeError: called outside a workflow.
    """
    scope = workflow_scope("compensate()")
    found: Any = getattr(step, "_step", step)
    if not isinstance(found, StepFunction):
        raise TypeError(f"compensate() takes a step and its arguments, not {step!r}")
    scope.push_compensation(found.request(scope, args, kwargs))  # pyright: ignore[reportUnknownMemberType]


def compensate_now() -> Coroutine[Any, Any, None]:
    """Undo at once what succeeded so far, the last first; the run goes on after that, with nothing left to undo.

    Raises:
      StepFailed: a compensation failed for good; an ``ExceptionGroup`` of these where several did. The others have run.
      RuntimeError: called outside a workflow.
    """
    return _CompensateNow(workflow_scope("compensate_now()"))


class _CompensateNow(DurableCall[None]):
    def __init__(self, scope: WorkflowScope) -> None:
        super().__init__("compensate_now()", scope)

    def _run(self) -> Generator[Any, Any, None]:
        yield from workflow_scope("compensate_now()").compensate_now()
