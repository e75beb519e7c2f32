"""What a function's signature and annotations say, looked through decorators, with every name resolved."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final

import typing_extensions

from dramaturg_protocol.annotations import UNPACK
from dramaturg_protocol.errors import PayloadError

_AWAITABLE: Final[tuple[Any, ...]] = (collections.abc.Coroutine, collections.abc.Awaitable)

_QUALIFIERS: Final[tuple[Any, ...]] = (
    typing.Required,
    typing.NotRequired,
    typing_extensions.Required,
    typing_extensions.NotRequired,
    typing_extensions.ReadOnly,
)


def signature_of(fn: Callable[..., Any], *, skip_first: bool = False) -> inspect.Signature:
    """Give the signature of a function, through decorators that set ``__wrapped__``.

    Parameters:
      skip_first: leave the first parameter out, as for the ``self`` of a method taken from its class.
    """
    if sys.version_info >= (3, 14):
        import annotationlib

        signature = inspect.signature(fn, annotation_format=annotationlib.Format.FORWARDREF)
    else:
        signature = inspect.signature(fn)
    parameters = list(signature.parameters.values())
    return signature.replace(parameters=parameters[1:]) if skip_first else signature


def hints_of(fn: Callable[..., Any], what: str, namespace: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give the annotations of a function by parameter (and ``return``), with quoted names resolved.

    Parameters:
      what: what to call the function in errors.
      namespace: more names that annotations may use.

    Raises:
      PayloadError: a name cannot be found.
    """
    inner = _innermost(fn)
    local = {**_closure(inner), **(namespace or {})}
    try:
        return typing.get_type_hints(inner, localns=local, include_extras=True)
    except Exception:  # noqa: BLE001  # one name that is missing spoils all: find out whose it is
        return {name: _resolved(name, raw, inner, local, what) for name, raw in _raw_annotations(inner).items()}


def keywords_of(annotation: Any) -> dict[str, Any]:
    """Give the annotations of single keywords that ``**kwargs: Unpack[SomeTypedDict]`` spells out."""
    if typing.get_origin(annotation) not in UNPACK:
        return {}
    (spelled,) = typing.get_args(annotation)
    hints = typing.get_type_hints(spelled, include_extras=True) if typing_extensions.is_typeddict(spelled) else {}
    return {name: _unqualified(hint) for name, hint in hints.items()}


def _unqualified(hint: Any) -> Any:
    while typing.get_origin(hint) in _QUALIFIERS:
        (hint,) = typing.get_args(hint)
    return hint


def result_of(fn: Callable[..., Any], hints: Mapping[str, Any]) -> Any:
    """Give the annotation of what a call gives in the end: an awaitable's result where it returns one."""
    result = hints.get("return", inspect.Parameter.empty)
    if not inspect.iscoroutinefunction(fn) and typing.get_origin(result) in _AWAITABLE:
        return typing.get_args(result)[-1]
    return result


def _innermost(fn: Callable[..., Any]) -> Any:
    """The function whose annotations count: where ``inspect.signature`` stops looking."""
    inner = inspect.unwrap(fn, stop=lambda one: hasattr(one, "__signature__"))
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    if isinstance(inner, types.MethodType):
        return inner.__func__
    if isinstance(inner, types.FunctionType | type) or hasattr(inner, "__annotations__"):
        return inner
    return getattr(_kind(inner), "__call__", inner)  # noqa: B004  # the method, for its annotations


def _kind(value: object) -> type[Any]:
    return type(value)


def _closure(fn: Any) -> dict[str, Any]:
    """The variables of outer functions that a function uses: annotations in quotes may name them too."""
    names = getattr(getattr(fn, "__code__", None), "co_freevars", ())
    found: dict[str, Any] = {}
    for name, cell in zip(names, getattr(fn, "__closure__", None) or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def _raw_annotations(fn: Any) -> dict[str, Any]:
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(fn, format=annotationlib.Format.FORWARDREF)
    return inspect.get_annotations(fn)


def _resolved(name: str, raw: Any, fn: Any, local: dict[str, Any], what: str) -> Any:
    holder = types.SimpleNamespace(__annotations__={name: raw})
    try:
        return typing.get_type_hints(holder, getattr(fn, "__globals__", None), local, include_extras=True)[name]
    except Exception as error:  # whatever an expression in quotes raises
        whose = f"the result of {what}" if name == "return" else f"argument {name!r} of {what}"
        raise PayloadError(
            f"{whose}: the annotation {raw!r} cannot be resolved: {error}; its names must exist when the function is "
            f"first used, not only under TYPE_CHECKING"
        ) from error
