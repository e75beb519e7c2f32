"""What people type after the command's name, read into values."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeAlias, cast

import typer

from dramaturg.cli.exits import UsageError
from dramaturg_protocol.durations import parse_duration

Input: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--input",
        "-i",
        metavar="JSON",
        help="The workflow's arguments: a JSON object gives keywords, an array positions. "
        "@FILE reads a file, - reads stdin.",
    ),
]
Arg: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--arg",
        "-a",
        metavar="NAME=VALUE",
        help="One keyword argument; its value is JSON if it parses as JSON, else text. "
        """A text that looks like a number is quoted: --arg 'code="007"'. Repeatable.""",
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")]
RunOrWorkflowId: TypeAlias = Annotated[
    str, typer.Argument(metavar="ID", help="A run id, or a workflow id: then its newest run is meant.")
]
By: TypeAlias = Annotated[str | None, typer.Option("--by", metavar="WHO", help="Who asks; kept in the history.")]
Reason: TypeAlias = Annotated[str | None, typer.Option("--reason", metavar="WHY", help="Why; kept in the history.")]


def call_of(given: str | None, pairs: Sequence[str] | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments from ``--input`` and ``--arg``.

    Raises:
      UsageError: it is not JSON, or neither an object nor an array.
    """
    value: Any = {} if given is None else _json("--input", _text(given))
    named = {name: json_or_text(text) for name, text in (_pair("--arg", each) for each in pairs or ())}
    if isinstance(value, dict):
        return (), {**cast("dict[str, Any]", value), **named}
    if isinstance(value, list):
        return tuple(value), named  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    raise UsageError(f"--input must be a JSON object (keywords) or array (positions), not {json.dumps(value)}")


def tags_of(pairs: Sequence[str] | None) -> dict[str, str | int | bool]:
    """Tags from ``--tag``: whole numbers and true or false as such, everything else as text."""
    tags: dict[str, str | int | bool] = {}
    for name, text in (_pair("--tag", each) for each in pairs or ()):
        value = json_or_text(text)
        tags[name] = value if isinstance(value, (str, int)) and not text.startswith('"') else text
    return tags


def json_given(option: str, given: str | None) -> Any:
    """A value of any kind, from JSON, ``@FILE`` or ``-``; ``None`` where nothing was typed.

    Raises:
      UsageError: it is not JSON.
    """
    return None if given is None else _json(option, _text(given))


def json_or_text(text: str) -> Any:
    """A value that was typed without quotes: JSON if it parses, else the text itself."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return text


def since_of(text: str | None) -> datetime | timedelta | None:
    """``--since``, as `moment_of`."""
    return moment_of("--since", text)


def moment_of(option: str, text: str | None) -> datetime | timedelta | None:
    """A duration, or a date and time, which are local where they name no zone.

    Raises:
      UsageError: it is neither.
    """
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        return duration_of(option, text)


def duration_of(option: str, text: str) -> timedelta:
    """A duration like ``30s``, ``1h30m``, or a number of seconds.

    Raises:
      UsageError: it cannot be read.
    """
    try:
        return parse_duration(text if not _is_number(text) else float(text))
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _text(given: str) -> str:
    if given == "-":
        return sys.stdin.read()
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--input {given}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--input {given}: the file is not UTF-8 text") from None


def _json(option: str, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{option} is not JSON at line {error.lineno}, column {error.colno}: {error.msg}{_near(text, error.pos)}"
        ) from None
    except ValueError as error:
        raise UsageError(f"{option} is not JSON: {error}") from None
    except RecursionError:
        raise UsageError(f"{option} is nested too deeply") from None


def _near(text: str, position: int) -> str:
    return f", near {text[position : position + 20]!r}" if text[position:].strip() else ", at its end"


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _pair(option: str, text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise UsageError(f"{option} takes NAME=VALUE, not {text!r}")
    return name, value
