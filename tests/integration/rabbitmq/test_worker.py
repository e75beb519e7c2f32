"""A worker over RabbitMQ, with the coordinator's side played by the test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.rabbitmq import RabbitmqBroker as StockRabbitmqBroker

from dramaturg_actors.rabbitmq_broker import RabbitmqBroker
from dramaturg_coordinator.amqp_reports import AmqpReports
from dramaturg_protocol.amqp import connect, parameters_of
from dramaturg_protocol.amqp_inspection import AmqpInspector
from dramaturg_protocol.messages import ReportKind, StepReport
from dramaturg_protocol.records import DeadLetter
from tests.integration.rabbitmq.proxy import Proxy
from tests.services import delete_queues
from tests.unit.actors.workshop import Workshop

PATIENCE = 60.0
PARTITION = 3

pytestmark = [pytest.mark.slow]


class RabbitmqWorkshop(Workshop):
    """A workshop whose worker reaches RabbitMQ over a wire that can be cut."""

    def __init__(self, url: str, namespace: str) -> None:
        direct = parameters_of(url)
        self.wire = Proxy(direct.host, direct.port)
        parameters = parameters_of(url)
        parameters.host, parameters.port = "127.0.0.1", self.wire.port
        self.rabbit = RabbitmqBroker(parameters=parameters, middleware=[], namespace=namespace)
        super().__init__(self.rabbit)
        self.direct = direct
        self.inspector = AmqpInspector(direct)
        self.heard = AmqpReports(direct, self.rabbit.names, [PARTITION])

    def start_worker(self) -> None:
        self.start(self.rabbit.report, threads=2)

    def hear(self) -> StepReport | DeadLetter:
        """The next thing that a coordinator hears, but for the pick-up of a step that takes longer than two seconds."""
        for _ in range(int(PATIENCE)):
            said = self.heard.take(1)
            if not said:
                self.heard.wait(timedelta(seconds=1))
                continue
            self.heard.acknowledge(1)
            if isinstance(said[0], DeadLetter) or said[0].kind is not ReportKind.STARTED:
                return said[0]
        raise AssertionError("nothing was reported")

    def wait_until_empty(self) -> None:
        """Wait until the queue has nothing more, neither waiting nor with a worker."""
        for _ in range(int(PATIENCE) * 10):
            connection: Any = connect(self.direct)
            channel = connection.channel()
            left = channel.queue_declare(self.rabbit.names.wire("default"), passive=True).method
            connection.close()
            if not left.message_count:
                return
            threading.Event().wait(0.1)
        raise AssertionError("messages are left")

    def close(self) -> None:
        self.wire.mend()
        self.stop(1.0)
        self.rabbit.close()
        self.heard.close()
        self.inspector.close()
        self.wire.close()
        delete_queues(self.rabbit.namespace, self.rabbit.get_declared_queues(), [PARTITION])


@pytest.fixture
def make_shop(url: str, namespace: str) -> Iterator[Callable[[], RabbitmqWorkshop]]:
    made: list[RabbitmqWorkshop] = []

    def make() -> RabbitmqWorkshop:
        made.append(RabbitmqWorkshop(url, namespace))
        return made[-1]

    yield make
    for shop in made:
        shop.close()


@pytest.fixture
def shop(make_shop: Callable[[], RabbitmqWorkshop]) -> RabbitmqWorkshop:
    return make_shop()


def test_a_step_ends_with_its_report_and_leaves_nothing(shop: RabbitmqWorkshop) -> None:
    @shop.step
    def double(number: int) -> int:
        return 2 * number

    shop.start_worker()
    task = shop.send("double", 21)
    said = shop.hear()

    assert isinstance(said, StepReport)
    assert (said.kind, said.seq, said.result) == (ReportKind.COMPLETED, task.seq, "42")
    shop.stop()
    # What was not acknowledged would be back by now.
    assert shop.inspector.counts([shop.rabbit.names.wire("default")]) == {shop.rabbit.names.wire("default"): 0}


def test_a_step_that_runs_while_its_connection_is_lost_is_reported_and_does_not_begin_again_here(
    shop: RabbitmqWorkshop,
) -> None:
    begun, may_end = threading.Semaphore(0), threading.Event()
    runs: list[int] = []

    @shop.step
    def hold(number: int) -> int:
        runs.append(number)
        begun.release()
        may_end.wait(PATIENCE)
        return number

    shop.start_worker()
    shop.send("hold", 1)
    assert begun.acquire(timeout=PATIENCE)

    shop.wire.cut()
    may_end.set()
    shop.wire.mend()
    said = shop.hear()
    shop.send("hold", 2)
    after = shop.hear()

    assert isinstance(said, StepReport)
    assert isinstance(after, StepReport)
    assert (said.result, after.result) == ("1", "2")
    shop.wait_until_empty()
    assert runs == [1, 2]


def test_what_is_no_message_is_put_aside_alone(shop: RabbitmqWorkshop) -> None:
    @shop.step
    def double(number: int) -> int:
        return 2 * number

    connection: Any = connect(shop.direct)
    channel = connection.channel()
    shop.rabbit.names.declare_tasks(channel, "default")
    for body in (b"\xff no json", b'{"queue_name": 3}'):
        channel.basic_publish("", shop.rabbit.names.wire("default"), body)
    connection.close()
    shop.send("double", 1)
    shop.start_worker()

    heard = [shop.hear() for _ in range(3)]

    letters = [each for each in heard if isinstance(each, DeadLetter)]
    assert [each.reason.startswith("queue default: not a Dramatiq message") for each in letters] == [True, True]
    assert letters[0].body == "\\xff no json"
    assert [each.result for each in heard if isinstance(each, StepReport)] == ["2"]


def test_a_worker_that_stops_hands_back_what_it_did_not_begin(make_shop: Callable[[], RabbitmqWorkshop]) -> None:
    first, second = make_shop(), make_shop()
    begun, may_end = threading.Semaphore(0), threading.Event()

    @first.step
    def hold(number: int) -> int:
        begun.release()
        may_end.wait(PATIENCE)
        return number

    second.registry.add_step(first.registry.steps["hold"])
    first.start_worker()
    for number in range(6):
        first.send("hold", number)
    assert begun.acquire(timeout=PATIENCE)
    assert begun.acquire(timeout=PATIENCE)

    stopping = threading.Thread(target=first.stop, args=(PATIENCE,))
    stopping.start()
    second.start_worker()
    # Two more begin in the second while the first still holds its own two.
    assert begun.acquire(timeout=PATIENCE)
    assert begun.acquire(timeout=PATIENCE)
    may_end.set()
    stopping.join(PATIENCE)

    heard = [first.hear() for _ in range(6)]
    assert sorted(str(each.result) for each in heard if isinstance(each, StepReport)) == list("012345")


def test_stock_producers_and_stock_workers_share_its_queues(
    url: str, make_shop: Callable[[], RabbitmqWorkshop]
) -> None:
    shop = make_shop()
    rabbit: Any = shop.rabbit
    queue = f"{shop.rabbit.namespace}.default"
    stock = StockRabbitmqBroker(url=url, middleware=[], confirm_delivery=True)
    greeted: list[str] = []
    done = threading.Semaphore(0)

    def greet(name: str) -> None:
        greeted.append(name)
        done.release()

    rabbit.declare_actor(
        dramatiq.Actor(greet, broker=shop.rabbit, actor_name="greet", queue_name="default", priority=0, options={})
    )
    shop.start_worker()
    # On the wire its queue bears the namespace, and its messages do not.
    kind: Any = dramatiq.Message
    message = kind("default", "greet", ("stock",), {}, {})
    stock.declare_queue(queue, ensure=True)
    stock.channel.basic_publish("", queue, message.encode())
    shop.rabbit.enqueue(dramatiq.Message("default", "greet", ("ours",), {}, {}))
    shop.rabbit.enqueue(dramatiq.Message("default", "greet", ("later",), {}, {}), delay=50)
    for _ in range(3):
        assert done.acquire(timeout=PATIENCE)
    stock.close()

    assert sorted(greeted) == ["later", "ours", "stock"]
