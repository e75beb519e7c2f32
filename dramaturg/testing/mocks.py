"""`StepMock`: what runs in the place of a step, on the worker, with all that the engine does around it."""

from __future__ import annotations

import dataclasses
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

from dramaturg_protocol.definitions import Registry, StepDefinition

_NOTHING: Any = object()


class StepMock:
    """Stands for a step until its `WorkflowEnv` is closed, or `restore` is called.

    Its result passes through the step's return annotation as a real one would; what it raises is retried as the step's
    own policy says. Each attempt is a call.

    Attributes:
      calls: the arguments of each attempt, as `unittest.mock.call` objects with ``args`` and ``kwargs``.
    """

    def __init__(self, definition: StepDefinition, return_value: Any, side_effect: Any, fn: Any) -> None:
        given = [each for each in (return_value, side_effect, fn) if each is not _NOTHING]
        if len(given) > 1:
            raise TypeError("a mock has one of a function, return_value= and side_effect=")
        self.name = definition.name
        self.calls: list[Any] = []
        self._original = definition
        self._registry: Registry | None = None
        self._returns = None if return_value is _NOTHING else return_value
        self._effect = side_effect if fn is _NOTHING else fn
        if fn is not _NOTHING and not callable(fn):
            raise TypeError(f"the mock of step {self.name!r} is to call {fn!r}, which is no function")
        self._effects = _iterator_of(self._effect)
        self._lock = threading.Lock()

    @property
    def call_count(self) -> int:
        """How many attempts there were."""
        return len(self.calls)

    @property
    def called(self) -> bool:
        """Whether there was any."""
        return bool(self.calls)

    @property
    def call_args(self) -> Any:
        """The last of the calls; ``None`` where there was none."""
        return self.calls[-1] if self.calls else None

    def assert_called_once_with(self, *args: Any, **kwargs: Any) -> None:
        """One attempt, with these arguments, by position or by name."""
        self.assert_called_once()
        self.assert_called_with(*args, **kwargs)

    def assert_called_with(self, *args: Any, **kwargs: Any) -> None:
        """The last attempt had these arguments."""
        expected = self._spelled(args, kwargs)
        if not self.calls or self._spelled(self.calls[-1].args, self.calls[-1].kwargs) != expected:
            last = f"it was last called with {self.calls[-1]!r}" if self.calls else "it was not called"
            raise AssertionError(f"step {self.name!r} was not called with {mock.call(*args, **kwargs)!r}: {last}")

    def assert_any_call(self, *args: Any, **kwargs: Any) -> None:
        """Some attempt had these arguments."""
        expected = self._spelled(args, kwargs)
        if all(self._spelled(each.args, each.kwargs) != expected for each in self.calls):
            raise AssertionError(
                f"step {self.name!r} was never called with {mock.call(*args, **kwargs)!r}: its calls are {self.calls!r}"
            )

    def assert_called_once(self) -> None:
        """There was one attempt."""
        if len(self.calls) != 1:
            raise AssertionError(f"step {self.name!r} was called {len(self.calls)} times, not once: {self.calls!r}")

    def assert_called(self) -> None:
        """There was an attempt."""
        if not self.calls:
            raise AssertionError(f"step {self.name!r} was not called")

    def assert_not_called(self) -> None:
        """There was none."""
        if self.calls:
            raise AssertionError(f"step {self.name!r} was called: {self.calls!r}")

    def restore(self) -> None:
        """Let the step run its own code again."""
        if self._registry is not None and getattr(self._registry.steps.get(self.name), "fn", None) is self._fn:
            self._registry.steps[self.name] = self._original
        self._registry = None

    def install(self, registry: Registry) -> None:
        """Stand for the step from now on."""
        self._fn = self._function()
        # The original's process would know nothing of this, and its database is not to be asked.
        real = ("isolation", "exactly_once")
        options = {name: value for name, value in self._original.options.items() if name not in real}
        registry.steps[self.name] = dataclasses.replace(self._original, fn=self._fn, options=options, actor=None)
        self._registry = registry

    def _function(self) -> Callable[..., Any]:
        if not inspect.iscoroutinefunction(self._effect):
            return lambda *args, **kwargs: self._answer(self._noted(args, kwargs))
        effect = self._effect

        async def answer(*args: Any, **kwargs: Any) -> Any:
            self._noted(args, kwargs)
            return await effect(*args, **kwargs)

        return answer

    def _noted(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self._lock:
            call = mock.call(*args, **kwargs)
            self.calls.append(call)
            return call

    def _answer(self, call: Any) -> Any:
        if self._effect is _NOTHING or self._effect is None:
            return self._returns
        effect = self._effect
        if self._effects is not None:
            with self._lock:
                effect = next(self._effects, _NOTHING)
            if effect is _NOTHING:
                raise AssertionError(f"the mock of step {self.name!r} has no answer left for {call!r}")
            if not _is_error(effect):
                return effect
        if _is_error(effect):
            raise effect
        return effect(*call.args, **call.kwargs)

    def _spelled(self, args: Any, kwargs: Any) -> Any:
        """The same for all ways to write a call."""
        if self._original.fn is None:
            return args, kwargs
        try:
            bound = inspect.signature(self._original.fn).bind_partial(*args, **kwargs)
        except TypeError:
            return args, kwargs
        bound.apply_defaults()
        return bound.arguments


def _iterator_of(effect: Any) -> Iterator[Any] | None:
    is_many = isinstance(effect, Iterable) and not isinstance(effect, (str, bytes, type))
    return iter(effect) if is_many else None  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _is_error(value: object) -> bool:
    return isinstance(value, BaseException) or (isinstance(value, type) and issubclass(value, BaseException))


def mock_of(
    definition: StepDefinition, fn: Any = _NOTHING, *, return_value: Any = _NOTHING, side_effect: Any = _NOTHING
) -> StepMock:
    """A mock of a step; see `WorkflowEnv.mock`."""
    return StepMock(definition, return_value, side_effect, fn)
