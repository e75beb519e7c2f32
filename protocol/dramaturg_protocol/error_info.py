"""An error, as the history keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from dramaturg_protocol.sealing import open_words, seal_words


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as people and `except` clauses need it.

    Attributes:
      type: qualified name of its type, without ``builtins.``.
      message: its text, bounded.
      traceback: its traceback as text, bounded; empty where there is none.
    """

    type: str
    message: str
    traceback: str = ""


def encode_error(error: ErrorInfo) -> str:
    """The JSON text of an error, for the row of its run; its words are sealed where there is a codec."""
    return to_json(ErrorInfo(error.type, seal_words(error.message), seal_words(error.traceback))).decode()


def decode_error(text: str) -> ErrorInfo:
    """Read it; words that cannot be opened here are a placeholder."""
    said: dict[str, Any] = from_json(text)
    return ErrorInfo(said["type"], open_words(said["message"]), open_words(said.get("traceback", "")))
