"""What is said to the code of a run, on its way to the run's inbox."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter

from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.reading import check_payload, validated


@dataclass(frozen=True, slots=True)
class SignalBody:
    """Something for the code of a run to take when it wants to.

    Attributes:
      sender: id of the run that sends it; empty where a client does.
    """

    name: str
    payload: Payload
    by: str | None = None
    reason: str | None = None
    sender: str = ""


@dataclass(frozen=True, slots=True)
class QuestionBody:
    """Something for a function that the code has bound: a query or an update.

    Attributes:
      input: its arguments.
    """

    name: str
    input: Payload


_SIGNAL: TypeAdapter[SignalBody] = TypeAdapter(SignalBody)
_QUESTION: TypeAdapter[QuestionBody] = TypeAdapter(QuestionBody)


def decode_signal(text: str | bytes) -> SignalBody:
    """Read a signal; `MalformedMessage` when it is none."""
    body = validated(_SIGNAL, text, "a signal")
    check_payload(body.payload, "a signal: payload")
    return body


def decode_question(text: str | bytes) -> QuestionBody:
    """Read a query or an update; `MalformedMessage` when it is neither."""
    body = validated(_QUESTION, text, "a query or an update")
    check_payload(body.input, "a query or an update: input")
    return body
