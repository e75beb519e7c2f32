"""What an annotation promises about the values under it, and so how they are written.

- An **open** annotation leaves the type to the value (``Any``, none at all): the tagged form.
- A **container** is a bare one (``list``, ``dict``, ``set`` …): the tagged form, checked to be of that type.
- A **partly open** one mentions an open one (``dict[str, Any]``): checked by pydantic, in the tagged form.
- A **certain** one consists of types whose values pydantic is known to read back from its own text as they were.
- Any other is **checked**: what is written is read back and compared before it is used.
"""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum, Flag
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin
from uuid import UUID

import typing_extensions
from pydantic import ConfigDict

NoneType: Final = type(None)

#: Annotations whose values are most often of exactly that JSON type.
NATIVE: Final[frozenset[Any]] = frozenset({int, str, bool, float, NoneType})

UNPACK: Final[tuple[Any, ...]] = (typing.Unpack, typing_extensions.Unpack)

CONTAINERS: Final[frozenset[Any]] = frozenset({list, dict, tuple, set, frozenset})

# Before pydantic 2.9 bytes are base64 one way only; then they are compared, and tagged.
_BYTES: Final[frozenset[Any]] = frozenset({bytes} if "val_json_bytes" in ConfigDict.__annotations__ else ())
_CERTAIN: Final[frozenset[Any]] = NATIVE | _BYTES | {date, timedelta, Decimal, UUID}
_CERTAIN_KEYS: Final[frozenset[Any]] = frozenset({str, int, UUID})
_CERTAIN_IN_UNION: Final[frozenset[Any]] = frozenset({int, str, bool, NoneType})
_TYPE_VARIABLES: Final = (
    TypeVar,
    typing.ParamSpec,
    typing.TypeVarTuple,
    typing_extensions.TypeVar,
    typing_extensions.ParamSpec,
    typing_extensions.TypeVarTuple,
    typing.ParamSpecArgs,
    typing.ParamSpecKwargs,
)
_OPEN: Final[tuple[Any, ...]] = (Any, object, inspect.Parameter.empty, typing.Iterable, collections.abc.Iterable)


def normal(annotation: Any) -> Any:
    """Give the plain spelling of an annotation: ``list`` for ``typing.List``, ``NoneType`` for ``None``."""
    if annotation is None:
        return NoneType
    bare = getattr(annotation, "__module__", "") == "typing" and not get_args(annotation)
    return get_origin(annotation) or annotation if bare else annotation


def is_open(annotation: Any) -> bool:
    """Tell whether an annotation says nothing about the type; an ``Iterable`` is whatever its sender passed."""
    if get_origin(annotation) in UNPACK:
        return True
    if isinstance(annotation, _TYPE_VARIABLES):
        return not (getattr(annotation, "__bound__", None) or getattr(annotation, "__constraints__", ()))
    return any(annotation is one or get_origin(annotation) is one for one in _OPEN)


def has_open_part(annotation: Any) -> bool:
    """Tell whether an annotation mentions an open one or a bare container."""
    annotation = normal(annotation)
    if is_open(annotation) or (isinstance(annotation, type) and annotation in CONTAINERS):
        return True
    if get_origin(annotation) is Literal:
        return False
    parts = _arguments(annotation)
    return any(part is not Ellipsis and not isinstance(part, list) and has_open_part(part) for part in parts)


def mentions(annotation: Any, wanted: type[Any]) -> bool:
    """Tell whether a type stands anywhere in an annotation (not: in the fields of its classes)."""
    if get_origin(annotation) is Literal:
        return False
    return annotation is wanted or any(mentions(part, wanted) for part in _arguments(annotation))


def is_certain(annotation: Any) -> bool:
    """Tell whether pydantic reads every value under an annotation back as it was."""
    if any(annotation is one for one in _CERTAIN) or _is_certain_enum(annotation):
        return True
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (list, set, frozenset) or (origin is tuple and parts):
        return all(part is Ellipsis or is_certain(part) for part in parts)
    if origin is dict:
        return any(parts[0] is one for one in _CERTAIN_KEYS) and is_certain(parts[1])
    if origin in (Union, types.UnionType):
        return _is_certain_union(parts)
    if origin is Literal:
        return {type(part) for part in parts} in ({str}, {int})
    return False


def _is_certain_union(parts: tuple[Any, ...]) -> bool:
    if all(any(part is one for one in _CERTAIN_IN_UNION) for part in parts):
        return True
    return len(parts) == 2 and NoneType in parts and all(is_certain(part) for part in parts)


def _is_certain_enum(annotation: Any) -> bool:
    if not (isinstance(annotation, type) and issubclass(annotation, Enum)) or issubclass(annotation, Flag):
        return False
    return {type(member.value) for member in annotation} in ({str}, {int})


def _arguments(annotation: Any) -> tuple[Any, ...]:
    parts = get_args(annotation)
    return parts[:1] if get_origin(annotation) is Annotated else parts
