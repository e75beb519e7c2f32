from __future__ import annotations

import logging
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Generator

import pytest
from prometheus_client import CollectorRegistry, Counter

from dramaturg_protocol.checks import Checks
from dramaturg_protocol.config import load_settings
from dramaturg_protocol.errors import ConfigurationError
from dramaturg_protocol.health import LOOPBACK, HealthServer


def fail() -> str:
    raise ConnectionError("nobody\nanswers")


def server_of(health: Checks | None = None, readiness: Checks | None = None) -> HealthServer:
    registry = CollectorRegistry()
    Counter("dramaturg_example", "An example.", registry=registry).inc()
    return HealthServer(registry, health=health or Checks({}), readiness=readiness or Checks({}))


def get(server: HealthServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{server.port}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def a_default() -> int:
    """A port with some free ones behind it."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def taken() -> Generator[int, None, None]:
    with socket.create_server((LOOPBACK, 0)) as other:
        yield int(other.getsockname()[1])


def test_the_three_paths_answer() -> None:
    server = server_of(Checks({"thread": lambda: "alive"}), Checks({"database": lambda: ""}))
    server.start(None, default=a_default(), host=LOOPBACK)

    assert "dramaturg_example_total 1.0" in get(server, "/metrics")[1]
    assert get(server, "/healthz") == (200, "ok thread: alive\n")
    assert get(server, "/readyz") == (200, "ok database\n")
    assert get(server, "/nothing")[0] == 404
    server.stop()
    assert server.port is None


def test_what_fails_gives_503_with_a_line_each() -> None:
    server = server_of(readiness=Checks({"database": fail, "lease": lambda: "stands by"}))
    server.start(None, default=a_default(), host=LOOPBACK)

    assert get(server, "/readyz") == (503, "fail database: nobody answers\nok lease: stands by\n")
    assert get(server, "/healthz")[0] == 200
    server.stop()


def test_a_check_that_hangs_holds_up_nobody_and_is_asked_once() -> None:
    release, asked = threading.Event(), list[int]()

    def hang() -> str:
        asked.append(1)
        release.wait(10)
        return "back"

    checks = Checks({"broker": hang, "database": lambda: ""}, patience=0.05)
    assert [str(each) for each in checks()] == ["fail broker: no answer within 0.05 s", "ok database"]
    assert not checks()[0].is_well
    assert len(asked) == 1

    release.set()
    patient = Checks({"broker": hang})
    assert str(patient()[0]) == "ok broker: back"


def test_zero_is_no_server() -> None:
    server = server_of().start(0, default=a_default())

    assert server.port is None
    server.stop()


def test_a_default_that_is_taken_gives_way_to_the_next_free_port(taken: int, caplog: pytest.LogCaptureFixture) -> None:
    server = server_of().start(None, default=taken, host=LOOPBACK)

    assert server.port is not None
    assert server.port > taken
    assert f"port {taken} is taken" in caplog.text
    assert str(server.port) in caplog.text
    server.stop()


def test_a_port_that_was_set_and_is_taken_is_a_warning_and_nothing_else(
    taken: int, caplog: pytest.LogCaptureFixture
) -> None:
    server = server_of().start(taken, default=a_default(), host=LOOPBACK)

    assert server.port is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"port {taken}" in caplog.text
    server.stop()


@pytest.mark.parametrize("value", ["-1", "65536", "web"])
def test_a_port_that_cannot_be_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAMATURG_METRICS_PORT", value)

    with pytest.raises(ConfigurationError, match="DRAMATURG_METRICS_PORT"):
        load_settings()


def test_a_port_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAMATURG_METRICS_PORT", "0")

    assert load_settings().metrics_port == 0
