"""Workflow ids of runs that other runs start, and of those that continue others, over every implementation."""

from __future__ import annotations

import pytest

from dramaturg_protocol.errors import AlreadyStarted
from dramaturg_protocol.records import RunWrites, StartOutcome, WorkItem, WorkKind
from tests.conformance.worlds import EPOCH, OpenDatabase, a_closed_run, a_lease, a_new_run, a_request, an_order

pytestmark = pytest.mark.conformance


def test_a_free_id_is_given_and_may_be_asked_for_again(database: OpenDatabase) -> None:
    assert database.store.claim_id("order-7", "child") is None
    assert database.store.claim_id("order-7", "child") is None


def test_the_id_of_an_open_run_stays_with_it(database: OpenDatabase) -> None:
    database.starts.submit([an_order("holder", workflow_id="order-7", has_explicit_id=True)])
    assert database.store.claim_id("order-7", "child") == "holder"

    database.store.commit([a_new_run("holder")], a_lease(database), EPOCH)
    assert database.store.claim_id("order-7", "child") == "holder"


def test_the_id_of_a_closed_run_is_free(database: OpenDatabase) -> None:
    assert database.store.claim_id("order-7", "holder") is None
    database.store.commit([a_closed_run("holder")], a_lease(database), EPOCH)
    assert database.store.claim_id("order-7", "child") is None


def test_a_client_finds_the_id_of_an_open_child_taken(database: OpenDatabase) -> None:
    database.store.claim_id("order-7", "child")
    database.store.commit([a_new_run("child")], a_lease(database), EPOCH)

    with pytest.raises(AlreadyStarted) as caught:
        database.starts.submit([an_order("mine", workflow_id="order-7", has_explicit_id=True)])
    assert caught.value.run_id == "child"


def test_the_run_that_continues_another_has_its_id(database: OpenDatabase) -> None:
    lease = a_lease(database)
    outcomes = database.starts.submit([an_order("first", workflow_id="order-7", has_explicit_id=True)])
    assert outcomes == [StartOutcome("first", "order-7", is_new=True)]
    database.store.commit([a_new_run("first")], lease, EPOCH)
    closing = a_closed_run("other")
    closing.run_id, closing.next_of_id = "other", ("order-9", "next of other")
    database.store.commit([closing], lease, EPOCH)

    # An id that nobody had before is the next run's now; one that is another run's stays that.
    assert database.store.claim_id("order-9", "next of other") is None
    taken = a_closed_run("third")
    taken.next_of_id = ("order-7", "next of third")
    database.store.commit([taken], lease, EPOCH)
    assert database.store.claim_id("order-7", "child") == "first"


def test_a_run_that_waits_for_a_closed_child_is_an_orphan(database: OpenDatabase) -> None:
    writes: list[RunWrites] = []
    for name in ("waits", "asked", "is early", "goes on"):
        write = a_new_run(name)
        write.work[:] = [WorkItem(name, 1, 1, 1, WorkKind.CHILD, None, message=f"child of {name}")]
        writes.append(write)
    children = [a_closed_run("child of waits"), a_closed_run("child of asked"), a_new_run("child of is early")]
    children.append(a_closed_run("child of goes on", status="CONTINUED"))
    database.store.commit([*writes, *children], a_lease(database), EPOCH)
    database.inbox.put([a_request("message", run_id="asked")])

    assert list(database.store.orphans(1, 10)) == ["waits"]
    assert list(database.store.orphans(2, 10)) == []
