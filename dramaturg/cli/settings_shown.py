"""Settings as people are shown them: with their sources, without passwords."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dramaturg_protocol.config import Settings

_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^/\s]*(@)")


def without_password(url: str) -> str:
    """A URL for people."""
    return _PASSWORD.sub(r"\1***\2", url)


def settings_with_sources(settings: Settings) -> list[tuple[str, str, str]]:
    """Name, value and source of each setting."""
    return [
        (name, without_password(str(getattr(settings, name))), _source(name)) for name in type(settings).model_fields
    ]


def _source(name: str) -> str:
    variable = f"DRAMATURG_{name.upper()}"
    if variable in {key.upper() for key in os.environ}:
        return variable
    if name in _table("dramaturg.toml"):
        return "dramaturg.toml"
    if name in _table("pyproject.toml").get("tool", {}).get("dramaturg", {}):
        return "pyproject.toml"
    return "default"


def _table(file: str) -> dict[str, Any]:
    path = Path(file)
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
