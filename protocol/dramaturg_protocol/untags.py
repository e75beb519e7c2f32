"""Reading the tagged form: the values that ``tags`` wrote. Nothing is called but the classes themselves."""

from __future__ import annotations

import base64
import dataclasses
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel, SecretBytes, SecretStr

from dramaturg_protocol.classes import class_named
from dramaturg_protocol.errors import PayloadError
from dramaturg_protocol.tags import TAG, is_namedtuple


class UnknownTag(PayloadError):
    """A ``"$type"`` that this version does not write."""


def untagged(plain: Any, where: str) -> Any:
    """Give the value of a parsed tagged form.

    Parameters:
      where: what the value is, for the error's message.

    Raises:
      UnknownTag: an object bears a tag that is not known.
      PayloadError: it is malformed, or its class is not there any more.
    """
    try:
        return _value(plain)
    except UnknownTag as error:
        raise UnknownTag(f"{where}: {error}") from None
    except Exception as error:  # whatever a class's own constructor raises
        raise PayloadError(f"{where} cannot be decoded: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = str(error.args[0]) if isinstance(error, LookupError) and error.args else str(error)
    return f"{text!r} is missing" if isinstance(error, KeyError) else text or type(error).__name__


def _value(plain: object) -> Any:
    kind = type(plain)
    if kind is dict:
        return _object(cast("dict[str, Any]", plain))
    if kind is list:
        return [_value(item) for item in cast("list[Any]", plain)]
    return plain


def _object(plain: dict[str, Any]) -> Any:
    tag = plain.get(TAG, _MISSING)
    if tag is _MISSING:
        return {key: _value(item) for key, item in plain.items()}
    read = _READERS.get(tag) if isinstance(tag, str) else None
    if read is None:
        raise UnknownTag(f"unknown {TAG} {tag!r}: was it written by a newer version?")
    return read(plain)


_MISSING: Final = object()


def _items(plain: dict[str, Any]) -> Iterable[Any]:
    return [_value(item) for item in plain["items"]]


def _pairs(plain: dict[str, Any]) -> Iterable[tuple[Any, Any]]:
    return [(_value(key), _value(item)) for key, item in plain["pairs"]]


def _by_text(read: Callable[[str], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda plain: read(plain["value"])


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _deque(plain: dict[str, Any]) -> deque[Any]:
    return deque(_items(plain), plain["maxlen"])


def _moment(read: Callable[[str], Any]) -> Callable[[dict[str, Any]], Any]:
    def reader(plain: dict[str, Any]) -> Any:
        moment = read(plain["value"]).replace(fold=plain.get("fold", 0))
        return moment.replace(tzinfo=ZoneInfo(plain["zone"])) if "zone" in plain else moment

    return reader


def _timedelta(plain: dict[str, Any]) -> timedelta:
    return timedelta(plain["days"], plain["seconds"], plain["microseconds"])


def _complex(plain: dict[str, Any]) -> complex:
    return complex(float(plain["real"]), float(plain["imag"]))


def _class(plain: dict[str, Any], base: type[Any]) -> Any:
    cls = class_named(plain["class"])
    if not issubclass(cls, base):
        raise TypeError(f"{plain['class']!r} is not a {base.__name__} class")
    return cls


def _enum(plain: dict[str, Any]) -> Any:
    cls = _class(plain, Enum)
    if issubclass(cls, Flag):
        return cls(_value(plain["value"]))
    if plain["name"] not in cls.__members__:
        raise LookupError(f"enum {plain['class']!r} has no member {plain['name']!r}")
    return cls.__members__[plain["name"]]


def _namedtuple(plain: dict[str, Any]) -> Any:
    cls = _class(plain, tuple)
    if not is_namedtuple(cls):
        raise TypeError(f"{plain['class']!r} is not a NamedTuple class")
    return cls(*_items(plain))


def _dataclass(plain: dict[str, Any]) -> Any:
    """Restore the fields as they were, as ``copy`` does: the constructor could compute or refuse them anew."""
    cls: type[Any] = _class(plain, object)
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"{plain['class']!r} is not a dataclass")
    known = {field.name: field for field in dataclasses.fields(cls)}
    values = _known_values(plain, known)
    instance = object.__new__(cls)
    for name, field in known.items():
        if name in values:
            object.__setattr__(instance, name, values[name])
        elif field.default is not dataclasses.MISSING:
            object.__setattr__(instance, name, field.default)
        elif field.default_factory is not dataclasses.MISSING:
            object.__setattr__(instance, name, field.default_factory())
        elif field.init:
            raise LookupError(f"dataclass {plain['class']!r} has a field {name!r} without default that is not stored")
    return instance


def _model(plain: dict[str, Any]) -> Any:
    """Restore the fields as they were: validators have seen them once already, and need not be idempotent."""
    cls = _class(plain, BaseModel)
    values = _known_values(plain, cls.model_fields)
    for name, field in cls.model_fields.items():
        if name not in values and field.is_required():
            raise LookupError(f"model {plain['class']!r} has a required field {name!r} that is not stored")
    extra = {name: _value(item) for name, item in plain.get("extra", {}).items()}
    instance = cls.model_construct(**{_alias(cls, name): item for name, item in values.items()})
    for name, item in extra.items():
        if instance.__pydantic_extra__ is None:
            raise LookupError(f"model {plain['class']!r} takes no extra field {name!r} any more")
        instance.__pydantic_extra__[name] = item
    return instance


def _alias(cls: Any, name: str) -> str:
    """The name under which ``model_construct`` takes a field."""
    alias = cls.model_fields[name].alias
    return alias if isinstance(alias, str) and cls.model_fields[name].validation_alias == alias else name


def _known_values(plain: dict[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in plain["fields"] if name not in known]
    if unknown:
        raise LookupError(f"class {plain['class']!r} has no field {unknown[0]!r} any more")
    return {name: _value(item) for name, item in plain["fields"].items()}


_READERS: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    # Around JSON's own values where plain JSON would be converted, as a str for `bytes | str` would be.
    "value": lambda plain: _value(plain["value"]),
    "dict": lambda plain: dict(_pairs(plain)),
    "ordered_dict": lambda plain: OrderedDict(_pairs(plain)),
    "tuple": lambda plain: tuple(_items(plain)),
    "set": lambda plain: set(_items(plain)),
    "frozenset": lambda plain: frozenset(_items(plain)),
    "deque": _deque,
    "int": _by_text(lambda text: int(text, 16)),
    "float": _by_text(float),
    "complex": _complex,
    "decimal": _by_text(Decimal),
    "fraction": _by_text(Fraction),
    "uuid": _by_text(UUID),
    "ipv4address": _by_text(IPv4Address),
    "ipv6address": _by_text(IPv6Address),
    "path": _by_text(Path),
    "bytes": _by_text(_bytes),
    "bytearray": _by_text(lambda text: bytearray(_bytes(text))),
    "datetime": _moment(datetime.fromisoformat),
    "time": _moment(time.fromisoformat),
    "date": _by_text(date.fromisoformat),
    "timedelta": _timedelta,
    "secretstr": lambda plain: SecretStr(_value(plain["value"])),
    "secretbytes": lambda plain: SecretBytes(_value(plain["value"])),
    "enum": _enum,
    "namedtuple": _namedtuple,
    "dataclass": _dataclass,
    "model": _model,
}
