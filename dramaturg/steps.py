"""``@step``: functions that run on workers, at-least-once, with an outcome that is recorded once."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Generator, Mapping
from functools import cached_property
from typing import Any, ClassVar, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

import dramatiq

from dramaturg.actor_steps import step_of_actor
from dramaturg.calls import DurableCall
from dramaturg_protocol.ambient import StepRequest, WorkflowScope, current_scope
from dramaturg_protocol.definitions import StepDefinition, WorkflowDefinition, registry
from dramaturg_protocol.events import Compensation
from dramaturg_protocol.limits import check_keys, has_keys, keys_of
from dramaturg_protocol.options import (
    CallOptions,
    StepOptions,
    check_call_options,
    check_step_options,
    check_together,
    options_as_json,
)
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.signatures import CallSchema

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

#: Prefix of the workflow that is a run of one step.
STEP_WORKFLOW = "step:"


class StepCall(DurableCall[R_co]):
    """One call of a step: awaited in a workflow it is durable, awaited elsewhere it runs the function."""

    def __init__(self, name: str, scope: WorkflowScope | None, call: Any) -> None:
        super().__init__(f"call of step {name!r}", scope)
        self._call = call

    def _run(self) -> Generator[Any, Any, R_co]:
        if self._scope is None:
            result: Any = self._call()
            if inspect.isawaitable(result):
                result = yield from result.__await__()
            return cast("R_co", result)
        future: asyncio.Future[R_co] = self._scope.start_step(self._call)
        return (yield from future)


class StepFunction(Generic[P, R]):
    """A step. Call it in a workflow; `fn` is the plain function.

    Attributes:
      name: under which workers know it.
      fn: the function that was decorated.
    """

    def __init__(self, definition: StepDefinition, options: dict[str, Any] | None = None) -> None:
        self.definition = definition
        self._options: dict[str, Any] = options or {}
        self.__name__ = definition.name
        self.__doc__ = getattr(definition.fn, "__doc__", None)
        self.__module__ = getattr(definition.fn, "__module__", __name__)
        if definition.fn is not None:
            self.__wrapped__ = definition.fn

    @property
    def name(self) -> str:
        """Under which workers know it."""
        return self.definition.name

    @property
    def fn(self) -> Callable[P, Any]:
        """The plain function.

        Raises:
          TypeError: only the step's name is known here.
        """
        if self.definition.fn is None:
            raise TypeError(
                f"step {self.name!r} is known by its name only (step_ref): there is no function to run here"
            )
        return self.definition.fn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[object, None, R]:
        """Ask for the step; await what comes back.

        Raises:
          TypeError: the arguments do not fit, or there is no event loop to await in.
          PayloadError: an argument cannot be encoded or is too large.
        """
        scope = current_scope()
        if scope is None:
            return self._call_outside(args, kwargs)
        return StepCall(self.name, scope, self.request(scope, args, kwargs))

    def request(self, scope: WorkflowScope, args: tuple[Any, ...], kwargs: dict[str, Any]) -> StepRequest:
        """A call of the step, as it is asked for in a workflow."""
        definition = self.definition
        payload = definition.schema.encode_call(args, kwargs, limit=scope.max_payload)
        own = self.as_compensation
        compensate = None if self.undo is None else self.undo.as_compensation
        limits: dict[str, str] = {}
        if self._has_keys:
            # What the arguments are has been checked by now.
            limits = keys_of(self.all_options, definition.fn, args, kwargs, what=f"step {self.name!r}")
        return StepRequest(definition.name, own.queue, payload, own.options, self._decode, compensate, limits)

    @cached_property
    def _has_keys(self) -> bool:
        return has_keys(self.all_options)

    @cached_property
    def undo(self) -> StepFunction[..., Any] | None:
        """The step that undoes this one, if there is one."""
        undo: StepFunction[..., Any] | None = self._options.get("compensate", self.definition.options.get("compensate"))
        return undo

    @cached_property
    def all_options(self) -> dict[str, Any]:
        """The options of the decorator, and those that were set here over them."""
        return {**self.definition.options, **self._options}

    @cached_property
    def as_compensation(self) -> Compensation:
        """The step as one that undoes another: by name, with the options that were set here."""
        # What undoes a step has a place of its own in the history.
        options = {name: value for name, value in self._options.items() if name != "compensate"}
        return Compensation(self.name, self._options.get("queue", self.definition.queue), options_as_json(options))

    def options(self, **options: Unpack[CallOptions]) -> StepFunction[P, R]:
        """This step with other options, for the calls that follow.

        Raises:
          TypeError: there is no such option, or it has the wrong type.
          ValueError: its value is out of range.
        """
        checked = check_call_options(options, f"step {self.name!r}")
        check_keys(checked, self.definition.fn, what=f"step {self.name!r}")
        check_together({**self.all_options, **checked}, f"step {self.name!r}")
        if checked.get("exactly_once", engine := self.definition.options.get("exactly_once")) is not engine:
            raise TypeError(f"step {self.name!r}: option exactly_once is set at @step, where workers find the engine")
        checked.pop("exactly_once", None)
        options_as_json(checked)
        return StepFunction(self.definition, {**self._options, **checked})

    def __repr__(self) -> str:
        return f"<step {self.name!r}>"

    def _call_outside(self, args: Any, kwargs: Any) -> Coroutine[object, None, R]:
        function: Callable[..., Any] = self.fn
        if asyncio._get_running_loop() is None:
            raise TypeError(
                f"step {self.name!r} can be awaited in a workflow or another coroutine; "
                f"without a running event loop call its plain function: {self.name}.fn(…)"
            )
        inspect.signature(function).bind(*args, **kwargs)
        return StepCall(self.name, None, lambda: function(*args, **kwargs))

    def _decode(self, payload: Payload) -> Any:
        return self.definition.schema.decode_result(payload)


class StepDecorator(Protocol):
    """What ``@step(…)`` with options gives."""

    @overload
    def __call__(self, actor: dramatiq.Actor[P, R], /) -> StepFunction[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> StepFunction[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> StepFunction[P, R]: ...


@overload
def step(actor: dramatiq.Actor[P, R], /) -> StepFunction[P, R]: ...
@overload
def step(fn: Callable[P, Coroutine[Any, Any, R]], /) -> StepFunction[P, R]: ...
@overload
def step(fn: Callable[P, R], /) -> StepFunction[P, R]: ...
@overload
def step(**options: Unpack[StepOptions]) -> StepDecorator: ...
def step(fn: Any = None, /, **options: Any) -> Any:
    """Make a function, or a Dramatiq actor that exists already, a step; bare or with options.

    An actor goes on to take its plain messages. What is set on it (queue, priority, retries, back-off, ``throws``,
    ``retry_when``, ``time_limit``) holds for the step as far as options here say nothing.

    Parameters:
      options: name, queue, priority, retries, timeout, and so on: see the reference of options.

    Raises:
      TypeError: there is no such option, or it has the wrong type.
      ValueError: an option's value is out of range.
      DuplicateNameError: another function has the name.
    """
    checked = check_step_options(options)
    if fn is None:

        def decorate(function: Any) -> StepFunction[..., Any]:
            return _new_step(function, checked)

        return decorate
    return _new_step(fn, checked)


class StepRefDecorator(Protocol):
    """What ``@step_ref(…)`` over a stub gives."""

    @overload
    def __call__(self, stub: Callable[P, Coroutine[Any, Any, R]], /) -> StepFunction[P, R]: ...
    @overload
    def __call__(self, stub: Callable[P, R], /) -> StepFunction[P, R]: ...


@overload
def step_ref(name: str, /, **options: Unpack[StepOptions]) -> StepFunction[..., Any]: ...
@overload
def step_ref(**options: Unpack[StepOptions]) -> StepRefDecorator: ...
def step_ref(name: str | None = None, /, **options: Any) -> Any:
    """A step whose code is not here: by name, or typed when it decorates a stub whose body is never run.

    Raises:
      TypeError: there is no such option, or it has the wrong type.
      ValueError: an option's value is out of range.
    """
    if name is not None:
        checked = _checked_ref({"name": name, **options})
        return _register(StepDefinition(checked.pop("name"), None, CallSchema.open(f"step {name!r}"), checked))
    checked = _checked_ref(options)

    def decorate(stub: Callable[..., Any]) -> StepFunction[..., Any]:
        stub_name = checked.pop("name", stub.__name__)
        schema = CallSchema.of(stub, what=f"step {stub_name!r}")
        return _register(StepDefinition(stub_name, None, schema, checked))

    return decorate


def _checked_ref(options: Mapping[str, Any]) -> dict[str, Any]:
    checked = check_step_options(options, "step_ref")
    if checked.get("exactly_once") is not None:
        raise TypeError("step_ref: option exactly_once is set at the @step itself, where workers find the engine")
    return checked


class Step:
    """The class form of a step: options as class attributes, the work in ``run``.

    An instance is called like any other step. Class attributes that are no options are the class's own affair, as long
    as they begin with an underscore or are methods.
    """

    _step: ClassVar[StepFunction[..., Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        run = cls.__dict__.get("run")
        if run is None:
            raise TypeError(f"step class {cls.__name__} needs a method run(self, …)")
        options = check_step_options(_class_options(cls), f"step class {cls.__name__}")
        name = options.pop("name", cls.__name__)
        bound: Any = _bound_run(cls)
        _check_once(name, run, options)
        schema = CallSchema.of(run, what=f"step {name!r}", skip_first=True, without=_not_given(options))
        cls._step = _register(StepDefinition(name, bound, schema, options))

    def __init__(self) -> None:
        if type(self) is Step:
            raise TypeError("Step is to be subclassed")

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[object, None, Any]:
        """Ask for the step; await what comes back."""
        return self._step(*args, **kwargs)

    @classmethod
    def options(cls, **options: Unpack[CallOptions]) -> StepFunction[..., Any]:
        """This step with other options, for the calls that follow."""
        return cls._step.options(**options)


def _class_options(cls: type) -> dict[str, Any]:
    return {
        name: value
        for base in reversed(cls.__mro__)
        if issubclass(base, Step) and base is not Step
        for name, value in vars(base).items()
        if not name.startswith("_")
        and not isinstance(value, (classmethod, staticmethod, property))
        and not inspect.isfunction(value)
    }


def _bound_run(cls: type[Step]) -> Callable[..., Any]:
    run: Any = cls.__dict__["run"]
    if inspect.iscoroutinefunction(run):

        async def run_async(*args: Any, **kwargs: Any) -> Any:
            return await run(cls(), *args, **kwargs)

        run_async.__wrapped__ = run  # type: ignore[attr-defined]
        return run_async

    def run_sync(*args: Any, **kwargs: Any) -> Any:
        return run(cls(), *args, **kwargs)

    run_sync.__wrapped__ = run  # type: ignore[attr-defined]
    return run_sync


def _new_step(fn: Any, checked: dict[str, Any]) -> StepFunction[..., Any]:
    if isinstance(fn, dramatiq.Actor):
        return _register(step_of_actor(fn, checked))  # pyright: ignore[reportUnknownArgumentType]
    if not callable(fn):
        raise TypeError(f"@step decorates a function, not {fn!r}")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(f"step {fn.__name__!r} is a generator: a step has one result; return a list")
    options = dict(checked)
    if options.get("isolation") == "process" and inspect.iscoroutinefunction(fn):
        raise TypeError(f'step {fn.__name__!r} is an `async def`: isolation="process" is for a `def` step')
    name = options.pop("name", None) or getattr(fn, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        raise TypeError('a step needs a name: decorate a function, or give name="…"')
    _check_once(name, fn, options)
    schema = CallSchema.of(fn, what=f"step {name!r}", without=_not_given(options))
    return _register(StepDefinition(name, fn, schema, options))


def _not_given(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The parameters that a worker fills in."""
    return ("connection",) if options.get("exactly_once") is not None else ()


def _check_once(name: str, fn: Callable[..., Any], options: Mapping[str, Any]) -> None:
    kind = type(options.get("exactly_once")).__name__
    if kind == ("Engine" if inspect.iscoroutinefunction(fn) else "AsyncEngine"):
        wanted = "an `async def` takes an AsyncEngine" if kind == "Engine" else "a `def` takes an Engine"
        raise TypeError(f"step {name!r}: exactly_once has an {kind}: {wanted}")


def _register(definition: StepDefinition) -> StepFunction[..., Any]:
    check_keys(definition.options, definition.fn, what=f"step {definition.name!r}")
    check_together(definition.options, f"step {definition.name!r}")
    registry.add_step(definition)
    function: StepFunction[..., Any] = StepFunction(definition)

    async def run_one(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    run_one.__wrapped__ = definition.fn  # type: ignore[attr-defined]
    registry.set_step_workflow(WorkflowDefinition(STEP_WORKFLOW + definition.name, 1, run_one, definition.schema, {}))
    return function
