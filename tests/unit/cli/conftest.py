"""A folder, a database and loggers of its own for each test."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the command is typed; loggers are as before at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRAMATURG_DATABASE_URL", f"sqlite:///{tmp_path}/dramaturg.db")
    monkeypatch.setenv("TZ", "UTC")
    names = ("alembic", "apscheduler", "dramatiq", "pika", "dramaturg.actors")
    levels = {name: logging.getLogger(name).level for name in names}
    yield tmp_path
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
