"""The JSON text of an event's body: what a history stores, and what people read there.

Where a codec is set, values, the words of errors and what the code logged are sealed in it; names, positions and times
stay readable.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeAlias, cast, get_args, get_type_hints

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from dramaturg_protocol.error_info import ErrorInfo
from dramaturg_protocol.events import TYPES, EventBody, moment_text
from dramaturg_protocol.large import Keep, put_together, set_apart
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.sealing import is_sealing, seal, unseal
from dramaturg_protocol.tags import TAG_IN_TEXT, text_of

_Encoder: TypeAlias = Callable[[Any], str]

#: Fields that may quote values, in whatever event they are.
_QUOTING: Final = frozenset({"message", "recorded", "actual", "expected", "prompt", "comment", "details", "note"})


def _json(value: object) -> str:
    return to_json(value).decode()


def _encoder_of(annotation: Any) -> _Encoder:
    if annotation in (Payload, Payload | None):
        return lambda value: "null" if value is None else value
    if annotation is int:
        return str
    if annotation is datetime:
        return lambda value: f'"{moment_text(value)}"'
    if annotation == (datetime | None):
        return lambda value: "null" if value is None else f'"{moment_text(value)}"'
    return _json


def _sealing_encoder_of(name: str, annotation: Any) -> _Encoder:
    """As `_encoder_of`, where a codec is set."""
    plain = _encoder_of(annotation)
    if annotation in (ErrorInfo, ErrorInfo | None):
        return lambda value: "null" if value is None else _sealed_error(value)
    if name in _QUOTING or _may_hold_payload(annotation):
        return lambda value: "null" if value is None else seal(plain(value))
    return plain


def _sealed_error(error: ErrorInfo) -> str:
    words = {"message": error.message, "traceback": error.traceback}
    parts = [f'"{name}":{seal(_json(text)) if text else _json(text)}' for name, text in words.items()]
    return f'{{"type":{_json(error.type)},{",".join(parts)}}}'


def _may_hold_payload(annotation: Any) -> bool:
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return any(_may_hold_payload(hint) for hint in get_type_hints(annotation).values())
    return annotation is Payload or any(_may_hold_payload(part) for part in get_args(annotation))


class _Field(NamedTuple):
    prefix: str
    encode: _Encoder
    encode_sealed: _Encoder
    default: Any
    is_payload: bool


class _Form(NamedTuple):
    """How the events of one type are written.

    Attributes:
      values: gives the values of all fields of an event, in their order.
    """

    values: Callable[[EventBody], tuple[Any, ...]]
    fields: tuple[_Field, ...]


def _form_of(body: type[EventBody]) -> _Form:
    hints = get_type_hints(body, include_extras=True)
    rows: list[_Field] = []
    for spec in dataclasses.fields(body):
        default = spec.default if spec.default_factory is dataclasses.MISSING else spec.default_factory()
        hint = hints[spec.name]
        encoders = (_encoder_of(hint), _sealing_encoder_of(spec.name, hint))
        rows.append(_Field(f'"{spec.name}":', *encoders, default, hint in (Payload, Payload | None)))
    return _Form(_values_of([spec.name for spec in dataclasses.fields(body)]), tuple(rows))


def _values_of(names: Sequence[str]) -> Callable[[object], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    # Of one name `attrgetter` gives the bare value, and of none it is none.
    return lambda body: tuple(getattr(body, name) for name in names)


_FORMS: Mapping[type[EventBody], _Form] = {body: _form_of(body) for body in TYPES.values()}
_ADAPTERS: dict[str, tuple[TypeAdapter[EventBody], tuple[str, ...]]] = {}


def encode_body(body: EventBody, keep: Keep | None = None) -> str:
    """The JSON text of an event's body; fields that have their default are left out.

    Parameters:
      keep: takes large values, which then stand apart; by default they stay where they are.
    """
    is_on = is_sealing()
    parts: list[str] = []
    form = _FORMS[type(body)]
    for value, field in zip(form.values(body), form.fields, strict=True):
        prefix, encode, encode_sealed, default, is_payload = field
        if value == default:
            continue
        kept = set_apart(value, keep) if is_payload and keep is not None and value is not None else value
        parts.append(prefix + (encode_sealed(kept) if is_on else encode(kept)))
    return "{" + ",".join(parts) + "}"


def _adapter_of(name: str) -> tuple[TypeAdapter[EventBody], tuple[str, ...]]:
    known = _ADAPTERS.get(name)
    if known is None:
        body = TYPES[name]
        hints = get_type_hints(body, include_extras=True)
        payloads = tuple(field for field, hint in hints.items() if hint is Payload or Payload in get_args(hint))
        known = _ADAPTERS[name] = (TypeAdapter[EventBody](body), payloads)
    return known


def decode_body(name: str, text: str, values: Mapping[str, str] | None = None) -> EventBody:
    """The body of a stored event.

    Parameters:
      values: the large values of its run, by their hash.

    Raises:
      KeyError: no event has this name.
      ValueError: the text is not JSON, or does not fit the event's schema, or a large value is missing.
      CannotOpen: it is sealed, and the codec is not here.
    """
    adapter, payloads = _adapter_of(name)
    data: dict[str, Any] | object = from_json(text)
    if not isinstance(data, dict):
        raise ValueError(f"the data of a {name} event is {type(data).__name__}, not an object")
    fields = cast("dict[str, Any]", data)
    may_be_sealed = TAG_IN_TEXT in text
    for key, value in fields.items():
        if key in payloads:
            payload = unseal(_json(value)) if may_be_sealed else _json(value)
            fields[key] = payload if values is None else put_together(payload, values)
        elif may_be_sealed and isinstance(value, dict):
            fields[key] = _opened(cast("dict[str, Any]", value))
    return adapter.validate_python(fields)


def _opened(value: dict[str, Any]) -> Any:
    """A field without what is sealed; of an error its words."""
    opened = from_json(unseal(text_of(value)))
    if not isinstance(opened, dict):
        return opened
    fields = cast("dict[str, Any]", opened)
    return {key: from_json(unseal(text_of(each))) if isinstance(each, dict) else each for key, each in fields.items()}
