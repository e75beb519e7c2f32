from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.unit.coordinator.bench import Bench


@pytest.fixture
def bench() -> Generator[Bench, None, None]:
    made = Bench()
    yield made
    made.coordinator.stop()
