from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.fleet.fleets import Fleet
from tests.services import a_database, a_namespace, delete_keys, needs


@pytest.fixture(scope="session")
def database_url() -> Generator[str, None, None]:
    """A database on the shared server; each test has a namespace in it."""
    with a_database("postgresql") as url:
        yield url


@pytest.fixture
def make_fleet(request: pytest.FixtureRequest) -> Generator[Callable[..., Fleet], None, None]:
    """Makes fleets: over the services that all tests share, unless it is told others."""
    with ExitStack() as stack:

        def make(**options: Any) -> Fleet:
            # Not pytest's folder: the path of a socket is at most 108 bytes long.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dramaturg-fleet-")))
            options.setdefault("broker_url", None)
            if options.get("database_url") is None:
                options["database_url"] = request.getfixturevalue("database_url")
            is_shared = options["broker_url"] is None
            if is_shared:
                options["broker_url"] = needs("redis")
            fleet = Fleet(folder, namespace=a_namespace(), **options)
            if is_shared:
                stack.callback(delete_keys, fleet.redis, fleet.namespace)
            stack.callback(fleet.close)
            return fleet

        yield make


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    """A fleet over the shared services."""
    return make_fleet()
