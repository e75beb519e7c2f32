"""``@workflow``: plain async functions whose runs survive crashes, restarts and deploys."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, ParamSpec, Protocol, TypeVar, Unpack, overload

from dramaturg.determinism import warn_of
from dramaturg_protocol.definitions import WorkflowDefinition, registry
from dramaturg_protocol.errors import DuplicateNameError
from dramaturg_protocol.limits import check_keys
from dramaturg_protocol.options import StartOptions, WorkflowOptions, check_start_options, check_workflow_options
from dramaturg_protocol.schedule_declared import Schedule
from dramaturg_protocol.signatures import CallSchema

P = ParamSpec("P")
R = TypeVar("R")


class Workflow(Generic[P, R]):
    """A workflow. Start it with a client; `fn` is the plain function.

    Attributes:
      fn: the function that was decorated.
    """

    def __init__(self, definition: WorkflowDefinition, fn: Callable[P, Coroutine[Any, Any, R]]) -> None:
        self.definition = definition
        self.fn = fn
        self.__name__ = definition.name
        self.__doc__ = fn.__doc__
        self.__module__ = fn.__module__
        self.__wrapped__ = fn

    @property
    def name(self) -> str:
        """Under which it is registered."""
        return self.definition.name

    @property
    def version(self) -> int:
        """From 1."""
        return self.definition.version

    def options(self, **options: Unpack[StartOptions]) -> BoundWorkflow[P, R]:
        """This workflow with the options of a start: ``client.start(wf.options(id="x"), …)``.

        Raises:
          TypeError: there is no such option, or it has the wrong type.
          ValueError: its value is out of range.
        """
        return BoundWorkflow(self, check_start_options(options, f"workflow {self.name!r}"))

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """A workflow is not called: `TypeError` that says what to do instead."""
        raise TypeError(
            f"workflow {self.name!r} is not called: inside a workflow await child({self.name}, …), elsewhere use "
            f"client.start({self.name}, …) or dramaturg.run({self.name}, …); "
            f"the plain function is {self.name}.fn"
        )

    def __repr__(self) -> str:
        return f"<workflow {self.name!r}, version {self.version}>"


@dataclass(frozen=True, slots=True)
class BoundWorkflow(Generic[P, R]):
    """A workflow with the options of a start."""

    workflow: Workflow[P, R]
    options: dict[str, Any]


class WorkflowDecorator(Protocol):
    """What ``@workflow(…)`` with options gives."""

    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...


@overload
def workflow(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...
@overload
def workflow(**options: Unpack[WorkflowOptions]) -> WorkflowDecorator: ...
def workflow(fn: Any = None, /, **options: Any) -> Any:
    """Make an async function a workflow, bare or with options.

    Parameters:
      options: name, version, tags, and so on: see the reference of options.

    Raises:
      TypeError: a plain ``def``, or there is no such option, or it has the wrong type.
      ValueError: an option's value is out of range.
      DuplicateNameError: another function has this name and version.

    Warns:
      DeterminismWarning: its code calls what a replay could not repeat.
    """
    checked = check_workflow_options(options)
    if fn is None:

        def decorate(function: Any) -> Workflow[..., Any]:
            return _new_workflow(function, checked)

        return decorate
    return _new_workflow(fn, checked)


def _new_workflow(fn: Any, checked: dict[str, Any]) -> Workflow[..., Any]:
    if not inspect.iscoroutinefunction(fn):
        name = getattr(fn, "__name__", repr(fn))
        raise TypeError(f"@workflow decorates an async function: write 'async def {name}(…)'")
    options = dict(checked)
    name = options.pop("name", None) or fn.__name__
    version = options.pop("version", 1)
    check_keys(options, fn, what=f"workflow {name!r}")
    definition = WorkflowDefinition(name, version, fn, CallSchema.of(fn, what=f"workflow {name!r}"), options)
    _check_schedule(definition)
    registry.add_workflow(definition)
    warn_of(inspect.unwrap(fn), name)
    return Workflow(definition, fn)


def _check_schedule(definition: WorkflowDefinition) -> None:
    """Its schedule starts it with arguments that it takes, under an id that no other workflow's schedule has."""
    schedule = definition.options.get("schedule")
    if not isinstance(schedule, Schedule):
        return
    definition.schema.encode_call(tuple(schedule.args), dict(schedule.kwargs), limit=None)
    for name in registry.workflows:
        other = registry.workflow(name)
        its = other.options.get("schedule") if other is not None and name != definition.name else None
        if isinstance(its, Schedule) and (its.id or name) == (schedule.id or definition.name):
            raise DuplicateNameError(
                f"the schedules of workflows {name!r} and {definition.name!r} have one id, {schedule.id or name!r}: give "
                f'one of them another with Schedule(id="…")'
            )
