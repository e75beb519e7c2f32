from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.worlds import HandClock, MemoryWorld, OpenDatabase, SqlWorld, World, a_server_world
from tests.services import a_database


@pytest.fixture(params=["memory", "sqlite", "postgresql", "mariadb"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = a_world(request, tmp_path)
    yield made
    made.close()


def a_world(request: pytest.FixtureRequest, folder: Path) -> World:
    if request.param == "memory":
        return MemoryWorld()
    if request.param == "sqlite":
        return SqlWorld(f"sqlite:///{folder}/dramaturg.db")
    return a_server_world(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    with a_database("postgresql") as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[str]:
    with a_database("mariadb") as url:
        yield url


@pytest.fixture
def database(world: World) -> OpenDatabase:
    return world.open()


@pytest.fixture
def clock(world: World) -> HandClock:
    if not world.has_hand_clock:
        pytest.skip("the clock of a server cannot be set by hand")
    return world.clock
