"""What is printed: JSON documents, aligned columns, moments in the reader's own time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import typer

from dramaturg_protocol.durations import format_duration

_COLOURS = {
    "COMPLETED": "green",
    "FAILED": "red",
    "TIMED_OUT": "red",
    "BLOCKED": "red",
    "CANCELLED": "yellow",
    "TERMINATED": "yellow",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
}


def say(text: str = "") -> None:
    """Print a line on stdout, at once."""
    typer.echo(text)


def hint(text: str) -> None:
    """Print a line for people on stderr, where it is in no pipe's way."""
    typer.echo(text, err=True)


def print_document(value: object) -> None:
    """Print a value as one JSON document."""
    typer.echo(json.dumps(plain(value), indent=2))


def print_json_line(value: object) -> None:
    """Print a value as one line of JSON."""
    typer.echo(json.dumps(plain(value)))


def as_json(value: object, indent: int | None = None) -> str:
    """A value as JSON for people: letters of all alphabets stand as they are."""
    return json.dumps(plain(value), indent=indent, ensure_ascii=False)


def plain(value: object) -> Any:
    """A value as JSON can hold it: moments in ISO 8601 and UTC, whatever is unknown as text."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, fallback=str, serialize_unknown=True)


def untagged(stored: object) -> Any:
    """A stored value as people wrote it: a set is a list, a Decimal its digits, instead of JSON with type tags."""
    from dramaturg_protocol.errors import PayloadError
    from dramaturg_protocol.signatures import CallSchema

    try:
        return CallSchema.open("the result").decode_result(as_json(stored))
    except PayloadError:  # a class that this process cannot import
        return stored


def coloured(status: str) -> str:
    """A status in its colour, where stdout is a terminal."""
    return typer.style(status, fg=_COLOURS.get(status))


def local_time(moment: datetime | None) -> str:
    """Date and time of the reader's zone, which it names; ``-`` for none."""
    return "-" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def local_clock(moment: datetime) -> str:
    """Time of day of the reader's zone, which it names."""
    return moment.astimezone().strftime("%H:%M:%S %Z")


def rough(duration: timedelta) -> str:
    """A duration for people: as exact as they can read while it runs."""
    seconds = max(duration.total_seconds(), 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    return format_duration(timedelta(seconds=int(seconds)))


def print_columns(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their heads. Nothing is cut or wrapped: ids stay whole and lines stay lines."""
    widths = [max(len(row[index]) for row in (heads, *rows)) for index in range(len(heads))]
    typer.echo(typer.style(_line(heads, widths), bold=True))
    for row in rows:
        line = _line(row, widths)
        status = next((cell for cell in row if cell in _COLOURS), None)
        typer.echo(line if status is None else line.replace(status, coloured(status), 1))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
