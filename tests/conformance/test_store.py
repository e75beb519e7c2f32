"""The port `Store`, over every implementation."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import event

from dramaturg_protocol.events import HistoryEvent, RunStarted, StepScheduled, TimerStarted
from dramaturg_protocol.faults import Fenced, Refused
from dramaturg_protocol.messages import Reply
from dramaturg_protocol.records import DeadLetter, Lease, RunWrites, StoredRun, Unreadable, WorkKind
from dramaturg_store.database import Database
from dramaturg_store.writes import write_turn
from tests.conformance.worlds import (
    EPOCH,
    NULL,
    OpenDatabase,
    World,
    a_closed_run,
    a_lease,
    a_new_run,
    a_record,
    a_request,
    a_step,
    a_timer,
    an_event,
)

pytestmark = pytest.mark.conformance


def open_keys(database: OpenDatabase) -> set[tuple[str, int, int]]:
    return {item.key for item in database.store.sent_work(database.partitions)}


def test_a_new_run_comes_back_as_it_was_written(database: OpenDatabase) -> None:
    write = a_new_run("run")

    database.store.commit([write], a_lease(database), EPOCH)

    assert database.store.load(["run"]) == {"run": StoredRun(a_record("run"), write.events, sent={(1, 1)})}


def test_a_run_comes_back_with_what_it_has_under_way(database: OpenDatabase) -> None:
    kinds = (WorkKind.STEP, WorkKind.WAITING, WorkKind.LOCAL, WorkKind.LIMITED, WorkKind.RETRY, WorkKind.LEFT_OPEN)
    write = a_new_run("run")
    write.work[:] = [replace(a_step("run", seq), kind=kind) for seq, kind in enumerate(kinds, 1)]
    database.store.commit([write], a_lease(database), EPOCH)

    found = database.store.load(["run"])["run"]

    assert isinstance(found, StoredRun)
    assert set(found.sent) == {(1, 1), (1, 2), (1, 3)}
    assert set(found.limited) == {(1, 4)}


def test_an_unknown_run_is_absent(database: OpenDatabase) -> None:
    assert database.store.load(["nobody"]) == {}


def test_a_run_that_is_not_there_is_asked_for_once(database: OpenDatabase) -> None:
    if not isinstance(database, Database):
        pytest.skip("the twin in memory sends no statements")
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM dramaturg_" in statement:
            asked.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    database.store.load(["nobody"])
    event.remove(database.engine, "before_cursor_execute", note)

    assert len(asked) == 1
    assert "FROM dramaturg_runs" in " ".join(asked[0].split())


def test_loading_no_run_gives_none(database: OpenDatabase) -> None:
    assert database.store.load([]) == {}


def test_a_later_turn_appends_events_and_changes_the_row(database: OpenDatabase) -> None:
    lease = a_lease(database)
    database.store.commit([a_new_run("run")], lease, EPOCH)
    later = a_record("run", status="WAITING", last_event=3, updated_at=EPOCH + timedelta(seconds=1))

    database.store.commit([RunWrites("run", later, events=[an_event(3)])], lease, EPOCH)

    run = database.store.load(["run"])["run"]
    assert isinstance(run, StoredRun)
    assert run.record == later
    assert [event.number for event in run.history] == [1, 2, 3]


def test_times_come_back_aware_in_utc_to_the_microsecond(database: OpenDatabase) -> None:
    due = datetime(2030, 3, 31, 3, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    write = RunWrites(
        "run",
        a_record("run", last_event=1, started_at=due),
        is_new=True,
        events=[HistoryEvent(1, due, TimerStarted(1, due))],
        work=[a_timer("run", 1, due)],
    )

    database.store.commit([write], a_lease(database), EPOCH)

    run = database.store.load(["run"])["run"]
    assert isinstance(run, StoredRun)
    assert run.record.started_at == run.history[0].time == due
    assert run.history[0].time.tzinfo is UTC
    assert database.store.due_work(database.partitions, due, 9)[0].due == due


def test_a_turn_of_many_runs_is_written_whole(database: OpenDatabase) -> None:
    names = [f"run {number}" for number in range(1200)]

    database.store.commit([a_new_run(name) for name in names], a_lease(database), EPOCH)

    loaded = database.store.load(names)
    assert len(loaded) == 1200
    assert all(isinstance(run, StoredRun) for run in loaded.values())
    assert len(open_keys(database)) == 1200


def test_the_same_turn_written_twice_is_refused(database: OpenDatabase) -> None:
    lease = a_lease(database)
    database.store.commit([a_new_run("run")], lease, EPOCH)
    turn = RunWrites("run", a_record("run", last_event=3), events=[an_event(3)])
    database.store.commit([turn], lease, EPOCH)

    with pytest.raises(Refused):
        database.store.commit([turn], lease, EPOCH)
    with pytest.raises(Refused):
        database.store.commit([a_new_run("run")], lease, EPOCH)


def test_one_refused_run_undoes_the_whole_turn(database: OpenDatabase) -> None:
    lease = a_lease(database)
    database.store.commit([a_new_run("first")], lease, EPOCH)
    database.inbox.put([a_request("message")])
    good = a_new_run("second")
    good.arrivals = [database.inbox.take(database.partitions, 1)[0].arrival]

    with pytest.raises(Refused):
        database.store.commit([good, a_new_run("first")], lease, EPOCH)

    assert set(database.store.load(["first", "second"])) == {"first"}
    assert len(database.inbox.take(database.partitions, 9)) == 1
    assert open_keys(database) == {("first", 1, 1)}


@pytest.mark.parametrize("world", ["postgresql"], indirect=True)
def test_the_transaction_of_a_turn_ends_in_the_round_trip_of_its_rows(database: OpenDatabase) -> None:
    assert isinstance(database, Database)

    with database.engine.connect() as connection:
        write_turn(connection, [a_new_run("run")], a_lease(database), database.namespace, EPOCH)
        raw: Any = connection.connection.driver_connection
        assert raw.info.transaction_status.name == "IDLE"

    assert "run" in database.store.load(["run"])


def test_events_of_a_run_that_is_not_there_are_refused(database: OpenDatabase) -> None:
    with pytest.raises(Refused):
        database.store.commit([RunWrites("nobody", events=[an_event(1)])], a_lease(database), EPOCH)


def test_a_change_of_a_run_that_is_not_there_is_refused_and_undoes_the_turn(database: OpenDatabase) -> None:
    lease = a_lease(database)
    database.store.commit([a_new_run("run")], lease, EPOCH)
    changed = RunWrites("run", a_record("run", last_event=3), events=[an_event(3)])
    gone = RunWrites("gone", a_record("gone", last_event=1), events=[an_event(1)])

    with pytest.raises(Refused):
        database.store.commit([changed, gone], lease, EPOCH)

    run = database.store.load(["run"])["run"]
    assert isinstance(run, StoredRun)
    assert run.record.last_event == 2


def test_whoever_lost_the_lease_is_told_so_even_where_the_successor_wrote_the_same(database: OpenDatabase) -> None:
    lost = a_lease(database)
    database.leases.release(lost)
    database.store.commit([a_new_run("run")], a_lease(database, "two"), EPOCH)

    with pytest.raises(Fenced):
        database.store.commit([a_new_run("run")], lost, EPOCH)


def test_times_that_are_all_missing_or_partly_are_kept_so(database: OpenDatabase) -> None:
    lease = a_lease(database)
    open_runs = [a_new_run("first"), a_new_run("second")]
    database.store.commit(open_runs, lease, EPOCH)
    closed = a_record("first", status="COMPLETED", closed_at=EPOCH, last_event=3, result=NULL)
    still = a_record("second", last_event=3)

    database.store.commit(
        [
            RunWrites("first", closed, events=[an_event(3)], is_closed=True),
            RunWrites("second", still, events=[an_event(3)]),
        ],
        lease,
        EPOCH,
    )

    stored = database.store.load(["first", "second"])
    assert {run.record for run in stored.values()} == {closed, still}


def test_a_closed_status_without_its_time_is_refused(database: OpenDatabase) -> None:
    lease = a_lease(database)

    with pytest.raises(Refused):
        database.store.commit([a_new_run("run", status="COMPLETED")], lease, EPOCH)
    with pytest.raises(Refused):
        database.store.commit([a_new_run("run", closed_at=EPOCH)], lease, EPOCH)


def test_a_lease_of_an_older_epoch_writes_nothing(database: OpenDatabase) -> None:
    old = a_lease(database)
    database.leases.release(old)
    a_lease(database, "two")

    with pytest.raises(Fenced) as fenced:
        database.store.commit([a_new_run("run")], old, EPOCH)

    assert fenced.value.partitions == set(database.partitions)
    assert database.store.load(["run"]) == {}


def test_the_fence_holds_for_a_turn_that_only_forgets_messages(database: OpenDatabase) -> None:
    lease = a_lease(database)
    database.inbox.put([a_request("message")])
    wrong = Lease("one", {partition: epoch + 1 for partition, epoch in lease.epochs.items()})

    with pytest.raises(Fenced):
        database.store.commit([RunWrites("run", arrivals=[1])], wrong, EPOCH)

    assert len(database.inbox.take(database.partitions, 9)) == 1


def test_open_work_is_replaced_by_its_key(database: OpenDatabase) -> None:
    lease = a_lease(database)
    database.store.commit([a_new_run("run")], lease, EPOCH)
    retry = replace(a_step("run"), kind=WorkKind.RETRY, attempt=2, due=EPOCH + timedelta(seconds=5))

    database.store.commit([RunWrites("run", work=[retry])], lease, EPOCH)

    assert list(database.store.sent_work(database.partitions)) == []
    assert list(database.store.due_work(database.partitions, EPOCH + timedelta(seconds=5), 9)) == [retry]


def test_settled_work_goes_and_the_rest_stays(database: OpenDatabase) -> None:
    lease = a_lease(database)
    write = a_new_run("run")
    write.work = [a_step("run", 1), a_step("run", 2), a_step("run", 3)]
    database.store.commit([write, a_new_run("other")], lease, EPOCH)

    database.store.commit([RunWrites("run", settled=[(1, 1), (1, 3), (1, 99)])], lease, EPOCH)

    assert open_keys(database) == {("run", 1, 2), ("other", 1, 1)}


def test_work_settled_and_asked_for_again_in_one_turn_is_open(database: OpenDatabase) -> None:
    lease = a_lease(database)
    database.store.commit([a_new_run("run")], lease, EPOCH)

    database.store.commit([RunWrites("run", settled=[(1, 1)], work=[a_step("run", 1)])], lease, EPOCH)

    assert open_keys(database) == {("run", 1, 1)}


def test_a_closed_run_keeps_no_open_work(database: OpenDatabase) -> None:
    lease = a_lease(database)
    database.store.commit([a_new_run("run"), a_new_run("other")], lease, EPOCH)
    closed = a_record("run", status="CANCELLED", closed_at=EPOCH)

    database.store.commit([RunWrites("run", closed, work=[a_step("run", 2)], is_closed=True)], lease, EPOCH)

    assert open_keys(database) == {("other", 1, 1)}


def test_due_work_comes_earliest_first_and_no_more_than_asked_for(database: OpenDatabase) -> None:
    write = a_new_run("run")
    write.work = [a_timer("run", seq, EPOCH + timedelta(seconds=10 - seq)) for seq in range(1, 6)] + [a_step("run", 9)]
    database.store.commit([write], a_lease(database), EPOCH)

    due = database.store.due_work(database.partitions, EPOCH + timedelta(seconds=8), 3)

    assert [item.seq for item in due] == [5, 4, 3]
    assert database.store.due_work([], EPOCH + timedelta(days=1), 3) == []


def test_sent_work_is_only_that_of_the_partitions_asked_for(database: OpenDatabase) -> None:
    lease = a_lease(database)
    elsewhere = a_new_run("elsewhere")
    elsewhere.work = [a_step("elsewhere", partition=77)]
    database.store.commit([a_new_run("here"), elsewhere], lease, EPOCH)

    assert open_keys(database) == {("here", 1, 1)}
    assert [item.run_id for item in database.store.sent_work([77])] == ["elsewhere"]


@pytest.mark.parametrize("kind", [WorkKind.LOCAL, WorkKind.WAITING])
def test_what_no_worker_has_is_asked_for_by_its_kind(database: OpenDatabase, kind: WorkKind) -> None:
    lease = a_lease(database)
    write = a_new_run("run")
    other = replace(a_step("run", 2), kind=kind)
    write.work = [a_step("run", 1), other]
    database.store.commit([write], lease, EPOCH)

    assert list(database.store.sent_work(database.partitions, kind)) == [other]
    assert open_keys(database) == {("run", 1, 1)}


def test_runs_are_found_by_status_oldest_first(database: OpenDatabase) -> None:
    young = a_new_run("a young one", status="BLOCKED", started_at=EPOCH + timedelta(seconds=1))
    old = a_new_run("the old one", status="BLOCKED")
    database.store.commit([young, old, a_new_run("running")], a_lease(database), EPOCH)

    assert list(database.store.runs_with_status(database.partitions, "BLOCKED")) == ["the old one", "a young one"]
    assert list(database.store.runs_with_status([77], "BLOCKED")) == []


def test_consumed_arrivals_leave_the_inbox_with_the_commit(database: OpenDatabase) -> None:
    database.inbox.put([a_request("one"), a_request("two")])
    write = a_new_run("run")
    write.arrivals = [database.inbox.take(database.partitions, 1)[0].arrival]

    database.store.commit([write], a_lease(database), EPOCH)

    assert [request.message_id for request in database.inbox.take(database.partitions, 9)] == ["two"]


def test_replies_and_dead_letters_are_kept_with_the_commit(database: OpenDatabase, world: World) -> None:
    write = RunWrites(
        "run",
        replies=[Reply("message", "NotFound", "no run 'run'")],
        dead_letters=[DeadLetter("inbox", "not a start", "{\0\ud800", "run", 1)],
    )

    database.store.commit([write], a_lease(database), EPOCH)

    assert world.reply("message") == Reply("message", "NotFound", "no run 'run'")
    assert [(letter.reason, letter.body, letter.at) for letter in world.letters()] == [
        ("not a start", "{\\u0000\\ud800", EPOCH)
    ]


def test_a_second_answer_to_a_message_changes_nothing(database: OpenDatabase, world: World) -> None:
    lease = a_lease(database)
    database.store.commit([RunWrites("run", replies=[Reply("message")])], lease, EPOCH)

    database.store.commit([RunWrites("run", replies=[Reply("message", "NotFound")])], lease, EPOCH)

    assert world.reply("message") == Reply("message")


def test_what_is_put_aside_needs_no_lease(database: OpenDatabase, world: World) -> None:
    database.store.put_aside([])
    database.store.put_aside([DeadLetter("report", "truncated", "{", at=EPOCH), DeadLetter("work", "late", "x")])

    assert [(letter.source, letter.id) for letter in world.letters()] == [("report", 1), ("work", 2)]


@pytest.mark.parametrize("data", ["{", "[]", '{"seq":"x"}', ""])
def test_a_damaged_run_is_unreadable_and_the_others_load(database: OpenDatabase, world: World, data: str) -> None:
    database.store.commit([a_new_run("good"), a_new_run("bad")], a_lease(database), EPOCH)
    world.damage("bad", 2, data)

    loaded = database.store.load(["good", "bad"])

    assert isinstance(loaded["good"], StoredRun)
    bad = loaded["bad"]
    assert isinstance(bad, Unreadable)
    assert bad.record == a_record("bad")
    assert "run bad: event 2" in bad.reason
    assert "\n" not in bad.reason


def test_a_history_with_a_gap_is_unreadable(database: OpenDatabase) -> None:
    write = a_new_run("run", last_event=3)
    write.events = [write.events[0], an_event(3)]
    database.store.commit([write], a_lease(database), EPOCH)

    run = database.store.load(["run"])["run"]

    assert isinstance(run, Unreadable)
    assert "event 2 is missing" in run.reason


def test_a_history_that_ends_too_early_is_unreadable(database: OpenDatabase) -> None:
    database.store.commit([a_new_run("run", last_event=7)], a_lease(database), EPOCH)

    run = database.store.load(["run"])["run"]

    assert isinstance(run, Unreadable)
    assert "7" in run.reason


def test_what_a_closed_run_left_can_be_read(database: OpenDatabase) -> None:
    database.store.commit([a_closed_run("run")], a_lease(database), EPOCH)

    run = database.store.load(["run"])["run"]

    assert isinstance(run, StoredRun)
    assert run.record.closed_at == EPOCH
    assert [type(event.body) for event in run.history][:2] == [RunStarted, StepScheduled]
    assert open_keys(database) == set()


def test_only_runs_without_work_and_without_requests_are_idle(database: OpenDatabase) -> None:
    writes = [a_new_run(name) for name in ("works", "asked", "idle")]
    for write in writes[1:]:
        write.work.clear()
    database.store.commit([*writes, a_closed_run("closed")], a_lease(database), EPOCH)
    database.inbox.put([a_request("message", run_id="asked")])

    assert list(database.store.idle_runs(1, 10)) == ["idle"]
    assert list(database.store.idle_runs(2, 10)) == []


def test_what_a_run_sends_another_is_a_request_of_the_same_commit(database: OpenDatabase) -> None:
    lease = a_lease(database)
    first, second = a_request("first"), a_request("second", run_id="other")
    write = a_new_run("run")
    write.sends = [first, second]

    database.store.commit([write], lease, EPOCH)
    database.store.commit([RunWrites("run", sends=[replace(first, body="{}")])], lease, EPOCH)

    taken = database.inbox.take([1], 10)
    assert [replace(each, arrival=0) for each in taken] == [first, second]


def test_a_turn_that_lost_its_lease_sends_nothing(database: OpenDatabase) -> None:
    lease = a_lease(database)
    write = a_new_run("run")
    write.sends = [a_request("first")]

    with pytest.raises(Fenced):
        database.store.commit([write], Lease(lease.owner, dict.fromkeys(lease.epochs, 99)), EPOCH)

    assert not database.inbox.take([1], 10)


def test_the_run_that_has_a_workflow_id_is_known_by_it(database: OpenDatabase) -> None:
    assert database.store.holders(["order-1", "order-2"]) == {}
    database.store.claim_id("order-1", "run-1")

    assert database.store.holders(["order-1", "order-2"]) == {"order-1": "run-1"}


def test_what_the_code_waits_for_is_kept_with_a_run(database: OpenDatabase) -> None:
    lease = a_lease(database)
    writes = [a_new_run("waits"), a_new_run("does_not")]
    for write in writes:
        write.work.clear()
    database.store.commit(writes, lease, EPOCH)
    assert set(database.store.idle_runs(database.partitions[0], 10)) == {"waits", "does_not"}

    record = replace(a_record("waits"), waits='[{"kind":"signal"}]')
    database.store.commit([RunWrites("waits", record)], lease, EPOCH)

    assert database.store.load(["waits"])["waits"].record.waits == record.waits
    assert database.store.idle_runs(database.partitions[0], 10) == ["does_not"]


def test_a_request_is_handed_on_under_its_own_message_id(database: OpenDatabase) -> None:
    lease = a_lease(database)
    database.inbox.put([a_request("message", run_id="run")])
    (request,) = database.inbox.take([1], 10)
    write = a_new_run("run")
    write.arrivals, write.sends = [request.arrival], [replace(request, run_id="next", arrival=0)]

    database.store.commit([write], lease, EPOCH)

    assert [each.run_id for each in database.inbox.take([1], 10)] == ["next"]
