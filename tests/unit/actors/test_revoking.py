"""A worker hears of attempts that nobody waits for: it begins none of them, and stops those that it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import fakeredis
import pytest

from dramaturg_actors.context import current_step
from dramaturg_actors.redis_control import RedisControl
from dramaturg_actors.revocations import Revocations
from dramaturg_coordinator.redis_revoking import RedisRevoking
from dramaturg_protocol.errors import StepCancelled
from dramaturg_protocol.messages import ReportKind
from dramaturg_protocol.records import Revoked, RunWrites
from dramaturg_protocol.redis_keys import CONTROL_FIELD, RedisKeys
from tests.unit.actors.workshop import Workshop

WAIT = 60.0
KEYS = RedisKeys("ns")


@pytest.fixture
def client() -> Any:
    return fakeredis.FakeRedis(server=fakeredis.FakeServer())


class Heard:
    """Ids that were told, for the test to wait for."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self._changed = threading.Condition()

    def __call__(self, ids: Any) -> None:
        with self._changed:
            self.ids |= set(ids)
            self._changed.notify_all()

    def wait_for(self, *ids: str) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.ids >= set(ids), WAIT)


@pytest.fixture
def listen(client: Any) -> Iterator[Callable[[], Heard]]:
    controls: list[RedisControl] = []

    def begin() -> Heard:
        heard = Heard()
        controls.append(RedisControl(client, "ns", heard))
        controls[-1].start()
        return heard

    yield begin
    for control in controls:
        control.close()


def writes(*revoked: Revoked) -> list[RunWrites]:
    return [RunWrites("r", revoked=list(revoked))]


def test_the_oldest_are_forgotten_first() -> None:
    known = Revocations(limit=2)

    known.add(["a", "b"])
    known.add(["c"])

    assert [each in known for each in "abc"] == [False, True, True]


def test_a_message_is_deleted_and_every_worker_told(client: Any, listen: Callable[[], Heard]) -> None:
    first, second = listen(), listen()
    client.hset(KEYS.bodies("q"), mapping={"a": "body", "b": "body"})
    client.hset(KEYS.bodies("p"), mapping={"c": "body"})

    RedisRevoking(client, "ns")(writes(Revoked("a", "q"), Revoked("c", "p"), Revoked("d")))

    assert first.wait_for("a", "c", "d")
    assert second.wait_for("a", "c", "d")
    assert client.hkeys(KEYS.bodies("q")) == [b"b"]
    assert client.hkeys(KEYS.bodies("p")) == []


def test_a_worker_that_starts_later_hears_of_it_too(client: Any, listen: Callable[[], Heard]) -> None:
    RedisRevoking(client, "ns")(writes(Revoked("a", "q")))

    assert listen().wait_for("a")


def test_an_entry_that_cannot_be_read_holds_up_none(client: Any, listen: Callable[[], Heard]) -> None:
    heard = listen()
    client.xadd(KEYS.control, {CONTROL_FIELD: "{"})
    client.xadd(KEYS.control, {"x": "y"})
    client.xadd(KEYS.control, {CONTROL_FIELD: "7"})
    client.xadd(KEYS.control, {CONTROL_FIELD: '["a"]'})

    assert heard.wait_for("a")


def test_what_redis_did_not_take_goes_with_the_next_commit(client: Any, listen: Callable[[], Heard]) -> None:
    revoking = RedisRevoking(client, "ns")
    server = client.connection_pool.connection_kwargs["server"]
    server.connected = False
    revoking(writes(Revoked("a", "q")))
    server.connected = True

    revoking(writes())

    assert listen().wait_for("a")


def test_a_worker_that_was_cut_off_hears_of_it_again(client: Any, listen: Callable[[], Heard]) -> None:
    server = client.connection_pool.connection_kwargs["server"]
    server.connected = False
    heard = listen()
    server.connected = True

    RedisRevoking(client, "ns")(writes(Revoked("a")))

    assert heard.wait_for("a")


def test_an_attempt_that_was_taken_back_is_not_begun(workshop: Workshop) -> None:
    ran: list[int] = []

    @workshop.step
    def work(number: int) -> None:
        ran.append(number)

    worker = workshop.start()
    task = workshop.task("work", 1)
    worker.revoke([task.message_id])
    cancelled = workshop.run("work", 1, seq=task.seq)
    completed = workshop.run("work", 2)

    assert (cancelled.kind, cancelled.error_type) == (ReportKind.FAILED, "dramaturg_protocol.errors.StepCancelled")
    assert completed.kind is ReportKind.COMPLETED
    assert ran == [2]


def test_a_cancel_that_comes_before_the_code_lands_at_its_first_line(workshop: Workshop) -> None:
    ran: list[str] = []

    @workshop.step
    def work() -> None:
        ran.append("ran")

    @workshop.step
    async def wait() -> None:
        ran.append("ran")

    worker = workshop.start()

    class Hasty:
        """Revokes what another middleware is just shown."""

        def before_process_message(self, broker: Any, message: Any) -> None:
            worker.revoke([message.message_id])

    from dramatiq.middleware import Middleware

    middleware = type("HastyMiddleware", (Hasty, Middleware), {})()
    workshop.broker.add_middleware(middleware)

    assert workshop.run("work").error_type == "dramaturg_protocol.errors.StepCancelled"
    assert workshop.run("wait").error_type == "dramaturg_protocol.errors.StepCancelled"
    assert ran == []


def test_a_step_that_looks_sees_that_it_is_cancelled(workshop: Workshop) -> None:
    began = threading.Event()

    @workshop.step
    def work() -> str:
        step = current_step()
        assert step is not None
        began.set()
        while True:
            try:
                threading.Event().wait(0.001)
            except StepCancelled:
                return f"cancelled: {step.cancelled}"

    worker = workshop.start()
    task = workshop.send("work")
    assert began.wait(WAIT)
    worker.revoke([task.message_id])

    assert workshop.outcome().result == '"cancelled: True"'
