"""Starts as clients submit them, over every implementation."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest

from dramaturg_protocol.errors import AlreadyStarted, IdempotencyMismatch
from dramaturg_protocol.messages import RequestKind
from dramaturg_protocol.records import RunWrites, StartOrder, StartOutcome
from tests.conformance.worlds import EPOCH, OpenDatabase, a_closed_run, a_lease, a_new_run, a_request, an_order

pytestmark = pytest.mark.conformance


def waiting(database: OpenDatabase) -> list[tuple[str, str]]:
    """What is in the inbox: kind and run."""
    return [(str(request.kind), request.run_id) for request in database.inbox.take(database.partitions, 999)]


def take_up(database: OpenDatabase, write: RunWrites) -> None:
    """What a coordinator does with all starts that are there: begin one run."""
    write.arrivals = [request.arrival for request in database.inbox.take(database.partitions, 999)]
    database.store.commit([write], a_lease(database), EPOCH)


def named(run_id: str, **changes: Any) -> StartOrder:
    return an_order(run_id, **{"workflow_id": "order-7", "has_explicit_id": True, **changes})


def keyed(run_id: str, **changes: Any) -> StartOrder:
    return an_order(run_id, **{"digest": "digest", **changes})


def test_a_start_is_a_row_of_the_inbox(database: OpenDatabase) -> None:
    order = an_order("run")

    assert database.starts.submit([order]) == [StartOutcome("run", "run", is_new=True)]

    (request,) = database.inbox.take(database.partitions, 9)
    assert request.kind is RequestKind.START
    assert (request.message_id, request.run_id, request.body) == (order.message_id, "run", order.body)
    assert request.partition == database.partition_of("run")


def test_no_order_is_no_start(database: OpenDatabase) -> None:
    assert database.starts.submit([]) == []


def test_many_starts_keep_their_order(database: OpenDatabase) -> None:
    names = [f"run {number}" for number in range(700)]

    outcomes = database.starts.submit([an_order(name) for name in names])

    assert [outcome.run_id for outcome in outcomes] == names
    assert [run_id for _, run_id in waiting(database)] == names


@pytest.mark.parametrize("make", [an_order, named, keyed])
def test_the_same_order_submitted_again_counts_once(database: OpenDatabase, make: Callable[[str], StartOrder]) -> None:
    order = make("run")
    first = database.starts.submit([order, order])
    again = database.starts.submit([order])
    assert [outcome.is_new for outcome in first + again] == [True, False, False]
    assert waiting(database) == [("start", "run")]

    take_up(database, a_new_run("run", workflow_id=order.workflow_id))

    assert database.starts.submit([order]) == [StartOutcome("run", order.workflow_id, is_new=False)]
    assert waiting(database) == []


def test_a_key_used_again_gives_the_first_run(database: OpenDatabase) -> None:
    database.starts.submit([keyed("run")])
    assert database.starts.submit([keyed("run", message_id="other")]) == [StartOutcome("run", "run", is_new=False)]

    take_up(database, a_closed_run("run"))

    assert database.starts.submit([keyed("run", message_id="another")]) == [StartOutcome("run", "run", is_new=False)]
    assert waiting(database) == []


def test_a_key_used_twice_in_one_call_gives_one_run(database: OpenDatabase) -> None:
    outcomes = database.starts.submit([keyed("run"), keyed("run", message_id="other"), keyed("second")])

    assert [(outcome.run_id, outcome.is_new) for outcome in outcomes] == [
        ("run", True),
        ("run", False),
        ("second", True),
    ]
    assert waiting(database) == [("start", "run"), ("start", "second")]


def test_other_arguments_under_a_key_undo_the_whole_call(database: OpenDatabase) -> None:
    database.starts.submit([keyed("run")])

    with pytest.raises(IdempotencyMismatch, match="other arguments"):
        database.starts.submit([keyed("fresh"), keyed("run", digest="else", message_id="other")])

    assert waiting(database) == [("start", "run")]
    assert database.starts.submit([keyed("fresh", digest="now this", message_id="third")])[0].is_new


def test_an_id_whose_start_is_still_in_the_inbox_is_taken(database: OpenDatabase) -> None:
    database.starts.submit([named("run")])

    with pytest.raises(AlreadyStarted) as raised:
        database.starts.submit([an_order("fresh"), named("second")])

    assert (raised.value.workflow_id, raised.value.run_id) == ("order-7", "run")
    assert waiting(database) == [("start", "run")]


def test_an_id_of_an_open_run_is_taken(database: OpenDatabase) -> None:
    database.starts.submit([named("run")])
    take_up(database, a_new_run("run", workflow_id="order-7"))

    with pytest.raises(AlreadyStarted):
        database.starts.submit([named("second")])


def test_an_id_used_twice_in_one_call_is_taken(database: OpenDatabase) -> None:
    with pytest.raises(AlreadyStarted):
        database.starts.submit([named("run"), named("second")])

    assert waiting(database) == []
    assert database.starts.submit([named("third")])[0].is_new


def test_use_existing_gives_the_open_run(database: OpenDatabase) -> None:
    database.starts.submit([named("run")])

    outcomes = database.starts.submit([named("second", on_conflict="use_existing")])

    assert outcomes == [StartOutcome("run", "order-7", is_new=False)]
    assert waiting(database) == [("start", "run")]


def test_a_key_that_led_to_an_existing_run_leads_there_again(database: OpenDatabase) -> None:
    database.starts.submit([named("run")])
    order = named("second", on_conflict="use_existing", digest="digest")
    expected = [StartOutcome("run", "order-7", is_new=False)]

    assert database.starts.submit([order]) == expected
    assert database.starts.submit([order]) == expected
    take_up(database, a_closed_run("run", workflow_id="order-7"))
    assert database.starts.submit([named("second", digest="digest", message_id="other")]) == expected


def test_a_key_that_is_known_claims_no_new_id(database: OpenDatabase) -> None:
    database.starts.submit([keyed("run")])
    database.starts.submit([named("run", digest="digest", message_id="other", workflow_id="free")])

    assert database.starts.submit([named("second", workflow_id="free")])[0].is_new


def test_terminate_existing_ends_the_open_run_and_begins_another(database: OpenDatabase) -> None:
    database.starts.submit([named("run")])
    order = named("second", on_conflict="terminate_existing")

    assert database.starts.submit([order]) == [StartOutcome("second", "order-7", is_new=True)]
    assert database.starts.submit([order]) == [StartOutcome("second", "order-7", is_new=False)]

    assert waiting(database) == [("start", "run"), ("terminate", "run"), ("start", "second")]
    with pytest.raises(AlreadyStarted) as raised:
        database.starts.submit([named("third")])
    assert raised.value.run_id == "second"


@pytest.mark.parametrize(
    ("reuse", "status", "is_free"),
    [
        ("always", "COMPLETED", True),
        ("always", "FAILED", True),
        ("if_failed", "COMPLETED", False),
        ("if_failed", "FAILED", True),
        ("if_failed", "CANCELLED", True),
        ("if_failed", "TERMINATED", True),
        ("if_failed", "TIMED_OUT", True),
        ("never", "COMPLETED", False),
        ("never", "FAILED", False),
    ],
)
def test_reuse_of_the_id_of_a_closed_run(database: OpenDatabase, reuse: str, status: str, is_free: bool) -> None:
    database.starts.submit([named("run")])
    take_up(database, a_closed_run("run", status, workflow_id="order-7"))
    order = named("second", reuse=reuse, on_conflict="use_existing")

    if is_free:
        assert database.starts.submit([order]) == [StartOutcome("second", "order-7", is_new=True)]
    else:
        with pytest.raises(AlreadyStarted):
            database.starts.submit([order])
        assert waiting(database) == []


def test_a_cancel_in_the_inbox_does_not_make_a_run(database: OpenDatabase) -> None:
    database.inbox.put([a_request("cancel", run_id="run")])

    assert database.starts.submit([an_order("run")])[0].is_new


def test_starts_that_race_for_a_key_begin_one_run(database: OpenDatabase) -> None:
    outcomes: list[StartOutcome] = []

    def submit(number: int) -> None:
        outcomes.extend(database.starts.submit([keyed("run", message_id=f"message {number}")]))

    threads = [Thread(target=submit, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [outcome.run_id for outcome in outcomes] == ["run"] * 20
    assert sum(outcome.is_new for outcome in outcomes) == 1
    assert waiting(database) == [("start", "run")]


def test_starts_that_race_for_an_id_begin_one_run(database: OpenDatabase) -> None:
    answers: list[str] = []

    def submit(number: int) -> None:
        try:
            answers.append(database.starts.submit([named(f"run {number}")])[0].run_id)
        except AlreadyStarted as error:
            answers.append(error.run_id)

    threads = [Thread(target=submit, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(answers) == 20
    assert len(set(answers)) == 1
    assert len(waiting(database)) == 1
