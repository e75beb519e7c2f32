"""The port `Schedules`, over every implementation."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from dramaturg_coordinator.core.firing import Deciding
from dramaturg_coordinator.core.schedule_rows import new_row
from dramaturg_protocol.faults import Fenced
from dramaturg_protocol.messages import RequestKind, encode_message
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import Lease
from dramaturg_protocol.request_bodies import StartBody
from dramaturg_protocol.schedule_records import Fired, Found, ScheduleRecord
from dramaturg_protocol.schedule_specs import Spec
from tests.conformance.worlds import EPOCH, NAMESPACE, OpenDatabase, a_closed_run, a_lease, a_new_run

pytestmark = pytest.mark.conformance

HOUR = timedelta(hours=1)


def a_schedule(database: OpenDatabase, schedule_id: str = "s", overlap: str = "buffer_all") -> ScheduleRecord:
    """One that fires every hour, from noon on; it is there."""
    row = new_row(
        schedule_id,
        database.schedules.partition_of(schedule_id),
        Spec(every=HOUR, start_at=EPOCH),
        EPOCH,
        workflow="checkout",
        body=encode_message(StartBody("checkout", "", Payload('{"args":[],"kwargs":{}}'))),
        overlap=overlap,
        catchup=86_400,
        declared="client",
        paused=False,
        note="",
    )
    database.schedules.put([Fired(row)])
    return row


def fire(database: OpenDatabase, lease: Lease, now: datetime, *ids: str) -> Fired:
    def decide(found: Found) -> Fired:
        return Deciding(found, now, namespace=NAMESPACE, partition_of=database.partition_of).fire()

    return database.schedules.fire(ids or ["s"], lease, decide)[0]


def test_the_earliest_is_due_first(database: OpenDatabase) -> None:
    for name, hours in (("b", 2), ("a", 3), ("c", 1)):
        row = a_schedule(database, name)
        database.schedules.put([Fired(replace(row, next_due=EPOCH + hours * HOUR))])
    paused = a_schedule(database, "paused")
    database.schedules.put([Fired(replace(paused, next_due=None))])

    assert database.schedules.next_due(database.partitions, 2) == [("c", EPOCH + HOUR), ("b", EPOCH + 2 * HOUR)]
    assert database.schedules.next_due([], 2) == []


def test_what_fires_is_a_start_a_firing_and_the_next_time(database: OpenDatabase) -> None:
    a_schedule(database)

    fired = fire(database, a_lease(database), EPOCH)

    (start,) = database.inbox.take(database.partitions, 10)
    (firing,) = database.schedules.firings("s", 10)
    record = database.schedules.get("s")
    assert record is not None
    assert (start.kind, start.run_id) == (RequestKind.START, firing.run_id)
    assert (firing.time, record.next_time, record.fired) == (EPOCH, EPOCH + HOUR, 1)
    assert record == fired.record
    assert database.schedules.times_among("s", EPOCH, EPOCH + HOUR) == [EPOCH]


def test_what_was_decided_before_is_decided_once(database: OpenDatabase) -> None:
    a_schedule(database, overlap="allow_all")
    lease = a_lease(database)

    assert fire(database, lease, EPOCH).outcomes == (1, 0, 0)
    assert fire(database, lease, EPOCH).outcomes == (0, 0, 0)

    assert len(database.inbox.take(database.partitions, 10)) == 1


def test_who_lost_the_partition_fires_nothing(database: OpenDatabase) -> None:
    before = a_schedule(database)
    lease = a_lease(database)
    stale = Lease("frozen", {number: epoch - 1 for number, epoch in lease.epochs.items()})

    with pytest.raises(Fenced):
        fire(database, stale, EPOCH)

    assert database.schedules.get("s") == before
    assert database.inbox.take(database.partitions, 10) == []


def test_a_schedule_of_another_partition_or_none_is_left_alone(database: OpenDatabase) -> None:
    before = a_schedule(database)

    assert database.schedules.fire(["s", "unknown"], Lease("one", {}), lambda found: Fired(found.record)) == []
    assert database.schedules.get("s") == before


def test_an_error_of_whoever_decides_undoes_everything(database: OpenDatabase) -> None:
    rows = [a_schedule(database, name) for name in ("a", "b")]

    def decide(found: Found) -> Fired:
        if found.record.id == "b":
            raise ValueError("no")
        return Fired(replace(found.record, fired=7))

    with pytest.raises(ValueError, match="no"):
        database.schedules.fire(["a", "b"], a_lease(database), decide)

    assert [database.schedules.get(row.id) for row in rows] == rows


def test_a_firing_waits_until_the_run_before_it_is_closed(database: OpenDatabase) -> None:
    a_schedule(database)
    lease = a_lease(database)
    fire(database, lease, EPOCH)
    (start,) = database.inbox.take(database.partitions, 10)

    assert fire(database, lease, EPOCH + HOUR).record.waiting == 1
    assert database.schedules.waiting(database.partitions) == {"s": (start.run_id,)}
    assert database.schedules.waiting([]) == {}
    assert database.schedules.open_among([start.run_id, "another"]) == {start.run_id}

    write = a_new_run(start.run_id)
    write.arrivals.append(start.arrival)
    database.store.commit([write], lease, EPOCH)
    assert database.schedules.open_among([start.run_id]) == {start.run_id}
    closed = a_closed_run(start.run_id)
    closed.is_new, closed.events = False, closed.events[2:]
    database.store.commit([closed], lease, EPOCH)
    assert database.schedules.open_among([start.run_id]) == frozenset()

    again = fire(database, lease, EPOCH + HOUR)
    assert (again.record.waiting, again.record.fired) == (0, 2)
    assert [firing.run_id is None for firing in database.schedules.firings("s", 10)] == [False, False]


def test_a_run_that_was_continued_goes_on(database: OpenDatabase) -> None:
    lease = a_lease(database)
    database.store.commit([a_closed_run("chain", "CONTINUED")], lease, EPOCH)

    assert database.schedules.open_among(["chain"]) == {"chain"}


def test_what_waits_is_dropped_where_another_takes_its_place(database: OpenDatabase) -> None:
    a_schedule(database, overlap="cancel_other")
    lease = a_lease(database)
    fire(database, lease, EPOCH)
    fire(database, lease, EPOCH + HOUR)

    fired = fire(database, lease, EPOCH + 2 * HOUR)

    assert (fired.record.waiting, fired.record.skipped) == (1, 1)
    times = [firing.time for firing in database.schedules.firings("s", 10) if firing.run_id is None]
    assert times == [EPOCH + 2 * HOUR]


def test_it_is_changed_and_forgotten(database: OpenDatabase) -> None:
    row = a_schedule(database)

    def rename(found: Found | None) -> Fired | None:
        return None if found is None else Fired(replace(found.record, note="by hand"))

    database.schedules.change("s", rename)
    assert database.schedules.get("s") == replace(row, note="by hand")
    assert database.schedules.change("unknown", rename) is None
    assert database.schedules.delete("s")
    assert not database.schedules.delete("s")
    assert database.schedules.get("s") is None
    assert database.schedules.firings("s", 10) == []
