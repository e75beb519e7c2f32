"""Large values apart from the events that hold them: once for all events that have the same one.

In place of a large argument, or of a payload that is large in all, stands ``{"$type": "large", "hash": "..."}``. It is only
so where events are stored: in memory a payload is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from pydantic_core import from_json

from dramaturg_protocol.tags import TAG, text_of

#: Characters of JSON from which on a value is kept apart.
LARGE: Final = 64 * 1024
_MARK: Final = '{"$type":"large","hash":"'

#: Takes the JSON text of a value and gives its hash.
Keep = Callable[[str], str]


def set_apart(payload: str, keep: Keep) -> str:
    """A payload without its large values; of a call each argument is one.

    Parameters:
      keep: is told of each of them.
    """
    if len(payload) <= LARGE:
        return payload
    plain: Any = from_json(payload)
    if isinstance(plain, dict) and isinstance(plain.get("args"), list):  # pyright: ignore[reportUnknownMemberType]
        call = cast("dict[str, Any]", plain)
        rest = call | {"args": [_reference(value, keep) for value in call["args"]]}
        if isinstance(call.get("kwargs"), dict):
            rest["kwargs"] = {name: _reference(value, keep) for name, value in call["kwargs"].items()}
        text = text_of(rest)
        if len(text) <= LARGE:
            return text
    return text_of({TAG: "large", "hash": keep(payload)})


def put_together(payload: str, values: Mapping[str, str]) -> str:
    """A payload as it was before `set_apart`.

    Raises:
      ValueError: a value is not there.
    """
    if _MARK not in payload:
        return payload
    plain: Any = from_json(payload)
    if not isinstance(plain, dict):
        return payload
    fields = cast("dict[str, Any]", plain)
    if _hash_in(fields):
        return _value_of(fields, values)
    if isinstance(fields.get("args"), list):
        fields["args"] = [_whole(value, values) for value in fields["args"]]
    if isinstance(fields.get("kwargs"), dict):
        fields["kwargs"] = {name: _whole(value, values) for name, value in fields["kwargs"].items()}
    return text_of(fields)


def _reference(value: Any, keep: Keep) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = text_of(value)
    if len(text) <= LARGE:
        return value
    return {TAG: "large", "hash": keep(text)}


def _whole(value: Any, values: Mapping[str, str]) -> Any:
    return from_json(_value_of(value, values)) if _hash_in(value) else value


def _hash_in(value: Any) -> str:
    """The hash of a reference; empty for any other value."""
    if not isinstance(value, dict):
        return ""
    fields = cast("dict[str, Any]", value)
    return str(fields.get("hash", "")) if fields.get(TAG) == "large" else ""


def _value_of(reference: Any, values: Mapping[str, str]) -> str:
    found = values.get(_hash_in(reference))
    if found is None:
        raise ValueError(f"its large value {_hash_in(reference)} is not there")
    return found
