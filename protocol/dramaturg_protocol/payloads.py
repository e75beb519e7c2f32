"""The payload codec: the values of steps and workflows as JSON text, by their annotations.

A payload is JSON text that a parser and a writer give back unchanged, so that it may be kept inside other JSON.
Values under a plain annotation are plain JSON; where the annotation leaves the type open, what JSON has no word for
is tagged (see ``tags``).
"""

from __future__ import annotations

from typing import Any, NewType

from dramaturg_protocol.codecs import ValueCodec, codec_of
from dramaturg_protocol.errors import PayloadError
from dramaturg_protocol.sealing import CannotOpen, may_hold_secrets, unseal

__all__ = ["Payload", "ValueCodec", "check_size", "codec_of", "decode_value", "encode_value", "opened"]

Payload = NewType("Payload", str)


def encode_value(value: Any, annotation: Any, *, where: str, limit: int | None, secrets: bool | None = None) -> Payload:
    """Encode a value by an annotation.

    Parameters:
      annotation: a type, or ``inspect.Parameter.empty`` where there is none; the value is converted to it.
      where: what the value is, for the error's message, such as ``"argument 'cents' of step 'charge'"``.
      limit: the most bytes that the encoded text may have; ``None`` for no limit.
      secrets: write ``SecretStr`` and ``SecretBytes`` in clear, for a store that encrypts; else they are refused. By
        default where the codec of this process encrypts.

    Raises:
      PayloadError: the value does not fit the annotation, cannot be encoded, or is too large.
    """
    is_safe = may_hold_secrets() if secrets is None else secrets
    text = codec_of(annotation).encode(value, where, secrets=is_safe)
    check_size(text, where, limit)
    return Payload(text)


def decode_value(payload: str, annotation: Any, *, where: str) -> Any:
    """Decode a payload, or any plain JSON text, and convert it by an annotation.

    Parameters:
      annotation: a type, or ``inspect.Parameter.empty`` where there is none.
      where: what the value is, for the error's message.

    Raises:
      PayloadError: it does not fit the annotation, or is malformed.
    """
    return codec_of(annotation).decode(opened(payload, where), where)


def opened(payload: str, where: str) -> str:
    """A payload as its code gave it, also where it is still sealed.

    Raises:
      CannotOpen: it is sealed, and the codec is not here.
    """
    try:
        return unseal(payload)
    except CannotOpen as error:
        raise CannotOpen(f"{where}: {error}") from error.__cause__


def check_size(text: str, where: str, limit: int | None) -> None:
    """Refuse a text of too many bytes.

    Parameters:
      limit: the most bytes; ``None`` for no limit.

    Raises:
      PayloadError: it has more.
    """
    if limit is None or len(text) * 4 <= limit:  # a character has four bytes at most
        return
    size = len(text.encode())
    if size > limit:
        raise PayloadError(
            f"{where}: {size:,} bytes encoded, more than the limit of {limit:,}: pass a reference to the data "
            f"instead (a path, a key), or raise DRAMATURG_MAX_PAYLOAD"
        )
