"""Redis is emptied while a worker has fetched messages: they are published again, and the worker has them twice."""

from __future__ import annotations

import threading

import fakeredis
import pytest

from dramaturg_protocol.messages import ReportKind, encode_message
from dramaturg_protocol.transport import message_of
from tests.integration.fleet.fleets import wait_until
from tests.unit.actors.redis_workshop import RedisWorkshop

WAIT_SECONDS = 10.0


def test_a_step_that_was_fetched_before_and_after_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dramaturg_actors.pace.FIRST_ALLOWED", 100)
    is_free, begun = threading.Event(), threading.Event()
    runs: list[str] = []
    workshop = RedisWorkshop(fakeredis.FakeRedis(), "emptied")

    @workshop.step
    def work(name: str) -> None:
        runs.append(name)
        begun.set()
        assert is_free.wait(WAIT_SECONDS)

    tasks = [workshop.task("work", name) for name in ("first", "second", "last")]

    def publish(count: int) -> None:
        for task in tasks[:count]:
            body: bytes = message_of(encode_message(task)).encode()  # pyright: ignore[reportUnknownMemberType]
            workshop.put(task.queue, task.message_id, body)

    def is_fetched() -> bool:
        return not workshop.client.llen(workshop.key("default"))

    publish(2)
    workshop.start_worker(threads=1, async_limit=5)
    try:
        assert begun.wait(WAIT_SECONDS)
        wait_until(is_fetched)
        workshop.client.flushall()
        publish(3)
        wait_until(is_fetched)
        is_free.set()
        seen: set[str] = set()
        while "last" not in runs or len(seen) < 3:
            report = workshop.report()
            assert report.kind in (ReportKind.STARTED, ReportKind.COMPLETED)
            seen.add(f"{report.seq}")
    finally:
        is_free.set()
        workshop.stop()

    assert runs == ["first", "second", "last"]


def test_a_step_that_another_worker_ran_meanwhile_is_not_begun() -> None:
    is_free, begun = threading.Event(), threading.Event()
    runs: list[str] = []
    server = fakeredis.FakeServer()
    first, second = (RedisWorkshop(fakeredis.FakeRedis(server=server), "emptied") for _ in range(2))

    @first.step
    def hold() -> None:
        begun.set()
        assert is_free.wait(WAIT_SECONDS)

    for each in (first, second):

        @each.step
        def work(name: str) -> None:
            runs.append(name)

    first.start_worker(threads=1)
    try:
        first.publish("hold")
        assert begun.wait(WAIT_SECONDS)
        copied = first.publish("work", "copied")
        wait_until(lambda: not first.client.llen(first.key("default")))
        first.client.flushall()
        wait_until(lambda: first.client.exists(first.key("__heartbeats__")))
        # It lets one wait at a time, and so leaves the other's successor alone.
        first.publish("work", "waits")
        wait_until(lambda: not first.client.llen(first.key("default")))
        second.start_worker()
        body: bytes = message_of(encode_message(copied)).encode()  # pyright: ignore[reportUnknownMemberType]
        second.put(copied.queue, copied.message_id, body)
        reports = [first.report()]
        is_free.set()
        reports += [first.report(), first.report()]
    finally:
        is_free.set()
        first.stop()
        second.stop()

    assert [report.kind for report in reports] == [ReportKind.COMPLETED] * 3
    assert runs == ["copied", "waits"]
