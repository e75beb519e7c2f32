"""Garbage, truncated and foreign messages in every queue and stream: put aside, logged, and everything else goes on."""

from __future__ import annotations

from collections import Counter
from typing import Any

import dramatiq
import pytest
from pydantic_core import to_json

from dramaturg_protocol.ids import new_message_id, run_id_of_message
from dramaturg_protocol.redis_keys import START_QUEUE
from dramaturg_store.database import Database
from tests.integration.fleet.fleets import PATIENCE, STEPS, Fleet, wait_until

pytestmark = [pytest.mark.slow]


def put(fleet: Fleet, queue: str, body: bytes) -> str:
    """Put a body into a queue, as a Dramatiq producer does; its id."""
    server: Any = fleet.redis
    message_id = new_message_id()
    server.hset(fleet.keys.bodies(queue), message_id, body)
    server.rpush(fleet.keys.queue(queue), message_id)
    return message_id


def a_message(queue: str, actor: str, **kwargs: Any) -> bytes:
    """What any Dramatiq producer sends, without a line of ours."""
    message: dramatiq.Message[Any] = dramatiq.Message(queue, actor, (), kwargs, {})
    return to_json({**message.asdict(), "options": {"redis_message_id": message.message_id}})


def letters_of(fleet: Fleet) -> Counter[str]:
    with Database(fleet.database_url, fleet.namespace) as database:
        return Counter(letter.source for letter in database.letters.list())


def test_everything_else_goes_on(fleet: Fleet) -> None:
    server: Any = fleet.redis
    coordinator, worker = fleet.coordinator(), fleet.worker()
    coordinator.wait_for("holding")
    fleet.child_of(worker)

    for queue in ("default", START_QUEUE):
        whole = a_message(queue, "start", workflow="chain", args=[1])
        for body in (b"", b"\xff\x00", b"{}", b"[]", whole[: len(whole) // 2]):
            put(fleet, queue, body)
        put(fleet, queue, a_message(queue, "somebody_elses", order=1))
        server.rpush(fleet.keys.queue(queue), "an-id-without-a-body")
    for kwargs in ({}, {"workflow": 1}, {"workflow": "chain", "args": "1"}, {"workflow": "chain", "colour": "red"}):
        put(fleet, START_QUEUE, a_message(START_QUEUE, "start", **kwargs))
    with Database(fleet.database_url, fleet.namespace) as database:
        streams = [fleet.keys.reports(partition) for partition in database.partitions]
    for stream in [*streams, fleet.keys.wakes]:
        server.xadd(stream, {"r": b"\xff"})
        server.xadd(stream, {"r": '{"run_id": "x", "ge'})
        server.xadd(stream, {"somebody": "else"})

    good = put(fleet, START_QUEUE, a_message(START_QUEUE, "start", workflow="chain", args=[5]))
    handles = fleet.start("chain", 20)

    assert fleet.client.results(handles, timeout=PATIENCE) == [number + STEPS for number in range(20)]
    assert "please report this" not in coordinator.said()
    wait_until(lambda: letters_of(fleet)["report"] == 3 * len(streams))
    wait_until(lambda: letters_of(fleet)["entry"] == 5)
    wait_until(lambda: letters_of(fleet)["queue"] >= 10)
    coordinator.wait_for("a start message is put aside")
    coordinator.wait_for("a report is put aside")
    worker.wait_for("is put aside")
    assert good


def test_a_plain_message_of_a_process_without_our_package_starts_a_run(fleet: Fleet) -> None:
    fleet.coordinator()
    fleet.child_of(fleet.worker())
    script = f"""
import dramatiq, sys
from dramatiq.brokers.redis import RedisBroker

broker = RedisBroker(url={fleet.settings.broker_url!r}, namespace={fleet.namespace!r})
message = dramatiq.Message("{START_QUEUE}", "start", (), {{"workflow": "chain", "args": [7], "tags": {{"by": "hand"}}}}, {{}})
broker.declare_queue("{START_QUEUE}")
broker.enqueue(message)
assert not [name for name in sys.modules if name.startswith("dramaturg")]
print("sent", message.message_id)
"""
    message_id = fleet.script(script).wait_for(r"sent (\S+)")

    handle = fleet.client.handle("", run_id_of_message(message_id))
    wait_until(lambda: _is_known(handle))
    assert handle.result(timeout=PATIENCE) == 7 + STEPS
    assert handle.describe().tags == {"by": "hand"}


def _is_known(handle: Any) -> bool:
    from dramaturg import NotFound

    try:
        handle.describe()
    except NotFound:
        return False
    return True
