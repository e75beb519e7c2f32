"""What coordinators know of each other, on every database."""

from __future__ import annotations

import pytest

from dramaturg_store.database import Database
from tests.conformance.worlds import OpenDatabase


@pytest.fixture
def shared(database: OpenDatabase) -> Database:
    if not isinstance(database, Database):
        pytest.skip("one process alone has no peers")
    return database


def test_other_code_is_that_of_live_coordinators_the_newest_last(shared: Database) -> None:
    for name, fingerprint in (("one", "old"), ("two", "mine"), ("three", "new"), ("four", "old")):
        shared.registry.announce(name, fingerprint=fingerprint, workflows={})

    assert shared.peers("mine").other_code() == ["old", "new"]
    shared.registry.remove("three")
    assert shared.peers("mine").other_code() == ["old"]
    for name in ("one", "two", "four"):
        shared.registry.remove(name)


def test_parked_runs_are_shown_until_their_partition_is_cleared(shared: Database) -> None:
    peers = shared.peers("mine")
    peers.park({"a": 1, "b": 2}, {"a": "first", "b": "other"})
    peers.park({"a": 1}, {"a": "again"})

    assert (shared.reads.parked("a"), shared.reads.parked("b")) == ("again", "other")
    peers.clear([1])
    assert (shared.reads.parked("a"), shared.reads.parked("b")) == ("", "other")
    peers.clear([2])


def test_deaths_add_up_for_one_code(shared: Database) -> None:
    deaths = shared.deaths("these-deaths")
    deaths.count("crashes", "first", is_certain=False)
    assert deaths.deadly() == {}
    deaths.count("crashes", "second", is_certain=False)
    deaths.count("hangs", "once", is_certain=True)

    assert deaths.deadly() == {"crashes": "second", "hangs": "once"}
    assert shared.peers("other code").deadly() == {}
