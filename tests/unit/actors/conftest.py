from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from dramatiq.broker import Broker

from tests.unit.actors.workshop import Workshop


@pytest.fixture
def workshops() -> Iterator[Callable[..., Workshop]]:
    made: list[Workshop] = []

    def make(broker: Broker | None = None) -> Workshop:
        made.append(Workshop(broker))
        return made[-1]

    yield make
    for workshop in made:
        workshop.stop(1.0)


@pytest.fixture
def workshop(workshops: Callable[..., Workshop]) -> Workshop:
    return workshops()
