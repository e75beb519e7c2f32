"""A schedule is due every second while the coordinator that fires it is killed, or freezes, in the middle of a firing."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from dramaturg_store.engines import make_engine
from tests.integration.fleet.fleets import Fleet, wait_until
from tests.integration.fleet.test_frozen import id_owned_by, owners_of
from tests.integration.fleet.test_sharing import shares

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

A_SECOND = timedelta(seconds=1)
MODULE = """
from dramaturg import workflow

@workflow
async def tick() -> None: ...
"""
#: Where whoever fires is held: a lock of ours, and the statement that waits for it.
PLACES = {
    "before it decides": (
        "SELECT id FROM dramaturg_schedules WHERE id = :id FOR UPDATE",
        "%FROM dramaturg_schedules%FOR UPDATE%",
    ),
    "before it commits": ("LOCK TABLE dramaturg_firings IN SHARE MODE", "INSERT INTO dramaturg_firings%"),
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    """Where in its transaction whoever fires is."""
    return str(request.param)


class Ticking:
    """A schedule of a second, two coordinators that share the partitions, and the one of them that fires it."""

    def __init__(self, fleet: Fleet, engine: Engine) -> None:
        self._fleet = fleet
        self._engine = engine
        fleet.write("ticking", MODULE)
        self.owner = fleet.coordinator("ticking")
        wait_until(lambda: shares(engine, fleet) == [4])
        owner_id = owners_of(engine, fleet)[0]
        self.other = fleet.coordinator("ticking")
        wait_until(lambda: shares(engine, fleet) == [2, 2])
        self.id = id_owned_by(engine, fleet, owner_id)
        # The database has the same clock, on one machine.
        self.first = datetime.now(UTC).replace(microsecond=0) + 2 * A_SECOND  # noqa: TID251
        self._schedules = fleet.client.schedules
        self._schedules.create(self.id, "tick", every="1s", start_at=self.first, overlap="allow_all", catchup="1h")

    @contextmanager
    def held(self, place: str) -> Iterator[None]:
        """Its owner fires, and waits at that place until this is left."""
        lock, waiting = PLACES[place]
        with self._engine.begin() as ours:
            ours.execute(text(lock), {"id": self.id} if ":id" in lock else {})
            wait_until(lambda: self._is_waited_with(waiting))
            yield

    def wait_for_more(self, times: int) -> None:
        """Wait until it has fired so many times more."""
        fired = self._schedules.get(self.id).fired
        wait_until(lambda: self._schedules.get(self.id).fired >= fired + times)

    def times(self) -> list[datetime]:
        """Have it fire no more: the times of all of its runs, in order, once these are closed."""
        self._schedules.pause(self.id)
        client = self._fleet.client
        wait_until(lambda: client.count() == client.count(status="COMPLETED") == self._schedules.get(self.id).fired)
        runs = client.runs(limit=1000)
        assert {run.tags["dramaturg.schedule"] for run in runs} == {self.id}
        return sorted(datetime.fromisoformat(str(run.tags["dramaturg.scheduled_for"])) for run in runs)

    def missed(self) -> int:
        """How many times it says that it missed."""
        return self._schedules.get(self.id).missed

    def _is_waited_with(self, statement: str) -> bool:
        query = text(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE :statement"
        )
        with self._engine.connect() as connection:
            return bool(connection.execute(query, {"statement": statement}).scalar_one())


@pytest.fixture
def ticking(make_fleet: Callable[..., Fleet]) -> Iterator[Ticking]:
    """A schedule that ticks."""
    fleet = make_fleet(DRAMATURG_LEASE_TIME="3s")
    engine = make_engine(fleet.database_url)
    yield Ticking(fleet, engine)
    engine.dispose()


def each_second_from(first: datetime, times: list[Any]) -> list[datetime]:
    """As many moments, a second apart."""
    return [first + number * A_SECOND for number in range(len(times))]


def test_its_owner_is_killed_in_the_middle_of_a_firing(ticking: Ticking, place: str) -> None:
    ticking.wait_for_more(1)
    with ticking.held(place):
        ticking.owner.kill()
    ticking.other.wait_for("holding 4 ")
    ticking.wait_for_more(2)

    times = ticking.times()

    assert times == each_second_from(ticking.first, times)
    assert ticking.missed() == 0


def test_its_owner_freezes_in_the_middle_of_a_firing_and_wakes_up_while_another_fires(
    ticking: Ticking, place: str
) -> None:
    ticking.wait_for_more(1)
    with ticking.held(place):
        ticking.owner.signal_all(signal.SIGSTOP)
    ticking.other.wait_for("holding 4 ")
    with ticking.held(place):
        # The other one is about to fire: the first one still means to fire what has its runs by now.
        ticking.owner.signal_all(signal.SIGCONT)
        ticking.owner.wait_for("this coordinator stands by")
    ticking.wait_for_more(3)

    times = ticking.times()

    assert times == each_second_from(ticking.first, times)
    assert ticking.missed() == 0
