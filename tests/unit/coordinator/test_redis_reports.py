"""Reports over Redis: what is taken stays until it is acknowledged, and is cut off with the next read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import fakeredis
import pytest
import redis

from dramaturg_coordinator.redis_reports import RedisReports
from dramaturg_coordinator.redis_streams import Streams
from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.messages import ReportKind, StepReport, encode_message
from dramaturg_protocol.records import DeadLetter
from dramaturg_protocol.redis_keys import REPORT_FIELD, RedisKeys

KEYS = RedisKeys("ns")


@pytest.fixture
def server() -> Iterator[fakeredis.FakeRedis]:
    with fakeredis.FakeRedis() as client:
        yield client


@pytest.fixture
def reports(server: fakeredis.FakeRedis) -> RedisReports:
    return RedisReports(server, "ns", {1: 1, 2: 1})


def report(server: redis.Redis, seq: int, partition: int = 1) -> None:
    said = StepReport("run", 0, seq, 1, partition, ReportKind.COMPLETED, worker="worker")
    server.xadd(KEYS.reports(partition), {REPORT_FIELD: encode_message(said)})


def taken(reports: RedisReports) -> list[int]:
    found = reports.take(500)
    assert not any(isinstance(each, DeadLetter) for each in found)
    return [each.seq for each in found if isinstance(each, StepReport)]


def test_what_is_acknowledged_is_cut_off_with_the_next_read(server: fakeredis.FakeRedis, reports: RedisReports) -> None:
    report(server, 1, partition=1)
    report(server, 2, partition=2)
    assert sorted(taken(reports)) == [1, 2]

    reports.acknowledge(2)
    report(server, 3, partition=2)
    assert taken(reports) == [3]

    assert server.xlen(KEYS.reports(1)) == 0
    assert server.xlen(KEYS.reports(2)) == 1


def test_what_is_acknowledged_is_cut_off_at_the_end(server: fakeredis.FakeRedis, reports: RedisReports) -> None:
    report(server, 1)
    assert taken(reports) == [1]

    reports.acknowledge(1)
    reports.close()

    assert server.xlen(KEYS.reports(1)) == 0


def test_who_gives_a_partition_up_cuts_nothing_off_its_stream_any_more(
    server: fakeredis.FakeRedis, reports: RedisReports
) -> None:
    report(server, 1)
    assert taken(reports) == [1]

    reports.acknowledge(1)
    reports.attend({2: 1})
    assert taken(reports) == []

    assert server.xlen(KEYS.reports(1)) == 1


def test_what_came_is_kept_where_redis_refuses_what_went_along(
    server: fakeredis.FakeRedis, reports: RedisReports
) -> None:
    report(server, 1)
    assert taken(reports) == [1]
    reports.acknowledge(1)
    server.set(KEYS.epochs, "not a hash")
    report(server, 2)

    for _ in range(2):
        with pytest.raises(Unreachable):
            reports.wait(timedelta(0))
        assert taken(reports) == [2]
        reports.acknowledge(1)
        report(server, 2)

    server.delete(KEYS.epochs)
    assert taken(reports) == [2]
    assert server.xlen(KEYS.reports(1)) == 1


def test_a_broken_connection_is_made_anew(server: fakeredis.FakeRedis) -> None:
    streams = Streams(server)
    streams.follow({KEYS.reports(1): "0-0"})
    report(server, 1)
    with pytest.raises(redis.ResponseError):
        # Too few keys: an answer that is none, and no answer to it beside.
        streams.read(None, b"*1\r\n$5\r\nXREAD\r\n*1\r\n$5\r\nXREAD\r\n")

    _, found = streams.read(None)

    assert [len(entries) for entries in found.values()] == [1]
