"""Reading what rooms send each other: JSON text that is what it should be, or one error."""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from dramaturg_protocol.errors import DramaturgError
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.sealed_fields import opened_fields
from dramaturg_protocol.sealing import CannotOpen

Message = TypeVar("Message")


class MalformedMessage(DramaturgError):
    """A message that is truncated, foreign or not JSON; it is put aside, alone."""


def check_payload(payload: Payload | None, what: str) -> None:
    """Refuse a payload that is no JSON.

    Raises:
      MalformedMessage: it is none.
    """
    # It becomes a part of the JSON of an event, and would make it unreadable.
    try:
        if payload is not None:
            from_json(payload)
    except ValueError as error:
        raise MalformedMessage(f"not {what}: {error}") from error


def validated(adapter: TypeAdapter[Message], text: str | bytes, what: str, *, is_lenient: bool = False) -> Message:
    """What a text says, its values opened.

    Parameters:
      what: it should be, for the error.
      is_lenient: leave sealed what cannot be opened here.

    Raises:
      MalformedMessage: it does not fit, or cannot be opened.
    """
    try:
        return opened_fields(adapter.validate_json(text), is_lenient=is_lenient)
    except CannotOpen as error:
        raise MalformedMessage(f"{what} cannot be opened: {error}") from error
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in detail["loc"])
        raise MalformedMessage(f"not {what}: {where + ': ' if where else ''}{detail['msg']}") from error
