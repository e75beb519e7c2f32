"""Duties share one pause while a server is away."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dramaturg_coordinator.duties import Duties
from dramaturg_protocol.faults import Unreachable


class Server:
    """A server, and a clock beside it."""

    def __init__(self, kind: type[Exception] = OSError) -> None:
        self.is_away = False
        self.asked: list[str] = []
        self._kind = kind

    def duty(self, name: str) -> Callable[[], None]:
        def run() -> None:
            self.asked.append(name)
            if self.is_away:
                raise Unreachable(f"the database does not answer: {name}") from self._kind()

        return run


def test_while_a_server_is_away_few_lines_say_so(caplog: pytest.LogCaptureFixture) -> None:
    now, server = 0.0, Server()
    duties = Duties(lambda: now)
    jobs = [duties.patient(server.duty(name)) for name in "abcde"]
    server.is_away = True

    while now < 300:
        for job in jobs:
            job()
        now += 0.5

    assert len(caplog.records) <= 15
    assert "the database does not answer: a; the duties that need it try again in 1 s" in caplog.text
    assert "try again in 30 s" in caplog.text


def test_all_go_on_once_one_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    now, server = 0.0, Server()
    duties = Duties(lambda: now)
    first, second = (duties.patient(server.duty(name)) for name in "ab")
    server.is_away = True
    first()
    second()
    server.is_away = False
    server.asked.clear()

    first()
    assert server.asked == []
    now = 2.0
    first()
    second()

    assert server.asked == ["a", "b"]
    assert caplog.text.count("the coordinator's duties go on") == 1
    assert caplog.text.count("WARNING") == 1


def test_another_servers_duties_and_the_lease_do_not_wait() -> None:
    now, database, redis = 0.0, Server(OSError), Server(pytest.UsageError)
    duties = Duties(lambda: now)
    of_database = duties.patient(database.duty("a"))
    of_redis = duties.patient(redis.duty("b"))
    lease = duties.patient(database.duty("lease"), always=True)
    database.is_away = True
    of_database()
    of_database()
    lease()
    lease()
    of_redis()

    assert database.asked == ["a", "lease", "lease"]
    assert redis.asked == ["b"]


def test_what_is_no_outage_is_raised() -> None:
    def broken() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        Duties().patient(broken)()
