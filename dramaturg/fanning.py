"""`fan_out`: one step over many items."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar, overload

from dramaturg.calls import DurableCall
from dramaturg.fan_out_spread import Blocks
from dramaturg.members import Members
from dramaturg.steps import StepFunction
from dramaturg_protocol.ambient import StepRequest, WorkflowScope, workflow_scope
from dramaturg_protocol.errors import StepFailed

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

#: Up to so many members are steps of the run itself; more are spread over child runs.
FEW = 1000


_OPTIONS = ("concurrency", "chunk", "on_error", "min_success")


_OneStep: TypeAlias = Callable[Concatenate[T, ...], Coroutine[object, None, R]]
_Listed: TypeAlias = Callable[Concatenate[list[T], ...], Coroutine[object, None, R]]
_Given: TypeAlias = Coroutine[object, None, list[R]]
_Collected: TypeAlias = Coroutine[object, None, list[R | StepFailed]]


# Without options all arguments are checked; with options the items and the results are.
@overload
def fan_out(
    step: Callable[Concatenate[T, P], Coroutine[object, None, R]],
    items: Iterable[T],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> _Given[R]: ...
@overload
def fan_out(
    step: _Listed[T, R],
    items: Iterable[T],
    /,
    *args: Any,
    chunk: int,
    on_error: Literal["raise"] = ...,
    concurrency: int | None = ...,
    min_success: None = ...,
    **kwargs: Any,
) -> _Given[R]: ...
@overload
def fan_out(
    step: _Listed[T, R],
    items: Iterable[T],
    /,
    *args: Any,
    chunk: int,
    on_error: Literal["raise", "collect"] = ...,
    concurrency: int | None = ...,
    min_success: int | None = ...,
    **kwargs: Any,
) -> _Collected[R]: ...
@overload
def fan_out(
    step: _OneStep[T, R],
    items: Iterable[T],
    /,
    *args: Any,
    on_error: Literal["collect"],
    concurrency: int | None = ...,
    min_success: int | None = ...,
    **kwargs: Any,
) -> _Collected[R]: ...
@overload
def fan_out(
    step: _OneStep[T, R],
    items: Iterable[T],
    /,
    *args: Any,
    min_success: int,
    on_error: Literal["raise", "collect"] = ...,
    concurrency: int | None = ...,
    **kwargs: Any,
) -> _Collected[R]: ...
@overload
def fan_out(
    step: _OneStep[T, R],
    items: Iterable[T],
    /,
    *args: Any,
    concurrency: int | None,
    on_error: Literal["raise"] = ...,
    min_success: None = ...,
    **kwargs: Any,
) -> _Given[R]: ...
def fan_out(step: Any, items: Iterable[Any], /, *args: Any, **kwargs: Any) -> Coroutine[object, None, list[Any]]:
    """Run a step for each of many items.

    More than a thousand members are spread over child runs, so that no history grows with them; a step with a compensation
    is not. How many are done is the run's progress.

    Parameters:
      step: a step, ``step.options(…)``, or an instance of a step class.
      items: each is the first argument of a call.
      args: further arguments of every call.
      kwargs: keyword arguments of every call, and these options. ``concurrency``: how many are under way at a time;
        ``None`` for all. ``chunk``: so many items go into one call, as a list. ``on_error``: ``"raise"`` cancels the members
        that are still open, ``"collect"`` puts the `StepFailed` in the place of the result. ``min_success``: so many items
        have to succeed; fewer may fail, and are collected.

    Returns:
      The results in the order of the items; one for each chunk.

    Raises:
      StepFailed: a member failed; with ``min_success`` so many that the rest would not do.
      TypeError: that is no step, the arguments do not fit it, or an option has the wrong type.
      ValueError: an option's value is out of range.
      PayloadError: an item cannot be encoded or is too large.
      RuntimeError: called outside a workflow.
    """
    scope = workflow_scope("fan_out()")
    found: Any = getattr(step, "_step", step)
    if not isinstance(found, StepFunction):
        raise TypeError(f"fan_out() takes a step, not {step!r}")
    options = {name: kwargs.pop(name) for name in _OPTIONS if name in kwargs}
    plan = _plan_of(found, list(items), args, kwargs, **options)  # pyright: ignore[reportUnknownArgumentType]
    if plan.firsts:
        plan.request_of(scope, 0, 0)
    return _FanOut(scope, plan)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A fan-out as it was asked for.

    Attributes:
      count: of items.
      firsts: the first argument of each call.
      tolerated: how many items may fail.
    """

    step: StepFunction[..., Any]
    count: int
    firsts: Sequence[Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    at_once: int | None
    chunk: int
    tolerated: int

    def request_of(self, scope: WorkflowScope, index: int, group: int) -> StepRequest:
        """The call of a member."""
        return self.step.request(scope, (self.firsts[index], *self.args), self.kwargs).in_group(group)


def _plan_of(
    step: StepFunction[..., Any],
    items: Sequence[Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    concurrency: int | None = None,
    chunk: int = 1,
    on_error: str = "raise",
    min_success: int | None = None,
) -> _Plan:
    _check("concurrency", concurrency, 1, is_optional=True)
    _check("chunk", chunk, 1)
    _check("min_success", min_success, 0, is_optional=True)
    if on_error not in ("raise", "collect"):
        raise ValueError(f"fan_out(): option on_error must be 'raise' or 'collect', not {on_error!r}")
    if min_success is not None and min_success > len(items):
        raise ValueError(f"fan_out(): min_success is {min_success}, and there are {len(items)} items")
    tolerated = len(items) if on_error == "collect" else 0
    if min_success is not None:
        tolerated = len(items) - min_success
    firsts = items if chunk == 1 else [items[at : at + chunk] for at in range(0, len(items), chunk)]
    return _Plan(step, len(items), firsts, args, kwargs, concurrency, chunk, tolerated)


class _FanOut(DurableCall[list[Any]]):
    def __init__(self, scope: WorkflowScope, plan: _Plan) -> None:
        super().__init__(f"fan_out() of step {plan.step.name!r}", scope)
        self._plan = plan

    def _run(self) -> Generator[Any, Any, list[Any]]:
        return (yield from self._given().__await__())

    async def _given(self) -> list[Any]:
        plan, scope = self._plan, workflow_scope("fan_out()")
        members = len(plan.firsts)
        if not members:
            return []
        group = scope.begin_fan_out(plan.step.name, plan.count, plan.chunk)
        if members > FEW and plan.step.undo is None:
            request_of = partial(plan.request_of, scope, group=group)
            return await Blocks(scope, group, request_of, plan.count, plan.chunk, plan.tolerated).run(plan.at_once)

        async def begin(index: int) -> Any:
            return await scope.start_step(plan.request_of(scope, index, group))

        return await Members(begin, plan.count, plan.chunk, plan.at_once, plan.tolerated).run()


def _check(name: str, value: object, least: int, *, is_optional: bool = False) -> None:
    if value is None and is_optional:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"fan_out(): option {name} must be an int, not {value!r}")
    if value < least:
        raise ValueError(f"fan_out(): option {name} must be at least {least}, not {value}")
