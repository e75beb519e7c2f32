"""Whether two values are the same: ``==`` that also tells ``1`` from ``True`` and a subclass from its base."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, time
from decimal import Decimal
from functools import lru_cache, partial
from math import isnan
from typing import Any, cast
from zoneinfo import ZoneInfo

from pydantic import BaseModel

_EXACT = frozenset({int, str, bool, bytes, type(None)})


def same_value(one: object, other: object) -> bool:
    """Tell whether two values have the same types and contents, all the way down; NaN is the same as NaN."""
    if one is other:
        return True
    kind = type(one)
    if kind is not type(other):
        return False
    if kind in _EXACT:
        return bool(one == other)
    return _comparison(kind)(one, other)


def _comparison_for(kind: type[Any]) -> Callable[[Any, Any], bool]:
    if issubclass(kind, list | tuple):
        return _same_items
    if issubclass(kind, deque):
        return lambda one, other: one.maxlen == other.maxlen and _same_items(one, other)
    if issubclass(kind, Mapping):
        return _same_mapping
    if issubclass(kind, set | frozenset):
        return _same_set
    if issubclass(kind, BaseModel):
        return partial(_same_attributes, (*kind.model_fields, "__pydantic_extra__"))
    if dataclasses.is_dataclass(kind):
        return partial(_same_attributes, tuple(field.name for field in dataclasses.fields(kind)))
    for base, comparison in _BY_BASE:
        if issubclass(kind, base):
            return comparison
    return _same_state if _compares_by_identity(kind) else _equal


def _same_items(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(map(same_value, one, other))


def _same_mapping(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    if len(one) != len(other):
        return False
    if all(map(same_value, one.keys(), other.keys())):
        return all(map(same_value, one.values(), other.values()))
    if set(map(type, one)) != set(map(type, other)):
        return False
    return all(key in other and same_value(value, other[key]) for key, value in one.items())


def _same_set(one: Any, other: Any) -> bool:
    if len(one) != len(other):
        return False
    if one == other:  # then their elements pair up, though perhaps 1 with True
        partners: dict[Any, Any] = {element: element for element in other}
        return all(same_value(element, partners[element]) for element in one)
    return sorted(map(repr, one)) == sorted(map(repr, other))  # a NaN is not even equal to itself


def _same_attributes(names: tuple[str, ...], one: Any, other: Any) -> bool:
    return all(same_value(getattr(one, name, None), getattr(other, name, None)) for name in names)


def _same_float(one: float, other: float) -> bool:
    return one == other or (isnan(one) and isnan(other))


def _same_complex(one: complex, other: complex) -> bool:
    return repr(one) == repr(other)


def _same_decimal(one: Decimal, other: Decimal) -> bool:
    return one.as_tuple() == other.as_tuple()


def _same_moment(one: datetime | time, other: datetime | time) -> bool:
    if one.fold != other.fold or one.utcoffset() != other.utcoffset() or _zone(one) != _zone(other):
        return False
    return one.replace(tzinfo=None) == other.replace(tzinfo=None)


def _zone(moment: datetime | time) -> str | None:
    return moment.tzinfo.key if isinstance(moment.tzinfo, ZoneInfo) else None


def _same_state(one: Any, other: Any) -> bool:
    state = getattr(one, "__dict__", None)
    return state is not None and same_value(state, getattr(other, "__dict__", None))


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001  # an __eq__ that has no plain answer, such as an array's
        return False


def _compares_by_identity(kind: type[Any]) -> bool:
    return not any("__eq__" in vars(base) for base in kind.__mro__ if base is not object)


_BY_BASE: tuple[tuple[Any, Callable[[Any, Any], bool]], ...] = (
    (float, _same_float),
    (complex, _same_complex),
    (Decimal, _same_decimal),
    (datetime | time, _same_moment),
)

# cast: to mypy a class is not Hashable where a metaclass could say so
_comparison = cast("Callable[[type[Any]], Callable[[Any, Any], bool]]", lru_cache(maxsize=1024)(_comparison_for))
