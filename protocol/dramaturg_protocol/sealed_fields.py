"""Messages with their values sealed: what of a message is a value, told from its annotations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast, get_args, get_type_hints

from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.sealing import CannotOpen, is_sealing, open_words, seal, seal_words, unseal

Fields = TypeVar("Fields")
_Change = Callable[[Any], Any]

#: Text fields that may quote values, in whatever message they are.
QUOTING: Final = frozenset({"message", "traceback", "note", "comment"})


def sealed_fields(message: Fields) -> Fields:
    """A message whose payloads, and words that may quote them, are sealed; the same one where there is no codec."""
    return _changed(message, seal, seal_words) if is_sealing() else message


def opened_fields(message: Fields, *, is_lenient: bool = False) -> Fields:
    """A message as it was before `sealed_fields`.

    Parameters:
      is_lenient: leave what cannot be opened here as it is: whoever needs the value says what is wrong.

    Raises:
      CannotOpen: it cannot be opened here.
    """
    return _changed(message, _open_if_possible if is_lenient else unseal, open_words)


def _open_if_possible(text: str) -> str:
    try:
        return unseal(text)
    except CannotOpen:
        return text


def _changed(message: Fields, payload: _Change, words: _Change) -> Fields:
    changes: dict[str, Any] = {}
    for name, is_payload in _places(type(message)).items():
        value = getattr(message, name)
        new = _change(value, payload if is_payload else words, payload, words)
        if new is not value:
            changes[name] = new
    return cast("Fields", dataclasses.replace(cast("Any", message), **changes)) if changes else message


def _change(value: Any, change: _Change, payload: _Change, words: _Change) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, (list, tuple)):
        items = cast("Any", value)
        return type(items)([_change(item, change, payload, words) for item in items])
    if isinstance(value, dict):
        pairs = cast("Any", value)
        return {key: _change(item, change, payload, words) for key, item in pairs.items()}
    if dataclasses.is_dataclass(value):
        return _changed(value, payload, words)
    return value


_PLACES: Final[dict[type[Any], Mapping[str, bool]]] = {}


def _places(kind: type[Any]) -> Mapping[str, bool]:
    """The fields that hold values or words about them, and whether they hold payloads."""
    known = _PLACES.get(kind)
    if known is not None:
        return known
    found: dict[str, bool] = {}
    for name, hint in get_type_hints(kind).items():
        if mentions_payload(hint):
            found[name] = True
        elif name in QUOTING or _has_words(hint):
            found[name] = False
    _PLACES[kind] = found
    return found


def _has_words(hint: Any) -> bool:
    kinds = [hint, *get_args(hint)]
    return any(isinstance(kind, type) and dataclasses.is_dataclass(kind) and bool(_places(kind)) for kind in kinds)


def mentions_payload(hint: Any) -> bool:
    """Whether this annotation says `Payload`, alone or as a part."""
    return hint is Payload or any(mentions_payload(part) for part in get_args(hint))
