"""Write the reference tables of events, errors and settings from the code: `python docs/make_tables.py`."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final, get_type_hints

import regions

import dramaturg
from dramaturg_protocol import config, errors, events
from dramaturg_protocol.config import Settings
from dramaturg_protocol.graph_form import json_schema

SCRIPT: Final = "make_tables.py"

_TYPES: Final = {
    "Payload": "JSON",
    "datetime": "time",
    "ErrorInfo": "error",
    "tuple[str, ...]": "list of str",
    "ParentLink": "object",
    "tuple[int, ...]": "list of int",
    "dict[str, str | int | bool]": "object",
    "dict[str, Any]": "object",
}


def event_reference() -> str:
    """Every event: what it says, and its fields."""
    lines: list[str] = []
    for name, body in events.TYPES.items():
        kind = "wakes the code" if body in events.WAKES else "asked for by the code" if body in events.COMMANDS else ""
        summary, meanings = read_docstring(body)
        lines += [f"### `{name}`", "", summary + (f" *({kind})*" if kind else ""), ""]
        lines += _fields_of(body, meanings)
    lines += ["### error", "", read_docstring(events.ErrorInfo)[0], ""]
    lines += _fields_of(events.ErrorInfo, read_docstring(events.ErrorInfo)[1])
    return "\n".join(lines)


def error_tree() -> str:
    """The tree at the head of the module that defines the errors."""
    tree = inspect.cleandoc(errors.__doc__ or "").partition("\n\n")[2]
    return f"```text\n{tree}\n```"


def error_reference() -> str:
    """Every public error with its sentence."""
    lines = ["| error | means |", "| --- | --- |"]
    for name in sorted(dramaturg.__all__):
        error = getattr(dramaturg, name)
        if inspect.isclass(error) and issubclass(error, BaseException):
            lines.append(f"| `{name}` | {_cell(read_docstring(error)[0])} |")
    return "\n".join(lines)


def settings_reference() -> str:
    """Every setting with its default."""
    _, meanings = read_docstring(Settings)
    lines = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for name, spec in Settings.model_fields.items():
        default: Any = spec.get_default(call_default_factory=True)
        if isinstance(default, timedelta):
            default = f"{default.total_seconds():g}s"
        shown = "none" if default in (None, [], {}) else f"`{default}`"
        label = f"`DRAMATURG_{name.upper()}`" if name not in ("step", "queue") else f"`[tool.dramaturg.{name}]`"
        lines.append(f"| {label} | {shown} | {_cell(meanings[name])} |")
    return "\n".join(lines)


def settings_to_come() -> str:
    """Settings that are refused so far."""
    return f"Coming, and refused until then: {', '.join(f'`DRAMATURG_{name}`' for name in config.TO_COME)}."


def read_docstring(cls: type) -> tuple[str, dict[str, str]]:
    """The first paragraph of a class's docstring, and what it says of each attribute or parameter."""
    text = inspect.cleandoc(cls.__doc__ or "")
    summary = " ".join(text.partition("\n\n")[0].split()).replace("``", "`")
    listed = re.search(r"^(?:Attributes|Parameters):\n((?:[ ]{2,}.*\n?|\n)+)", text, re.MULTILINE)
    meanings: dict[str, str] = {}
    for entry in re.split(r"^[ ]{2}(?=\S)", listed[1] if listed else "", flags=re.MULTILINE):
        names, _, meaning = entry.partition(":")
        for name in names.split(","):
            meanings[name.strip()] = " ".join(meaning.split()).replace("``", "`")
    return summary, meanings


def _fields_of(body: type[Any], meanings: Mapping[str, str]) -> list[str]:
    hints = get_type_hints(body, include_extras=True)
    specs = dataclasses.fields(body)
    if not specs:
        return []
    lines = ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
    lines.extend(
        f"| `{spec.name}` | {_type_text(hints[spec.name])} | {_default_of(spec)} | {_cell(meanings.get(spec.name, ''))} |"
        for spec in specs
    )
    return [*lines, ""]


def _type_text(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint)
    text = re.sub(r"\b(?:typing|datetime|dramaturg_protocol\.\w+)\.", "", text).replace("NewType ", "")
    parts = [_TYPES.get(text, text)] if text in _TYPES else [_TYPES.get(part, part) for part in text.split(" | ")]
    return " or ".join("null" if part == "None" else part for part in parts)


def _default_of(spec: dataclasses.Field[Any]) -> str:
    if spec.default is not dataclasses.MISSING:
        return f"`{spec.default!r}`" if spec.default is not None else "null"
    return "" if spec.default_factory is dataclasses.MISSING else f"`{spec.default_factory()!r}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def graph_schema() -> str:
    """The JSON Schema of graphs."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


PAGES: Final[Mapping[str, regions.Parts]] = {
    "events.md": {"events": event_reference},
    "errors.md": {"error-tree": error_tree, "errors": error_reference},
    "guide/operations.md": {"settings": settings_reference, "settings-to-come": settings_to_come},
}

FILES: Final[Mapping[str, Callable[[], str]]] = {"graph.schema.json": graph_schema}

if __name__ == "__main__":
    for name, make in FILES.items():
        (regions.HERE / name).write_text(make(), encoding="utf-8")
    regions.write(SCRIPT, PAGES)
