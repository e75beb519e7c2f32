"""What every test may ask for: the options of the command line, as fixtures.

Each option has an environment variable, so that a test which starts a process of its own passes it on.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest

from tests.registries import registry_of
from tests.services import BROKERS, DATABASES


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dramaturg")
    group.addoption(
        "--replay-every-turn",
        action="store_true",
        default=os.environ.get("DRAMATURG_TEST_REPLAY") == "1",
        help="rebuild every run from its history after every turn (DRAMATURG_TEST_REPLAY=1)",
    )
    group.addoption(
        "--encrypted",
        action="store_true",
        default=os.environ.get("DRAMATURG_TEST_ENCRYPTED") == "1",
        help="encrypt all values of the behaviour tests (DRAMATURG_TEST_ENCRYPTED=1)",
    )
    group.addoption(
        "--database",
        choices=DATABASES,
        default=os.environ.get("DRAMATURG_TEST_DATABASE", "sqlite"),
        help="what the behaviour tests store in (DRAMATURG_TEST_DATABASE)",
    )
    group.addoption(
        "--broker",
        choices=BROKERS,
        default=os.environ.get("DRAMATURG_TEST_BROKER", "memory"),
        help="what the behaviour tests send through (DRAMATURG_TEST_BROKER)",
    )


def pytest_configure(config: pytest.Config) -> None:
    # A shell has what it starts in the background ignore Ctrl-C, and so would the processes that tests interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["DRAMATURG_TEST_REPLAY"] = "1" if config.getoption("replay_every_turn") else "0"
    os.environ["DRAMATURG_TEST_ENCRYPTED"] = "1" if config.getoption("encrypted") else "0"
    os.environ["DRAMATURG_TEST_DATABASE"] = str(config.getoption("database"))
    os.environ["DRAMATURG_TEST_BROKER"] = str(config.getoption("broker"))


@pytest.fixture(autouse=True)
def _own_registry(request: pytest.FixtureRequest) -> Generator[None, None, None]:
    """What a test registers goes with the test, and names of other modules do not disturb it."""
    module = getattr(request, "module", None)
    with registry_of(str(getattr(module, "__name__", ""))):
        yield


@pytest.fixture(scope="session")
def replay_every_turn(pytestconfig: pytest.Config) -> bool:
    """Whether each run has to be rebuilt from its history after every turn."""
    return bool(pytestconfig.getoption("replay_every_turn"))


@pytest.fixture(scope="session")
def encrypted(pytestconfig: pytest.Config) -> bool:
    """Whether all values are encrypted."""
    return bool(pytestconfig.getoption("encrypted"))


@pytest.fixture(scope="session")
def database_kind(pytestconfig: pytest.Config) -> str:
    """One of ``DATABASES``: what the behaviour tests store in."""
    return str(pytestconfig.getoption("database"))


@pytest.fixture(scope="session")
def broker_kind(pytestconfig: pytest.Config) -> str:
    """One of ``BROKERS``: what the behaviour tests send through."""
    return str(pytestconfig.getoption("broker"))
