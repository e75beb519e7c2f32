"""Workers over RabbitMQ hear of attempts that nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from dramatiq.brokers.rabbitmq import RabbitmqBroker as StockRabbitmqBroker

from dramaturg_actors.amqp_control import AmqpControl
from dramaturg_actors.control_channel import control_over
from dramaturg_coordinator.amqp_revoking import amqp_revoking
from dramaturg_protocol.amqp import AmqpNames, parameters_of
from dramaturg_protocol.amqp_sending import AmqpSender, tell_workers
from dramaturg_protocol.records import Revoked, RunWrites
from tests.integration.rabbitmq.proxy import Proxy

PATIENCE = 60.0

pytestmark = [pytest.mark.slow]


class Heard:
    """Ids that were told, for the test to wait for."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self._changed = threading.Condition()

    def __call__(self, ids: Any) -> None:
        with self._changed:
            self.ids |= set(ids)
            self._changed.notify_all()

    def wait_for(self, *ids: str, seconds: float = PATIENCE) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.ids >= set(ids), seconds)


class Stage:
    """Coordinators and workers of one namespace, which reach RabbitMQ over a wire that can be cut."""

    def __init__(self, url: str, namespace: str) -> None:
        direct = parameters_of(url)
        self.names = AmqpNames(namespace)
        self.wire = Proxy(direct.host, direct.port)
        self._parameters = parameters_of(url)
        self._parameters.host, self._parameters.port = "127.0.0.1", self.wire.port
        self.sender = AmqpSender(direct)
        self._controls: list[AmqpControl] = []

    def listen(self) -> Heard:
        heard = Heard()
        self._controls.append(AmqpControl(self._parameters, self.names, heard))
        self._controls[-1].start()
        return heard

    def revoke(self, *ids: str) -> None:
        amqp_revoking(self.names, self.sender)([RunWrites("r", revoked=[Revoked(each) for each in ids])])

    def close(self) -> None:
        self.wire.mend()
        for control in self._controls:
            control.close()
        self.sender.close()
        self.wire.close()


@pytest.fixture
def stage(url: str, namespace: str) -> Iterator[Stage]:
    stage = Stage(url, namespace)
    yield stage
    stage.close()


def test_every_worker_hears_of_each(stage: Stage) -> None:
    heard = [stage.listen(), stage.listen()]

    stage.revoke(*(str(number) for number in range(1200)))

    for each in heard:
        assert each.wait_for(*(str(number) for number in range(1200)))


def test_a_message_that_cannot_be_read_holds_up_none(stage: Stage) -> None:
    heard = stage.listen()
    for body in (b"{", b"7", b"\xff"):
        stage.sender.send([tell_workers(stage.names, body)])

    stage.revoke("a")

    assert heard.wait_for("a")


def test_a_worker_that_was_cut_off_hears_again(stage: Stage) -> None:
    heard = stage.listen()
    stage.wire.cut()
    stage.wire.mend()

    # What is said before it is back is said to nobody.
    for number in range(int(PATIENCE)):
        stage.revoke(str(number))
        if heard.wait_for(str(number), seconds=1.0):
            return
    raise AssertionError("the worker hears nothing more")


def test_a_worker_whose_rabbitmq_is_away_starts_all_the_same(stage: Stage) -> None:
    stage.wire.cut()
    heard = stage.listen()
    stage.wire.mend()

    for number in range(int(PATIENCE)):
        stage.revoke(str(number))
        if heard.wait_for(str(number), seconds=1.0):
            return
    raise AssertionError("the worker hears nothing")


def test_an_applications_own_broker_hears_too(stage: Stage, url: str) -> None:
    control = control_over(StockRabbitmqBroker(url=url), lambda _: None)

    assert isinstance(control, AmqpControl)
