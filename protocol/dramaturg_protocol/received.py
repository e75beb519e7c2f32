"""What arrives from outside, read as the type that the code waits for."""

from __future__ import annotations

from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from dramaturg_protocol.codecs import explained, unusable
from dramaturg_protocol.errors import PayloadError
from dramaturg_protocol.payloads import Payload, decode_value


def decode_received(payload: Payload, expected: Any, *, where: str) -> Any:
    """Read a payload.

    Parameters:
      expected: a class, an alias like ``list[int]``, a `pydantic.TypeAdapter`, or ``None`` for whatever comes.
      where: what it is, for the error's message.

    Raises:
      PayloadError: it does not fit; the message says where, and what came instead.
    """
    if not isinstance(expected, TypeAdapter):
        return decode_value(payload, Any if expected is None else expected, where=where)
    value = decode_value(payload, Any, where=where)
    try:
        return _validated(cast("Any", expected), value)
    except ValidationError as error:
        raise PayloadError(f"{where}: {explained(error)}") from None
    except Exception as error:  # noqa: BLE001 - validators are the user's own
        raise PayloadError(unusable(where, error)) from None


def _validated(adapter: TypeAdapter[Any], value: Any) -> Any:
    return adapter.validate_python(value)
