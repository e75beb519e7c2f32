"""The port `Inbox`, over every implementation."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from sqlalchemy import Connection, event

from dramaturg_protocol.messages import RequestKind
from dramaturg_protocol.records import RunWrites
from dramaturg_store.database import Database
from tests.conformance.worlds import EPOCH, OpenDatabase, World, a_lease, a_request

pytestmark = pytest.mark.conformance


def taken(database: OpenDatabase, limit: int = 99, skip: tuple[int, ...] = ()) -> list[str]:
    return [request.message_id for request in database.inbox.take(database.partitions, limit, skip)]


def test_a_request_comes_back_as_it_was_sent(database: OpenDatabase) -> None:
    request = replace(a_request("message"), reply=True)

    database.inbox.put([request])

    (there,) = database.inbox.take(database.partitions, 9)
    assert replace(there, arrival=0) == request
    assert there.arrival > 0


def test_a_request_says_when_it_was_stored(database: OpenDatabase) -> None:
    if not isinstance(database, Database):
        pytest.skip("in memory all have one clock")
    database.inbox.put([a_request("message")])

    (there,) = database.inbox.take(database.partitions, 9)

    assert there.sent_at is not None
    assert there.sent_at.utcoffset() == timedelta(0)


def test_requests_come_in_order_of_arrival_and_no_more_than_asked_for(database: OpenDatabase) -> None:
    database.inbox.put([a_request("c"), a_request("a")])
    database.inbox.put([a_request("b")])

    assert taken(database) == ["c", "a", "b"]
    assert taken(database, limit=2) == ["c", "a"]


def test_taking_leaves_them_there(database: OpenDatabase) -> None:
    database.inbox.put([a_request("a")])

    assert taken(database) == taken(database) == ["a"]


def test_skipped_arrivals_do_not_count_against_the_limit(database: OpenDatabase) -> None:
    database.inbox.put([a_request(f"{number}") for number in range(5)])
    first, second, *_ = database.inbox.take(database.partitions, 9)

    assert taken(database, 2, (first.arrival, second.arrival)) == ["2", "3"]


def test_tens_of_thousands_may_be_skipped(database: OpenDatabase) -> None:
    database.inbox.put([a_request("a")])

    assert taken(database, 9, tuple(range(100, 50_000))) == ["a"]


def test_a_message_id_counts_once(database: OpenDatabase) -> None:
    database.inbox.put([a_request("a"), a_request("a")])
    database.inbox.put([a_request("a")])

    assert taken(database) == ["a"]


def test_only_the_partitions_asked_for_are_taken(database: OpenDatabase) -> None:
    database.inbox.put([replace(a_request("elsewhere"), partition=77)])

    assert taken(database) == []
    assert [request.message_id for request in database.inbox.take([77, *database.partitions], 9)] == ["elsewhere"]


def test_an_arrival_is_never_used_again(database: OpenDatabase) -> None:
    database.inbox.put([a_request("a"), a_request("b")])
    arrivals = [request.arrival for request in database.inbox.take(database.partitions, 9)]
    database.store.commit([RunWrites("run", arrivals=arrivals)], a_lease(database), EPOCH)

    database.inbox.put([a_request("c")])

    assert database.inbox.take(database.partitions, 9)[0].arrival > max(arrivals)


def test_a_kind_from_a_later_version_comes_as_its_text(database: OpenDatabase) -> None:
    database.inbox.put([replace(a_request("a"), kind=cast("RequestKind", "teleport")), a_request("b")])

    strange, known = database.inbox.take(database.partitions, 9)

    assert strange.kind == "teleport"
    assert strange.kind not in tuple(RequestKind)
    assert known.kind is RequestKind.CANCEL


def test_a_body_that_is_no_json_comes_as_it_is(database: OpenDatabase) -> None:
    database.inbox.put([replace(a_request("a"), body="{ \0 \ud800")])

    assert database.inbox.take(database.partitions, 9)[0].body == "{ \\u0000 \\ud800"


def test_starts_may_be_left_out_and_do_not_count_against_the_limit(database: OpenDatabase) -> None:
    kinds = [RequestKind.START, RequestKind.CANCEL, RequestKind.START, RequestKind.TERMINATE]
    database.inbox.put([replace(a_request(str(number)), kind=kind) for number, kind in enumerate(kinds)])

    there = database.inbox.take(database.partitions, 2, starts=False)

    assert [request.message_id for request in there] == ["1", "3"]
    assert taken(database) == ["0", "1", "2", "3"]


def test_starts_that_wait_are_not_read_to_find_what_is_beyond_them(world: World) -> None:
    database = world.open()
    if not isinstance(database, Database) or database.engine.dialect.name != "mysql":
        pytest.skip("only MariaDB counts the rows that it reads")
    starts = [replace(a_request(f"s{number}"), kind=RequestKind.START) for number in range(2000)]
    database.inbox.put([*starts, a_request("cancel")])
    sent: list[tuple[str, Any]] = []
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE TABLE dramaturg_inbox").close()

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "dramaturg_inbox" in statement:
            sent.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    assert [each.message_id for each in database.inbox.take(database.partitions, 99, starts=False)] == ["cancel"]
    event.remove(database.engine, "before_cursor_execute", note)

    ((statement, parameters),) = sent
    with database.engine.connect() as connection:
        before = rows_read(connection)
        connection.exec_driver_sql(statement, parameters).all()
        assert rows_read(connection) - before < 500


def rows_read(connection: Connection) -> int:
    counters = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read%%'").all()
    return sum(int(value) for name, value in counters if not name.endswith("_deleted"))
