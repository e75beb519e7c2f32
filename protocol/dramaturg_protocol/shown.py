"""What people are shown of stored values: opened where the codec is there, and without secrets."""

from __future__ import annotations

from typing import Any, Final, cast

from pydantic_core import from_json

from dramaturg_protocol.sealing import ENCRYPTED, CannotOpen, unseal
from dramaturg_protocol.tags import TAG, TAG_IN_TEXT, text_of

MASK: Final = "**********"
_SECRETS: Final = ("secretstr", "secretbytes")


def shown(plain: Any) -> Any:
    """Parsed JSON for people: what is sealed is opened or a placeholder, and secrets are masked."""
    if isinstance(plain, str):
        return _shown_text(plain) if TAG_IN_TEXT in plain else plain
    if isinstance(plain, list):
        items: list[Any] = cast("Any", plain)
        return [shown(item) for item in items]
    if not isinstance(plain, dict):
        return plain
    fields: dict[str, Any] = cast("Any", plain)
    kind = fields.get(TAG)
    if kind == "sealed":
        try:
            return shown(from_json(unseal(text_of(fields))))
        except (CannotOpen, ValueError):
            return ENCRYPTED
    if kind in _SECRETS:
        return {**fields, "value": MASK}
    return {key: shown(value) for key, value in fields.items()}


def _shown_text(text: str) -> str:
    """A text that may be JSON of its own, such as a message that was put aside."""
    try:
        return text_of(shown(from_json(text)))
    except ValueError:
        return text


def shown_json(text: str) -> Any:
    """A JSON text for people, parsed.

    Raises:
      ValueError: it is not JSON.
    """
    plain = from_json(text)
    return shown(plain) if TAG_IN_TEXT in text else plain
