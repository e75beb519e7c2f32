"""The consumer of `RedisBroker`, over fakeredis."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import dramatiq
import fakeredis
import pytest
from dramatiq.errors import ConnectionClosed

from dramaturg_actors.deliveries import Delivery
from dramaturg_actors.pace import Pace
from dramaturg_actors.patience import Patience
from dramaturg_actors.redis_broker import RedisBroker
from dramaturg_actors.redis_consumer import RedisConsumer
from dramaturg_actors.redis_scripts import Fetched, Finished, RedisScripts
from dramaturg_actors.redis_waiting import QueueWaiter
from dramaturg_protocol.transport import TASK_OPTION

NAMESPACE = "tests"


@pytest.fixture(autouse=True)
def is_known_as_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consumers take as much as they may hold, as they do where steps are known to be quick."""
    monkeypatch.setattr("dramaturg_actors.pace.FIRST_ALLOWED", 1000)


@pytest.fixture
def server() -> fakeredis.FakeServer:
    return fakeredis.FakeServer()


@pytest.fixture
def client(server: fakeredis.FakeServer) -> Any:
    return fakeredis.FakeRedis(server=server)


@pytest.fixture
def broker(client: Any) -> RedisBroker:
    return a_broker(client)


def a_broker(client: Any) -> RedisBroker:
    return RedisBroker(client=client, namespace=NAMESPACE, middleware=[], maintenance_chance=0)


def put(broker: RedisBroker, count: int = 1) -> list[str]:
    return _put(broker, count, {})


def put_step(broker: RedisBroker) -> str:
    return _put(broker, 1, {TASK_OPTION: "{}"})[0]


def _put(broker: RedisBroker, count: int, options: dict[str, Any]) -> list[str]:
    ids: list[str] = []
    for _ in range(count):
        message: dramatiq.Message[Any] = dramatiq.Message("q", "an_actor", (), {}, options)
        sent: dramatiq.Message[Any] = broker.enqueue(message)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        ids.append(sent.options["redis_message_id"])
    return ids


def taken(consumer: RedisConsumer) -> Delivery:
    delivery = next(consumer)
    assert delivery is not None
    return delivery


def begun(consumer: RedisConsumer) -> Delivery:
    delivery = taken(consumer)
    assert delivery.begin(never)
    return delivery


def never() -> bool:
    return False


def nobody() -> None:
    """Whom it does not matter to that a report is out."""


def keys(client: Any) -> set[str]:
    """What there is but for signs of life and counts."""
    found = {key.decode().removeprefix(f"{NAMESPACE}:") for key in client.keys("*")}
    return {key for key in found if not key.startswith(("__heartbeats__", "dramaturg:deliveries"))}


def test_a_message_is_given_once_and_gone_when_it_is_acknowledged(broker: RedisBroker, client: Any) -> None:
    put(broker)
    consumer = broker.consume("q", timeout=10)

    consumer.ack(taken(consumer))

    assert next(consumer) is None
    assert keys(client) == set()
    assert client.hlen(f"{NAMESPACE}:dramaturg:deliveries:q") == 0


def test_a_report_and_the_removal_are_one_script(broker: RedisBroker, client: Any) -> None:
    put_step(broker)
    delivery = taken(broker.consume("q"))

    delivery.finish("the report", 5, nobody)

    assert keys(client) == {"dramaturg:reports:5"}
    assert [fields for _, fields in client.xrange(f"{NAMESPACE}:dramaturg:reports:5")] == [{b"r": b"the report"}]


def test_ends_that_gather_while_others_leave_go_with_the_next_call_and_hold_nobody(
    broker: RedisBroker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        put_step(broker)
    consumer = broker.consume("q", prefetch=4)
    first, *others = [begun(consumer) for _ in range(4)]
    finish = RedisScripts.finish
    calls: list[int] = []
    told: list[str] = []

    def meanwhile_others_end(scripts: RedisScripts, name: str, holders: Any, finished: list[Finished]) -> list[bool]:
        calls.append(len(finished))
        if len(calls) == 1:
            for each in others:
                # In another thread in earnest; this one holds no lock here.
                each.finish(f"{each.id} ended", 5, partial(told.append, each.id))
            assert told == []
        return finish(scripts, name, holders, finished)

    monkeypatch.setattr(RedisScripts, "finish", meanwhile_others_end)

    first.finish(f"{first.id} ended", 5, partial(told.append, first.id))

    assert calls == [1, 3]
    assert told == [first.id, *(each.id for each in others)]
    reports = [fields[b"r"].decode() for _, fields in client.xrange(f"{NAMESPACE}:dramaturg:reports:5")]
    assert reports == [f"{each} ended" for each in told]
    assert keys(client) == {"dramaturg:reports:5"}


def test_what_is_ending_is_neither_acknowledged_nor_handed_back(
    broker: RedisBroker, server: fakeredis.FakeServer, client: Any
) -> None:
    put_step(broker)
    consumer = broker.consume("q")
    delivery = taken(consumer)
    server.connected = False
    with pytest.raises(ConnectionClosed):
        delivery.finish("the report", 5, nobody)
    server.connected = True

    consumer.ack(delivery)
    consumer.requeue([delivery])

    assert client.sismember(f"{NAMESPACE}:__acks__.{consumer.name}.q", delivery.id)
    delivery.finish("the report", 5, nobody)
    assert keys(client) == {"dramaturg:reports:5"}
    assert client.xlen(f"{NAMESPACE}:dramaturg:reports:5") == 1


def test_an_end_whose_thread_gave_up_goes_out_before_the_next_fetch(
    broker: RedisBroker, server: fakeredis.FakeServer, client: Any
) -> None:
    put_step(broker)
    told: list[str] = []
    broken = broker.consume("q", prefetch=2)
    delivery = taken(broken)
    server.connected = False
    with pytest.raises(ConnectionClosed):
        delivery.finish("the report", 5, lambda: told.append("out"))
    broken.close()
    server.connected = True

    assert next(broker.consume("q", timeout=10)) is None

    assert told == ["out"]
    assert keys(client) == {"dramaturg:reports:5"}


def test_while_redis_is_away_every_end_waits_for_it(broker: RedisBroker, server: fakeredis.FakeServer) -> None:
    for _ in range(2):
        put_step(broker)
    consumer = broker.consume("q", prefetch=2)
    first, second = begun(consumer), begun(consumer)
    server.connected = False
    with pytest.raises(ConnectionClosed):
        first.finish("the report", 5, nobody)

    with pytest.raises(ConnectionClosed):
        second.finish("the report", 5, nobody)

    server.connected = True
    second.finish("the report", 5, nobody)
    assert first.is_over
    assert second.is_over


def test_ending_a_finished_message_again_does_nothing(broker: RedisBroker, client: Any) -> None:
    put_step(broker)
    consumer = broker.consume("q")
    delivery = taken(consumer)
    delivery.finish("the report", 5, nobody)

    consumer.ack(delivery)
    consumer.nack(delivery)

    assert keys(client) == {"dramaturg:reports:5"}


def test_a_report_of_a_message_that_was_returned_meanwhile_goes_out_and_ends_it(
    broker: RedisBroker, client: Any
) -> None:
    put_step(broker)
    delivery = taken(broker.consume("q"))
    broker.heartbeat_timeout = -1
    assert broker.maintain(["q"]) == 1

    delivery.finish("the report", 5, nobody)

    # The id is left, and whoever fetches it finds that there is nothing to do.
    assert keys(client) == {"q", "dramaturg:reports:5"}
    assert next(broker.consume("q", timeout=10)) is None
    assert keys(client) == {"dramaturg:reports:5"}


def test_a_plain_message_that_was_returned_meanwhile_stays(broker: RedisBroker, client: Any) -> None:
    put(broker)
    consumer = broker.consume("q")
    delivery = taken(consumer)
    broker.heartbeat_timeout = -1
    broker.maintain(["q"])

    consumer.ack(delivery)

    assert taken(broker.consume("q")).number == 2


def test_a_refused_message_of_a_plain_actor_is_a_dead_letter_until_its_time(broker: RedisBroker, client: Any) -> None:
    (message_id,) = put(broker)
    consumer = broker.consume("q")

    consumer.nack(taken(consumer))

    assert client.zrange(f"{NAMESPACE}:q.XQ", 0, -1) == [message_id.encode()]
    assert client.hexists(f"{NAMESPACE}:q.XQ.msgs", message_id)
    broker.dead_message_ttl = -1
    broker.maintain(["q"])
    assert keys(client) == set()


def test_a_refused_step_leaves_no_dead_letter(broker: RedisBroker, client: Any) -> None:
    put_step(broker)
    consumer = broker.consume("q")

    consumer.nack(taken(consumer))

    assert keys(client) == set()


BAD_BODIES = {
    "truncated": b'{"queue_name": "q", "act',
    "no JSON": b"\xff\x00garbage",
    "no object": b"[1, 2]",
    "another queue": b'{"queue_name":"other","actor_name":"a","args":[],"kwargs":{},"options":{},"message_id":"1",'
    b'"message_timestamp":1}',
    "wrong kinds": b'{"queue_name":"q","actor_name":7,"args":[],"kwargs":{},"options":null,"message_id":"1",'
    b'"message_timestamp":1}',
}


@pytest.mark.parametrize("kind", BAD_BODIES)
def test_what_is_no_message_is_put_aside_alone_with_a_note(broker: RedisBroker, client: Any, kind: str) -> None:
    first, *_ = put(broker)
    client.hset(f"{NAMESPACE}:q.msgs", "bad", BAD_BODIES[kind])
    client.rpush(f"{NAMESPACE}:q", "bad")
    *_, last = put(broker)
    consumer = broker.consume("q", prefetch=8)

    assert [taken(consumer).id for _ in range(2)] == [first, last]
    notes = [json.loads(note) for note in client.lrange(f"{NAMESPACE}:dramaturg:garbage", 0, -1)]
    assert [(note["queue"], note["id"]) for note in notes] == [("q", "bad")]
    assert notes[0]["reason"]
    assert notes[0]["text"].startswith(BAD_BODIES[kind].decode("utf-8", "backslashreplace")[:10])
    assert not client.hexists(f"{NAMESPACE}:q.msgs", "bad")
    assert not client.sismember(f"{NAMESPACE}:__acks__.{consumer.name}.q", "bad")


def test_an_id_whose_body_was_deleted_is_skipped_and_not_held(broker: RedisBroker, client: Any) -> None:
    cancelled, stays = put(broker, 2)
    client.hdel(f"{NAMESPACE}:q.msgs", cancelled)
    consumer = broker.consume("q", prefetch=8)

    assert taken(consumer).id == stays
    assert client.smembers(f"{NAMESPACE}:__acks__.{consumer.name}.q") == {stays.encode()}


def test_deliveries_are_counted_and_what_was_never_begun_is_none(broker: RedisBroker) -> None:
    put(broker)
    first = broker.consume("q")
    first.requeue([taken(first)])
    second = broker.consume("q")

    assert taken(second).number == 1
    broker.heartbeat_timeout = -1
    broker.maintain(["q"])
    assert taken(broker.consume("q")).number == 2


def test_what_is_handed_back_returns_to_the_head_in_its_order(broker: RedisBroker) -> None:
    ids = put(broker, 4)
    consumer = broker.consume("q", prefetch=3)
    deliveries = [taken(consumer) for _ in range(3)]

    consumer.requeue(deliveries)

    again = broker.consume("q", prefetch=8)
    assert [taken(again).id for _ in range(4)] == ids


def test_no_more_than_the_prefetch_is_held_and_room_is_used_when_half_of_it_is_free(broker: RedisBroker) -> None:
    put(broker, 4)
    consumer = broker.consume("q", prefetch=2, timeout=10)
    first, second = taken(consumer), taken(consumer)

    assert next(consumer) is None
    consumer.ack(first)
    assert next(consumer) is not None
    consumer.ack(second)
    assert next(consumer) is not None


def test_a_queue_that_gave_less_than_it_was_asked_for_is_waited_for_before_it_is_asked_again(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fetch, wait = RedisScripts.fetch, QueueWaiter.wait

    def noted_fetch(self: RedisScripts, queue: str, holder: str, limit: int) -> tuple[bool, list[Fetched]]:
        calls.append("fetch")
        return fetch(self, queue, holder, limit)

    def noted_wait(self: QueueWaiter, seconds: float) -> None:
        calls.append("wait")
        wait(self, seconds)

    monkeypatch.setattr(RedisScripts, "fetch", noted_fetch)
    monkeypatch.setattr(QueueWaiter, "wait", noted_wait)
    put(broker, 8)
    consumer = broker.consume("q", prefetch=4, timeout=60_000)

    for _ in range(8):
        consumer.ack(taken(consumer))
    assert calls == ["fetch", "fetch"]

    put(broker, 1)
    consumer.ack(taken(consumer))
    put(broker, 1)
    consumer.ack(taken(consumer))
    assert calls[2:] == ["fetch", "wait", "fetch"]


def test_of_long_steps_one_waits_and_the_rest_is_left_to_other_workers(
    broker: RedisBroker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dramaturg_actors.pace.FIRST_ALLOWED", 1)
    for _ in range(5):
        put_step(broker)
    consumer = broker.consume("q", prefetch=100, timeout=10)

    running = [begun(consumer), begun(consumer)]
    waiting = taken(consumer)

    assert next(consumer) is None
    assert client.llen(f"{NAMESPACE}:q") == 2
    assert waiting.begin(never)
    assert next(consumer) is not None
    assert not any(each.is_over for each in running)


def test_of_quick_steps_many_wait_and_are_fetched_at_once(
    broker: RedisBroker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dramaturg_actors.pace.FIRST_ALLOWED", 1)
    for _ in range(20):
        put_step(broker)
    consumer = broker.consume("q", prefetch=100, timeout=10)

    for _ in range(3):
        begun(consumer).finish("the report", 5, nobody)

    taken(consumer)
    assert client.llen(f"{NAMESPACE}:q") == 20 - 3 - 8


def test_a_step_that_had_to_wait_long_leaves_room_for_fewer() -> None:
    pace = Pace(64)
    assert pace.allowed == 64
    pace.begun(1.0)
    assert pace.allowed == 32

    pace.begun(0.0)
    pace.ended(0.0, 1)
    assert pace.allowed == 32
    pace.begun(1.0)
    assert pace.allowed == 16
    for _ in range(9):
        pace.ended(60.0, 0)
    assert pace.allowed == 1
    for _ in range(9):
        pace.ended(0.0, 0)
    assert pace.allowed == 64


def test_an_acknowledgement_ends_the_wait_of_a_full_consumer(broker: RedisBroker) -> None:
    put(broker, 2)
    consumer = broker.consume("q", timeout=60_000)
    delivery = taken(consumer)
    answers: queue.Queue[object] = queue.Queue()
    thread = threading.Thread(target=lambda: answers.put(next(consumer) or next(consumer)), daemon=True)
    thread.start()

    consumer.ack(delivery)

    assert answers.get(timeout=10) is not None
    thread.join(10)


@pytest.mark.parametrize("is_full", [True, False])
def test_a_waiting_consumer_can_be_woken(broker: RedisBroker, is_full: bool) -> None:
    consumer = broker.consume("q", timeout=60_000)
    if is_full:
        put(broker)
        assert next(consumer) is not None
    answers: queue.Queue[object] = queue.Queue()
    thread = threading.Thread(target=lambda: answers.put(next(consumer)), daemon=True)
    thread.start()

    consumer.wake()

    assert answers.get(timeout=10) is None
    thread.join(10)


def test_a_consumer_that_takes_nothing_goes_on_to_hold_what_it_has(broker: RedisBroker, client: Any) -> None:
    held, stays = put(broker, 2)
    consumer = broker.consume("q", prefetch=1, timeout=10)
    delivery = taken(consumer)

    consumer.take_nothing()
    consumer.ack(delivery)

    assert next(consumer) is None
    assert client.lrange(f"{NAMESPACE}:q", 0, -1) == [stays.encode()]
    assert not client.hexists(f"{NAMESPACE}:q.msgs", held)


# -- a consumer that Redis does not know any more


def unconfirmed(patience: float) -> bool:
    return False


def put_again(client: Any, delivery: Delivery) -> None:
    client.hset(f"{NAMESPACE}:q.msgs", delivery.id, delivery.encode())
    client.rpush(f"{NAMESPACE}:q", delivery.id)


def test_once_redis_was_emptied_what_was_not_begun_never_begins_and_what_was_reports(
    broker: RedisBroker, client: Any
) -> None:
    for _ in range(2):
        put_step(broker)
    consumer = broker.consume("q", prefetch=8, timeout=10)
    running, unbegun = begun(consumer), taken(consumer)
    client.flushall()

    assert next(consumer) is None

    assert not unbegun.begin(never)
    consumer.ack(unbegun)
    running.finish("the report", 5, nobody)
    assert keys(client) == {"dramaturg:reports:5"}


def test_a_step_that_is_published_again_after_that_is_a_message_of_its_own(broker: RedisBroker, client: Any) -> None:
    put_step(broker)
    consumer = broker.consume("q", prefetch=8, timeout=10)
    lost = taken(consumer)
    client.flushall()
    put_again(client, lost)

    found = taken(consumer)

    assert found.id == lost.id
    assert not lost.begin(never)
    consumer.ack(lost)
    assert found.begin(never)
    found.finish("the report", 5, nobody)
    assert keys(client) == {"dramaturg:reports:5"}


def test_a_step_that_was_begun_is_not_taken_a_second_time_and_ends_its_successor_too(
    broker: RedisBroker, client: Any
) -> None:
    put_step(broker)
    consumer = broker.consume("q", prefetch=8, timeout=10)
    delivery = taken(consumer)
    assert delivery.begin(never)
    client.flushall()
    put_again(client, delivery)

    assert next(consumer) is None

    delivery.finish("the report", 5, nobody)
    assert keys(client) == {"dramaturg:reports:5"}


def test_what_was_returned_because_its_consumer_was_silent_is_begun_by_its_next_taker_alone(
    broker: RedisBroker, client: Any
) -> None:
    put_step(broker)
    silent = broker.consume("q", prefetch=8, timeout=10)
    returned = taken(silent)
    broker.heartbeat_timeout = -1
    assert broker.maintain(["q"]) == 1
    found = taken(broker.consume("q", timeout=10))

    assert next(silent) is None

    assert not returned.begin(never)
    assert found.begin(never)


def test_a_plain_message_is_kept_since_nobody_sends_it_again(broker: RedisBroker, client: Any) -> None:
    put(broker)
    consumer = broker.consume("q", prefetch=8, timeout=10)
    delivery = taken(consumer)
    client.flushall()

    assert next(consumer) is None

    assert not delivery.is_over


@pytest.mark.parametrize("is_emptied", [False, True])
def test_where_the_last_sign_of_life_is_old_a_step_begins_after_the_next(
    broker: RedisBroker, client: Any, is_emptied: bool
) -> None:
    put_step(broker)
    consumer = broker.consume("q", prefetch=8, timeout=10)
    delivery = taken(consumer)
    consumer.is_confirmed = unconfirmed  # type: ignore[method-assign]
    looks: queue.Queue[None] = queue.Queue()
    answers: queue.Queue[bool] = queue.Queue()

    def is_stopping() -> bool:
        looks.put(None)
        return False

    thread = threading.Thread(target=lambda: answers.put(delivery.begin(is_stopping)), daemon=True)
    thread.start()
    looks.get(timeout=10)
    if is_emptied:
        client.flushall()
    assert answers.empty()

    assert next(consumer) is None
    del consumer.is_confirmed

    assert answers.get(timeout=10) is not is_emptied
    thread.join(10)


def test_a_word_of_redis_counts_for_a_while_from_before_it_was_asked(broker: RedisBroker) -> None:
    consumer = broker.consume("q", timeout=10)
    assert not consumer.is_confirmed(0)

    assert next(consumer) is None

    assert consumer.is_confirmed(0)


def test_a_stopping_worker_hands_back_what_it_has_no_word_on(broker: RedisBroker) -> None:
    message_id = put_step(broker)
    consumer = broker.consume("q", timeout=10)
    delivery = taken(consumer)
    consumer.is_confirmed = unconfirmed  # type: ignore[method-assign]

    assert not delivery.begin(lambda: True)

    again = taken(broker.consume("q"))
    assert (again.id, again.number) == (message_id, 1)


def test_what_a_stopping_worker_cannot_hand_back_is_not_acknowledged_either(
    broker: RedisBroker, server: fakeredis.FakeServer, client: Any
) -> None:
    put_step(broker)
    consumer = broker.consume("q", timeout=10)
    delivery = taken(consumer)
    consumer.is_confirmed = unconfirmed  # type: ignore[method-assign]
    server.connected = False
    assert not delivery.begin(lambda: True)
    server.connected = True

    consumer.ack(delivery)

    assert client.hexists(f"{NAMESPACE}:q.msgs", delivery.id)
    assert client.sismember(f"{NAMESPACE}:__acks__.{consumer.name}.q", delivery.id)


# -- lost connections


@pytest.mark.parametrize("is_emptied", [False, True])
def test_after_a_lost_connection_a_step_begins_only_if_redis_still_knows_of_it(
    broker: RedisBroker, server: fakeredis.FakeServer, client: Any, is_emptied: bool
) -> None:
    put_step(broker)
    broken = broker.consume("q", prefetch=2)
    delivery = taken(broken)
    server.connected = False
    broken.close()
    server.connected = True
    if is_emptied:
        client.flushall()

    assert next(broker.consume("q", prefetch=3, timeout=10)) is None

    assert delivery.begin(never) is not is_emptied


def test_what_was_taken_over_by_a_consumer_that_never_heard_so_returns(
    broker: RedisBroker, server: fakeredis.FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    message_id = put_step(broker)
    first = broker.consume("q", prefetch=2)
    delivery = taken(first)
    first.close()
    second = broker.consume("q")

    take_over = RedisScripts.take_over

    def take_over_and_lose(*args: Any) -> None:
        take_over(*args)
        raise ConnectionClosed("its answer was lost")  # type: ignore[no-untyped-call]

    with monkeypatch.context() as patch:
        patch.setattr(RedisScripts, "take_over", take_over_and_lose)
        with pytest.raises(ConnectionClosed):
            next(second)
    second.close()
    third = broker.consume("q", prefetch=3, timeout=10)

    found = taken(third)

    assert found.id == message_id
    assert not delivery.begin(never)
    assert found.begin(never)


def test_all_that_redis_refuses_is_an_error_that_dramatiq_tries_again(
    broker: RedisBroker, server: fakeredis.FakeServer
) -> None:
    put(broker, 2)
    consumer = broker.consume("q", prefetch=2)
    plain, other = taken(consumer), taken(consumer)
    server.connected = False

    failing: list[Callable[[], object]] = [
        lambda: consumer.ack(plain),
        lambda: consumer.nack(plain),
        lambda: consumer.requeue([plain]),
        lambda: other.finish("report", 1, nobody),
        lambda: other.put_aside("because"),
        lambda: next(broker.consume("q")),
        lambda: broker.maintain(["q"]),
    ]
    for call in failing:
        with pytest.raises(ConnectionClosed, match="Redis does not do its work"):
            call()

    server.connected = True
    consumer.ack(plain)
    other.finish("report", 1, nobody)
    assert next(broker.consume("q", timeout=10)) is None


def test_after_a_lost_connection_what_nobody_saw_returns_and_what_is_worked_on_stays(
    broker: RedisBroker, server: fakeredis.FakeServer, client: Any
) -> None:
    worked_on, unseen = put(broker, 2)
    broken = broker.consume("q", prefetch=2)
    delivery = taken(broken)
    server.connected = False
    broken.close()
    server.connected = True

    consumer = broker.consume("q", prefetch=3, timeout=10)

    assert consumer.name != broken.name
    assert taken(consumer).id == unseen
    assert next(consumer) is None
    assert client.smembers(f"{NAMESPACE}:__acks__.{consumer.name}.q") == {worked_on.encode(), unseen.encode()}
    assert not client.exists(f"{NAMESPACE}:__acks__.{broken.name}.q")
    consumer.ack(delivery)
    assert not client.hexists(f"{NAMESPACE}:q.msgs", worked_on)


def test_what_could_not_be_handed_back_returns_with_the_next_consumer(
    broker: RedisBroker, server: fakeredis.FakeServer
) -> None:
    (given,) = put(broker)
    broken = broker.consume("q")
    delivery = taken(broken)
    server.connected = False
    with pytest.raises(ConnectionClosed):
        broken.requeue([delivery])
    broken.close()
    server.connected = True

    assert taken(broker.consume("q")).id == given


def test_what_outlives_two_lost_connections_can_still_be_ended(
    broker: RedisBroker, server: fakeredis.FakeServer, client: Any
) -> None:
    put(broker)
    first = broker.consume("q")
    delivery = taken(first)
    server.connected = False
    first.close()
    second = broker.consume("q")
    with pytest.raises(ConnectionClosed):
        next(second)
    second.close()
    server.connected = True
    third = broker.consume("q", timeout=10)

    assert next(third) is None
    third.ack(delivery)

    assert keys(client) == set()


def test_delayed_messages_return_after_a_lost_connection_since_dramatiq_forgets_them(
    broker: RedisBroker, server: fakeredis.FakeServer
) -> None:
    message: dramatiq.Message[Any] = dramatiq.Message("q", "an_actor", (), {}, {})
    broker.enqueue(message, delay=60_000)  # pyright: ignore[reportUnknownMemberType]
    broken = broker.consume("q.DQ", prefetch=1000)
    delivery = taken(broken)
    server.connected = False
    broken.close()
    server.connected = True

    assert taken(broker.consume("q.DQ", prefetch=1000)).id == delivery.id


# -- actors that are not known here


def test_a_message_put_off_is_handed_back_to_the_tail_after_a_pause(broker: RedisBroker) -> None:
    put_off, other = put(broker, 2)
    broker.patience = Patience(seconds=60, first_pause=0.0)
    consumer = broker.consume("q", prefetch=1, timeout=10)

    assert taken(consumer).put_off()

    first, second = taken(consumer), None
    assert first.id == other
    consumer.ack(first)
    second = taken(consumer)
    assert (second.id, second.number) == (put_off, 1)


def test_patience_ends(broker: RedisBroker) -> None:
    put(broker)
    broker.patience = Patience(seconds=0, first_pause=0.0)
    consumer = broker.consume("q", timeout=10)

    assert not taken(consumer).put_off()


def test_what_was_put_off_is_handed_back_when_the_consumer_closes(broker: RedisBroker) -> None:
    (message_id,) = put(broker)
    consumer = broker.consume("q", timeout=10)
    assert taken(consumer).put_off()

    consumer.close()

    assert taken(broker.consume("q")).id == message_id
