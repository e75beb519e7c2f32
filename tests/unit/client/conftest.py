from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from dramaturg import Client, Settings
from dramaturg.testing import WorkflowEnv


@pytest.fixture
def env() -> Generator[WorkflowEnv, None, None]:
    with WorkflowEnv() as made:
        yield made


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/dramaturg.db"


@pytest.fixture
def alone(url: str) -> Generator[Client, None, None]:
    """A client of a database that nobody coordinates."""
    with Client(Settings(database_url=url)) as made:
        yield made
