"""The tagged form: any value as JSON that says what it was.

JSON's own values stand as they are; everything else is an object whose ``"$type"`` names it, such as
``{"$type": "set", "items": [1, 2]}``. A dict that JSON could not tell from that, or whose keys are not all strings,
is written as ``{"$type": "dict", "pairs": [[key, value], ...]}``. ``untags`` reads the form back.
"""

from __future__ import annotations

import base64
import dataclasses
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address
from math import isfinite
from pathlib import Path, PosixPath, WindowsPath
from typing import Any, Final, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic_core import to_json

from dramaturg_protocol.classes import class_name
from dramaturg_protocol.errors import PayloadError
from dramaturg_protocol.sealing import may_hold_secrets

TAG: Final = "$type"
TAG_IN_TEXT: Final = '"$type"'

#: JSON levels that a payload may be nested; the parser stops at about 200, and payloads lie inside other JSON.
MAX_NESTING: Final = 128

#: Integers beyond this are tagged: parsers refuse numbers of more than 4300 digits.
BIGGEST_PLAIN_INT: Final = 10**4000

_SCALARS: Final[frozenset[type[Any]]] = frozenset({str, int, bool, float, type(None)})


class Unencodable(Exception):
    """A value that has no tagged form; gathers the path to it on its way up."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []

    def __str__(self) -> str:
        steps = self.path[::-1]
        shown = "".join(steps if len(steps) <= 8 else [*steps[:4], "...", *steps[-4:]])
        return f"{shown}: {self.reason}" if shown else self.reason


class UnsafeSecret(Unencodable):
    """A secret, where nothing encrypts."""


class SecretRefused(PayloadError):
    """A value holds a secret, and nothing encrypts what is stored."""


class Tagger:
    """Turns values into JSON-ready ones.

    Parameters:
      secrets: write ``SecretStr`` and ``SecretBytes`` in clear, for a store that encrypts; else they are refused.
      canonical: write dicts in the order of their keys, so that equal values have equal texts.
    """

    __slots__ = ("canonical", "secrets")

    def __init__(self, *, secrets: bool = False, canonical: bool = False) -> None:
        self.secrets = secrets
        self.canonical = canonical

    def tagged(self, value: Any, level: int = 0) -> Any:
        """Give the tagged form of a value.

        Raises:
          Unencodable: it, or something in it, has none.
        """
        if type(value) is str or type(value) is bool or value is None:
            return value
        if type(value) is int and -BIGGEST_PLAIN_INT < value < BIGGEST_PLAIN_INT:
            return value
        if type(value) is float and isfinite(value):
            return value
        if level > MAX_NESTING:
            raise Unencodable(f"nested more than {MAX_NESTING} levels deep, or inside itself")
        kind = _kind(value)
        write = _WRITERS.get(kind) or _writer_by_base(kind)
        if write is None:
            raise Unencodable(f"{_a(kind)} cannot be encoded: convert it to a plain value first")
        return write(self, value, level)

    def items(self, values: Iterable[Any], level: int) -> list[Any]:
        at = 0
        done: list[Any] = []
        try:
            for at, value in enumerate(values):  # noqa: B007  # at is for the error
                done.append(self.tagged(value, level))
        except Unencodable as error:
            error.path.append(f"[{at}]")
            raise
        return done

    def fields(self, values: Iterable[tuple[str, Any]], level: int, *, attributes: bool = False) -> dict[str, Any]:
        done: dict[str, Any] = {}
        name = ""
        try:
            for name, value in values:
                done[name] = self.tagged(value, level)
        except Unencodable as error:
            error.path.append(f".{name}" if attributes else f"[{name!r}]")
            raise
        return done


def text_of(plain: Any) -> str:
    """Give the JSON text of a tagged form."""
    return to_json(plain).decode()


_Writer = Callable[[Tagger, Any, int], Any]


def _write_list(tagger: Tagger, value: list[Any], level: int) -> Any:
    return value if _all_plain(value) else tagger.items(value, level + 1)


def _all_plain(values: list[Any]) -> bool:
    """Whether JSON has the very types of all elements: told without a loop in Python, since lists may be long."""
    found = set(map(type, values))
    if not found <= _SCALARS:
        return False
    if int in found:
        return found == {int} and min(values) > -BIGGEST_PLAIN_INT and max(values) < BIGGEST_PLAIN_INT
    return float not in found or (found == {float} and isfinite(sum(values)))


def _write_dict(tagger: Tagger, value: dict[Any, Any], level: int) -> Any:
    if TAG not in value and all(type(key) is str for key in value):
        pairs = sorted(value.items()) if tagger.canonical else value.items()
        return tagger.fields(pairs, level + 1)
    return {TAG: "dict", "pairs": _pairs(tagger, value, level)}


def _pairs(tagger: Tagger, value: dict[Any, Any], level: int) -> list[Any]:
    pairs: list[Any] = []
    for key, item in value.items():
        try:
            pairs.append([tagger.tagged(key, level + 3), tagger.tagged(item, level + 3)])
        except Unencodable as error:
            error.path.append(f"[{key!r:.60}]")
            raise
    return sorted(pairs, key=lambda pair: to_json(pair[0])) if tagger.canonical else pairs


def _write_ordered_dict(tagger: Tagger, value: dict[Any, Any], level: int) -> Any:
    return {TAG: "ordered_dict", "pairs": _pairs(tagger, value, level)}


def _write_tuple(tagger: Tagger, value: tuple[Any, ...], level: int) -> Any:
    return {TAG: "tuple", "items": tagger.items(value, level + 2)}


def _write_deque(tagger: Tagger, value: deque[Any], level: int) -> Any:
    return {TAG: "deque", "items": tagger.items(value, level + 2), "maxlen": value.maxlen}


def _write_set(tagger: Tagger, value: Any, level: int) -> Any:
    # Sorted, since the order of a set of strings differs from process to process.
    return {TAG: _kind(value).__name__, "items": sorted(tagger.items(value, level + 2), key=to_json)}


def _write_text(tagger: Tagger, value: Any, level: int) -> Any:
    return {TAG: _kind(value).__name__.lower(), "value": str(value)}


def _write_path(tagger: Tagger, value: Path, level: int) -> Any:
    return {TAG: "path", "value": str(value)}


def _write_int(tagger: Tagger, value: int, level: int) -> Any:
    return {TAG: "int", "value": hex(value)}


def _write_bytes(tagger: Tagger, value: Any, level: int) -> Any:
    return {TAG: _kind(value).__name__, "value": base64.b64encode(value).decode()}


def _write_date(tagger: Tagger, value: date, level: int) -> Any:
    return {TAG: "date", "value": value.isoformat()}


def _write_moment(tagger: Tagger, value: Any, level: int) -> Any:
    plain: dict[str, Any] = {TAG: _kind(value).__name__, "value": value.isoformat()}
    if isinstance(value.tzinfo, ZoneInfo):
        plain["zone"] = _zone_key(value.tzinfo)
    elif value.tzinfo is not None and value.utcoffset() is None:
        raise Unencodable(f"{_a(_kind(value))} with a time zone that gives no offset cannot be encoded")
    if value.fold:
        plain["fold"] = value.fold
    return plain


def _zone_key(zone: ZoneInfo) -> str:
    key = cast("str | None", zone.key)
    if key is None:
        raise Unencodable("a time zone that was read from a file has no name to be found again by")
    return key


def _write_timedelta(tagger: Tagger, value: timedelta, level: int) -> Any:
    return {TAG: "timedelta", "days": value.days, "seconds": value.seconds, "microseconds": value.microseconds}


def _write_complex(tagger: Tagger, value: complex, level: int) -> Any:
    return {TAG: "complex", "real": repr(value.real), "imag": repr(value.imag)}


def _write_secret(tagger: Tagger, value: Any, level: int) -> Any:
    if not tagger.secrets:
        raise UnsafeSecret(
            f"{_a(_kind(value))} is stored only where an encrypting CODEC is configured (DRAMATURG_CODEC)"
        )
    return {TAG: _kind(value).__name__.lower(), "value": tagger.tagged(value.get_secret_value(), level + 1)}


def _write_enum(tagger: Tagger, value: Enum, level: int) -> Any:
    plain = {TAG: "enum", "class": _name_of(_kind(value))}
    if isinstance(value, Flag):
        return plain | {"value": tagger.tagged(value.value, level + 1)}
    return plain | {"name": value.name}


def _write_namedtuple(tagger: Tagger, value: Any, level: int) -> Any:
    return {TAG: "namedtuple", "class": _name_of(_kind(value)), "items": tagger.items(value, level + 2)}


def _write_dataclass(tagger: Tagger, value: Any, level: int) -> Any:
    fields = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if hasattr(value, f.name)]
    return {
        TAG: "dataclass",
        "class": _name_of(_kind(value)),
        "fields": tagger.fields(fields, level + 2, attributes=True),
    }


def _write_model(tagger: Tagger, value: BaseModel, level: int) -> Any:
    kind = _kind(value)
    fields = [(name, value.__dict__[name]) for name in kind.model_fields if name in value.__dict__]
    extra = list((value.__pydantic_extra__ or {}).items())
    plain = {TAG: "model", "class": _name_of(kind), "fields": tagger.fields(fields, level + 2, attributes=True)}
    return plain | {"extra": tagger.fields(extra, level + 2, attributes=True)} if extra else plain


_WRITERS: Final[dict[type[Any], _Writer]] = {
    list: _write_list,
    dict: _write_dict,
    tuple: _write_tuple,
    set: _write_set,
    frozenset: _write_set,
    deque: _write_deque,
    OrderedDict: _write_ordered_dict,
    int: _write_int,
    float: _write_text,
    complex: _write_complex,
    Decimal: _write_text,
    Fraction: _write_text,
    UUID: _write_text,
    IPv4Address: _write_text,
    IPv6Address: _write_text,
    PosixPath: _write_path,
    WindowsPath: _write_path,
    bytes: _write_bytes,
    bytearray: _write_bytes,
    datetime: _write_moment,
    time: _write_moment,
    date: _write_date,
    timedelta: _write_timedelta,
    SecretStr: _write_secret,
    SecretBytes: _write_secret,
}

_VALUES: Final = (str, int, float, complex, bytes, bytearray, list, dict, tuple, set, frozenset, date, time, timedelta)


def _writer_by_base(kind: type[Any]) -> _Writer | None:
    """How to write an instance of a user's class. A subclass of a plain type is refused: its own part would be lost."""
    if issubclass(kind, Enum):
        return _write_enum
    if is_namedtuple(kind):
        return _write_namedtuple
    if issubclass(kind, BaseModel):
        return _write_model
    if dataclasses.is_dataclass(kind) and not issubclass(kind, _VALUES):
        return _write_dataclass
    return None


def is_namedtuple(kind: type[Any]) -> bool:
    """Tell whether a class was made as a ``NamedTuple``."""
    return issubclass(kind, tuple) and hasattr(cast("Any", kind), "_fields")


def _name_of(cls: type[Any]) -> str:
    try:
        return class_name(cls)
    except LookupError as error:
        raise Unencodable(f"{error}: define the class at the top of a module, or annotate the parameter") from None


def _kind(value: object) -> type[Any]:
    return type(value)


def _a(kind: type[Any]) -> str:
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def tagged_text(value: Any, where: str, *, secrets: bool | None = None, canonical: bool = False) -> str:
    """Encode a value in the tagged form.

    Parameters:
      where: what the value is, for the error's message, such as ``"argument 'cents' of step 'charge'"``.
      secrets: as for ``Tagger``; by default where the codec of this process encrypts.
      canonical: as for ``Tagger``.

    Raises:
      PayloadError: it cannot be encoded.
    """
    try:
        is_safe = may_hold_secrets() if secrets is None else secrets
        return text_of(Tagger(secrets=is_safe, canonical=canonical).tagged(value))
    except Unencodable as error:
        separator = "" if str(error).startswith(("[", ".")) else ": "
        kind = SecretRefused if isinstance(error, UnsafeSecret) else PayloadError
        raise kind(f"{where}{separator}{error}") from None
    except ValueError as error:  # lone surrogates: pydantic_core says at which character
        raise PayloadError(f"{where}: text that is not valid Unicode cannot be encoded: {error}") from error
