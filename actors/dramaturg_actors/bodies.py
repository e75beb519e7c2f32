"""Bodies of messages, held to what Dramatiq's threads need: a message that they stumble over would end them."""

from __future__ import annotations

from typing import Any, Final

import dramatiq
from dramatiq.errors import DecodeError

from dramaturg_protocol.reading import MalformedMessage
from dramaturg_protocol.transport import message_in

_KINDS: Final = {"queue_name": str, "actor_name": str, "kwargs": dict, "options": dict, "message_id": str}


def read_message(body: bytes, queue_name: str) -> dramatiq.Message[Any]:
    """The message in a body that came from a queue.

    Raises:
      MalformedMessage: it is none, or not one of this queue.
    """
    try:
        message = message_in(body)
    except DecodeError as error:
        raise MalformedMessage(f"not a Dramatiq message: {_cause(error)}") from error
    wrong = [name for name, kind in _KINDS.items() if not isinstance(getattr(message, name), kind)]
    if wrong:
        raise MalformedMessage(f"a Dramatiq message with a malformed {' and '.join(wrong)}")
    if message.queue_name != queue_name:
        raise MalformedMessage(f"a message of queue {message.queue_name!r}")
    return message


def _cause(error: Any) -> str:
    while isinstance(error, DecodeError):
        error = error.error  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return f"{type(error).__name__}: {error}"  # pyright: ignore[reportUnknownArgumentType]
