"""Pooled connections that a server ended are not given to anybody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from dramaturg_store.engines import make_engine
from dramaturg_store.liveness import has_ended

pytestmark = pytest.mark.conformance

_PID = text("SELECT pg_backend_pid()")
_END = text("SELECT pg_terminate_backend(:pid, 5000)")


@pytest.fixture
def engine(postgresql_url: str) -> Iterator[Engine]:
    made = make_engine(postgresql_url)
    yield made
    made.dispose()


def _never(_raw: object) -> bool:
    return False


def pid_of(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(_PID).scalar_one())


def end(postgresql_url: str, pid: int) -> None:
    other = make_engine(postgresql_url)
    with other.connect() as connection:
        assert connection.execute(_END, {"pid": pid}).scalar_one()
    other.dispose()


def test_a_connection_that_the_server_ended_is_replaced(engine: Engine, postgresql_url: str) -> None:
    ended = pid_of(engine)
    end(postgresql_url, ended)

    assert pid_of(engine) != ended


def test_a_connection_that_is_fine_is_used_again(engine: Engine) -> None:
    assert pid_of(engine) == pid_of(engine)


def test_one_that_lay_idle_for_long_is_asked_and_used_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dramaturg_store.liveness.IDLE", -1.0)

    assert pid_of(engine) == pid_of(engine)


def test_one_that_lay_idle_and_does_not_answer_is_replaced(
    engine: Engine, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dramaturg_store.liveness.IDLE", -1.0)
    monkeypatch.setattr("dramaturg_store.liveness.has_ended", _never)
    ended = pid_of(engine)
    end(postgresql_url, ended)

    assert pid_of(engine) != ended


def test_a_closed_connection_has_ended(engine: Engine) -> None:
    raw = engine.raw_connection()
    assert raw.driver_connection is not None
    driver = raw.driver_connection
    assert not has_ended(driver)

    raw.close()
    engine.dispose()

    assert has_ended(driver)
