"""``@on``: a step that runs when something is recorded in the history of any run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from difflib import get_close_matches
from typing import Any, Protocol, TypeVar, cast, overload

from dramaturg.steps import StepFunction, step
from dramaturg.views import Event
from dramaturg.workflows import Workflow
from dramaturg_protocol.definitions import Listener, registry
from dramaturg_protocol.events import TYPES

R = TypeVar("R")


class ListenerDecorator(Protocol):
    """What ``@on(…)`` gives."""

    @overload
    def __call__(self, fn: StepFunction[[Event], R], /) -> StepFunction[[Event], R]: ...
    @overload
    def __call__(self, fn: Callable[[Event], Coroutine[Any, Any, R]], /) -> StepFunction[[Event], R]: ...
    @overload
    def __call__(self, fn: Callable[[Event], R], /) -> StepFunction[[Event], R]: ...


def on(
    event: str,
    *,
    workflow: Workflow[..., Any] | str | None = None,
    tags: Mapping[str, str | int | bool] | None = None,
) -> ListenerDecorator:
    """Make a function of one `Event` a step that runs when such an event is recorded, at least once.

    It runs in a run of its own, which is begun in the commit that records the event: it is retried, seen and repaired as
    any other. ``event.data`` has what the event says, and ``run_id``, ``workflow_id``, ``workflow``, ``version`` and
    ``tags`` of its run. What such runs record themselves is told to nobody.

    Parameters:
      event: its type, like ``"run.failed"`` or ``"approval.requested"``.
      workflow: only in runs of this one.
      tags: only in runs that bear these.

    Raises:
      ValueError: there is no such event.
      TypeError: what is decorated is no function of one argument.
    """
    if event not in TYPES:
        close = get_close_matches(event, TYPES, 1)
        raise ValueError(f"there is no event {event!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
    name = workflow.name if isinstance(workflow, Workflow) else workflow
    if name is not None and not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"workflow is a workflow or its name, not {workflow!r}")

    def decorate(fn: Any) -> StepFunction[[Event], Any]:
        handler = cast("StepFunction[[Event], Any]", fn if isinstance(fn, StepFunction) else step(_typed(fn)))
        registry.add_listener(Listener(event, handler.name, name, dict(tags or {})))
        return handler

    return decorate


def _typed(fn: Any) -> Any:
    """The function, with its parameter annotated: it gets an `Event` whether it says so or not."""
    try:
        signature = inspect.signature(fn)
        signature.bind(None)
    except (TypeError, ValueError):
        raise TypeError(f"@on decorates a function of one argument, the Event; {fn!r} is none") from None
    parameter = next(iter(signature.parameters.values()))
    if parameter.annotation is inspect.Parameter.empty:
        fn.__annotations__[parameter.name] = Event
    return fn
