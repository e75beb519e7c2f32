"""A worker over `RedisBroker`, over fakeredis."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import fakeredis
import pytest
from dramatiq import worker as dramatiq_worker
from dramatiq.middleware import Retries

from dramaturg_actors.context import current_step
from dramaturg_actors.patience import Patience
from dramaturg_actors.redis_broker import RedisBroker
from dramaturg_actors.redis_scripts import RedisScripts
from dramaturg_protocol.messages import ReportKind, StepReport, StepTask, decode_report, encode_message
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.transport import TASK_OPTION
from tests.unit.actors.redis_workshop import PARTITION, RedisWorkshop

WAIT_SECONDS = 10.0


@pytest.fixture
def server() -> fakeredis.FakeServer:
    return fakeredis.FakeServer()


@pytest.fixture
def workshops(server: fakeredis.FakeServer) -> Iterator[Callable[[], RedisWorkshop]]:
    made: list[RedisWorkshop] = []

    def make() -> RedisWorkshop:
        made.append(RedisWorkshop(fakeredis.FakeRedis(server=server), "tests"))
        return made[-1]

    yield make
    for each in made:
        each.stop(1.0)


@pytest.fixture
def workshop(workshops: Callable[[], RedisWorkshop]) -> RedisWorkshop:
    return workshops()


def test_a_step_reports_to_the_stream_of_its_partition_and_leaves_nothing(workshop: RedisWorkshop) -> None:
    @workshop.step
    def double(value: int) -> int:
        return 2 * value

    workshop.start_worker()

    workshop.publish("double", 21)
    report = workshop.report()
    workshop.stop()

    assert (report.kind, report.result) == (ReportKind.COMPLETED, "42")
    assert workshop.left() == set()


def test_a_failed_step_and_an_async_one_leave_nothing_either(workshop: RedisWorkshop) -> None:
    @workshop.step
    def fails() -> None:
        raise ValueError("no")

    @workshop.step
    async def wait_a_moment() -> str:
        return "done"

    workshop.start_worker()

    workshop.publish("fails")
    workshop.publish("wait_a_moment")
    kinds = {workshop.report().kind for _ in range(2)}
    workshop.stop()

    assert kinds == {ReportKind.COMPLETED, ReportKind.FAILED}
    assert workshop.left() == set()


def test_a_step_with_a_timeout_says_at_once_that_it_was_picked_up(workshop: RedisWorkshop) -> None:
    go_on = threading.Event()

    @workshop.step
    def waits() -> None:
        assert go_on.wait(WAIT_SECONDS)

    workshop.start_worker()

    workshop.publish("waits", timeout=60.0)
    assert workshop.report().kind is ReportKind.STARTED
    go_on.set()
    assert workshop.report().kind is ReportKind.COMPLETED


def test_a_body_that_is_no_task_is_put_aside_and_the_next_step_runs(workshop: RedisWorkshop) -> None:
    @workshop.step
    def double(value: int) -> int:
        return 2 * value

    message: dramatiq.Message[Any] = dramatiq.Message("default", "double", (), {}, {TASK_OPTION: '{"run_id":'})
    workshop.put("default", "bad", message.encode())  # pyright: ignore[reportUnknownMemberType]
    workshop.put("default", "worse", b"\x80garbage")
    workshop.start_worker()

    workshop.publish("double", 1)
    assert workshop.report().result == "2"
    workshop.stop()

    notes = [json.loads(note) for note in workshop.client.lrange(workshop.key("dramaturg:garbage"), 0, -1)]
    assert {note["id"] for note in notes} == {"bad", "worse"}
    assert workshop.left() == {"dramaturg:garbage"}


def test_a_step_that_this_worker_does_not_know_waits_for_one_that_does(
    workshops: Callable[[], RedisWorkshop],
) -> None:
    old, new = workshops(), workshops()
    old.redis_broker.patience = Patience(first_pause=0.01)

    @old.step
    def known_to_both(value: int) -> int:
        return value

    @new.step
    def brand_new(value: int) -> int:
        return value

    old.start_worker()
    old.publish("brand_new", 1)
    old.publish("known_to_both", 2)
    assert old.report().result == "2"

    new.start_worker()

    assert old.report().result == "1"
    assert old.client.zcard(old.key("default.XQ")) == 0


def test_a_step_that_nobody_knows_fails_with_advice_when_patience_ends(workshop: RedisWorkshop) -> None:
    workshop.redis_broker.patience = Patience(seconds=0)

    @workshop.step
    def known() -> None: ...

    workshop.start_worker()

    workshop.publish("unknown")
    report = workshop.report()
    workshop.stop()

    assert (report.kind, report.error_type) == (ReportKind.FAILED, "UnknownStep")
    assert workshop.left() == set()


def test_a_plain_actor_of_the_same_worker_behaves_as_in_dramatiq(workshop: RedisWorkshop) -> None:
    ran: list[int] = []
    workshop.redis_broker.add_middleware(Retries(max_retries=0))

    @dramatiq.actor(broker=workshop.redis_broker)
    def plain(value: int) -> None:
        ran.append(value)
        if value < 0:
            raise ValueError

    workshop.start_worker()

    plain.send(1)
    plain.send(-1)
    workshop.redis_broker.join("default", interval=5, timeout=10_000)
    workshop.stop()

    assert ran == [1, -1]
    assert workshop.client.zcard(workshop.key("default.XQ")) == 1
    assert workshop.left() == {"default.XQ", "default.XQ.msgs"}


def test_a_delayed_message_of_a_plain_actor_runs(workshop: RedisWorkshop) -> None:
    ran = threading.Event()

    @dramatiq.actor(broker=workshop.redis_broker)
    def plain() -> None:
        ran.set()

    workshop.start_worker()

    plain.send_with_options(delay=1)  # pyright: ignore[reportUnknownMemberType]

    assert ran.wait(WAIT_SECONDS)


@pytest.mark.parametrize("name", ["waits", "async_waits"])
def test_a_stopping_worker_hands_back_what_waits_before_the_running_step_ends(
    workshop: RedisWorkshop, name: str
) -> None:
    began, go_on = threading.Event(), threading.Event()

    @workshop.step
    def waits() -> None:
        began.set()
        assert go_on.wait(WAIT_SECONDS)

    @workshop.step
    async def async_waits() -> None:
        await asyncio.to_thread(waits)

    workshop.start_worker(threads=1, async_limit=1)
    first = workshop.publish(name)
    second = workshop.publish(name)
    assert began.wait(WAIT_SECONDS)
    stopping = threading.Thread(target=workshop.stop, args=(WAIT_SECONDS,))

    stopping.start()
    # It waits in the queue for another worker while the first still runs here.
    other = workshop.redis_broker.consume("default", timeout=1000)
    taken = next(delivery for delivery in iter(lambda: next(other), object()) if delivery is not None)
    assert taken.message_id == second.message_id
    assert taken.number == 1
    go_on.set()
    stopping.join(WAIT_SECONDS)

    report = workshop.outcome()
    assert (report.seq, report.kind) == (first.seq, ReportKind.COMPLETED)


def test_an_outcome_waits_for_redis_to_come_back(
    workshop: RedisWorkshop, server: fakeredis.FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dramatiq_worker, "CONSUMER_RESTART_DELAY_SECS", 0.01)
    began, go_on = threading.Event(), threading.Event()

    @workshop.step
    def waits() -> str:
        began.set()
        assert go_on.wait(WAIT_SECONDS)
        return "kept"

    workshop.start_worker()
    workshop.publish("waits")
    assert began.wait(WAIT_SECONDS)
    refused = threading.Event()
    monkeypatch.setattr(RedisScripts, "finish", _telling(RedisScripts.finish, refused))
    server.connected = False
    go_on.set()
    assert refused.wait(WAIT_SECONDS)

    server.connected = True

    assert workshop.report().result == json.dumps("kept")
    workshop.stop()
    assert workshop.left() == set()


def _telling(finish: Callable[..., list[bool]], refused: threading.Event) -> Callable[..., list[bool]]:
    def tell(*args: Any) -> list[bool]:
        try:
            return finish(*args)
        except Exception:
            refused.set()
            raise

    return tell


def test_a_step_whose_worker_was_lost_says_that_it_begins_again(workshop: RedisWorkshop) -> None:
    @workshop.step
    def echo(value: int) -> int:
        return value

    _lose_a_worker_with(workshop, workshop.publish("echo", 7), begun_before=0)
    workshop.start_worker()

    began, ended = workshop.report(), workshop.report()
    workshop.stop()

    assert (began.kind, began.delivery) == (ReportKind.STARTED, 2)
    assert (ended.kind, ended.delivery, ended.result) == (ReportKind.COMPLETED, 2, "7")
    assert workshop.left() == set()


def test_a_step_that_was_begun_three_times_without_an_outcome_is_not_begun_again(workshop: RedisWorkshop) -> None:
    ran: list[int] = []

    @workshop.step
    def kills(value: int) -> None:
        ran.append(value)

    _lose_a_worker_with(workshop, workshop.publish("kills", 7), begun_before=2)
    workshop.start_worker()

    report = workshop.report()
    workshop.stop()

    assert (report.kind, report.error_type, report.fatal) == (ReportKind.FAILED, "WorkerLost", True)
    assert "begun 3 times" in report.message
    assert ran == []
    assert workshop.left() == set()


def test_workers_that_were_lost_with_earlier_attempts_count(workshop: RedisWorkshop) -> None:
    ran: list[int] = []

    @workshop.step
    def kills(value: int) -> None:
        ran.append(value)

    _lose_a_worker_with(workshop, workshop.publish("kills", 7, attempt=2, lost=2), begun_before=0)
    workshop.start_worker()

    report = workshop.report()
    workshop.stop()

    assert (report.kind, report.error_type) == (ReportKind.FAILED, "WorkerLost")
    assert "begun 3 times" in report.message
    assert ran == []


def test_the_heartbeat_of_a_delivery_whose_worker_was_lost_reaches_the_next(workshop: RedisWorkshop) -> None:
    @workshop.step
    def copy() -> list[Any]:
        about = current_step()
        assert about is not None
        return list(about.last_heartbeat)

    task = workshop.publish("copy")
    said = StepReport("r", 0, task.seq, 1, PARTITION, ReportKind.ALIVE, heartbeat=Payload('["page",7]'), beat=True)
    scripts = RedisScripts(workshop.client, workshop.namespace)
    scripts.say("default", task.message_id, encode_message(said), PARTITION)
    _lose_a_worker_with(workshop, task, begun_before=0)
    workshop.start_worker()

    alive, began, ended = workshop.report(), workshop.report(), workshop.report()
    workshop.stop()

    assert alive == said
    assert (began.kind, began.delivery) == (ReportKind.STARTED, 2)
    assert (ended.kind, ended.result) == (ReportKind.COMPLETED, '["page",7]')
    assert not workshop.client.exists(workshop.key("dramaturg:deliveries:default"))
    # Whoever lives on and speaks late leaves nothing behind.
    scripts.say("default", task.message_id, encode_message(said), PARTITION)
    assert not workshop.client.exists(workshop.key("dramaturg:deliveries:default"))


def test_a_heartbeat_with_details_is_kept_for_the_next_delivery(workshop: RedisWorkshop) -> None:
    may_end = threading.Event()

    @workshop.step
    def copy() -> None:
        about = current_step()
        assert about is not None
        about.heartbeat("page", 7)
        may_end.wait(WAIT_SECONDS)

    task = workshop.publish("copy")
    workshop.start_worker()
    said = workshop.report()
    kept = workshop.client.hget(workshop.key("dramaturg:deliveries:default"), f"{task.message_id}:said")
    may_end.set()
    workshop.stop()

    assert said.heartbeat == '["page",7]'
    assert decode_report(kept.decode()) == said


def _lose_a_worker_with(workshop: RedisWorkshop, task: StepTask, *, begun_before: int) -> None:
    """Have a step be taken by a worker that dies, for the first time or after others."""
    deliveries = workshop.key("dramaturg:deliveries:default")
    broker = RedisBroker(
        client=workshop.client, namespace=workshop.namespace, middleware=[], maintenance_chance=0, heartbeat_timeout=-1
    )
    assert next(broker.consume("default")) is not None
    assert broker.maintain(["default"]) == 1
    if begun_before:
        workshop.client.hset(deliveries, f"{task.message_id}:begun", begun_before)
