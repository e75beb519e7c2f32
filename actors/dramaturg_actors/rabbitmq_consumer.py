"""The consumer of a queue of RabbitMQ: a step's report and its acknowledgement are one transaction.

    finish ──► outbox ──► the consumer's thread: publish reports + acknowledge, one commit for all that gathered

A transaction of a connection that is lost before its commit arrived leaves nothing behind: the message is handed out
again. One that arrived did both. So there is no state in which a step is done and nobody hears of it, and none in which
a step that was heard of is handed out again, but for a RabbitMQ that dies in the middle of a commit.

pika's connections belong to one thread, the one that iterates here; all others leave word in the outbox.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from dramatiq.broker import Consumer, MessageProxy
from dramatiq.errors import ConnectionClosed
from pydantic_core import to_json

from dramaturg_actors.bodies import read_message
from dramaturg_actors.deliveries import Begun, Delivery
from dramaturg_actors.patience import Patience
from dramaturg_actors.rabbitmq_hands import Hands, RabbitmqDelivery
from dramaturg_actors.rabbitmq_outbox import Act, Outbox, lost
from dramaturg_protocol.amqp import AmqpNames, close_quietly, connect, told_as_unreachable
from dramaturg_protocol.amqp_sending import Outgoing
from dramaturg_protocol.errors import InternalError
from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.ids import new_message_id
from dramaturg_protocol.reading import MalformedMessage
from dramaturg_protocol.transport import TASK_OPTION

_MOST_PREFETCH: Final = 65_535
_NOTE_CHARACTERS: Final = 64 * 1024

_logger = logging.getLogger("dramaturg.actors")


class RabbitmqConsumer(Consumer):
    """Takes messages from one queue.

    Parameters:
      prefetch: how many may be held at once.
      timeout: seconds after which a wait gives ``None``.
      hands: what this process has of the queue.
      patience: when to put a message off, and when no longer.
      report: publishes a report without this consumer.

    Raises:
      ConnectionClosed: RabbitMQ does not answer.
    """

    def __init__(
        self,
        queue: str,
        parameters: Any,
        names: AmqpNames,
        *,
        prefetch: int,
        timeout: float,
        hands: Hands,
        patience: Patience,
        report: Callable[[str], None],
    ) -> None:
        self.name = f"{new_message_id()}@{queue}"
        self._queue = queue
        self._parameters = parameters
        self._names = names
        self._timeout = timeout
        self._hands = hands
        self._patience = patience
        self._report = report
        self._arrived: deque[tuple[Any, Any, bytes]] = deque()
        self._put_off: list[tuple[float, RabbitmqDelivery]] = []
        self._outbox = Outbox(parameters, self.wake)
        self._thread_id = 0
        self._takes_new = True
        self._declared: set[str] = set()
        try:
            self._open(min(prefetch, _MOST_PREFETCH))
        except Unreachable as error:
            raise lost(error) from error

    # -- what Dramatiq's consumer thread asks

    def __next__(self) -> RabbitmqDelivery | None:
        """The next message, or ``None`` after a while."""
        self._thread_id = threading.get_ident()
        self._return_due()
        self._flush()
        if not self._arrived:
            self._listen(self._wait_seconds())
            self._flush()
        if not self._takes_new:
            self._hand_back_unseen()
        while self._arrived:
            delivery = self._delivery(*self._arrived.popleft())
            if delivery is not None:
                return delivery
        return None

    def ack(self, message: MessageProxy) -> None:
        """Forget a message that was processed."""
        self._settle(_ours(message), _acknowledge)

    def nack(self, message: MessageProxy) -> None:
        """Move a message to the dead letters; a step's is forgotten, since the coordinator knows its outcome."""
        self._settle(_ours(message), _acknowledge if TASK_OPTION in message.options else _refuse)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Hand messages back that were never begun."""
        for delivery in map(_ours, messages):
            if not delivery.is_over and delivery.taker is self:
                self._outbox.leave(_handing_back(delivery.tags))
            delivery.let_go()

    def close(self) -> None:
        """Close the connection: RabbitMQ hands out anew what was not acknowledged."""
        if not self._outbox.is_closed:
            self._flush_quietly()
            self._give_up(lost("the consumer was closed"))
        close_quietly(self._connection)

    # -- what others ask, from any thread

    def wake(self) -> None:
        """End the wait for a message."""
        try:
            self._connection.add_callback_threadsafe(_nothing)
        except Exception as error:  # noqa: BLE001 - a connection that is lost does not wait
            _logger.debug("nobody was woken: %r", error)

    def take_nothing(self) -> None:
        """Give no more messages and hand back what nobody saw, but go on to hold what was given."""
        self._outbox.leave(self._stop_taking)

    def is_confirmed(self, patience: float) -> bool:
        """RabbitMQ hands out what is held here only after the connection is lost."""
        return True

    def begin_again(self, delivery: Delivery) -> Begun:
        """RabbitMQ counts, as far as the kind of queue does, and keeps nothing beside a message."""
        return Begun(delivery.number - 1, is_exact=False)

    def say(self, delivery: Delivery, report: str, partition: int) -> None:
        """Publish a heartbeat."""
        self._report(report)

    def begun(self, delivery: Delivery, waited: float) -> None:
        """What RabbitMQ hands out does not depend on it."""

    def finish(self, delivery: Delivery, report: str, partition: int, tell: Callable[[], None]) -> None:
        """End a message and publish its report, in one transaction.

        Parameters:
          tell: called when that is done.

        Raises:
          ConnectionClosed: RabbitMQ did not do it, or its answer was lost.
        """
        mine = _ours(delivery)
        if not self._outbox.is_closed:
            self._say(
                lambda channel: self._report_and_acknowledge(channel, mine, report, partition),
                lambda: self._hands.end(mine),
            )
        else:
            # RabbitMQ hands it out anew: to somebody who runs it again, or to us, who know that it is done.
            self._report(report)
            self._hands.end(mine)
            if mine.taker is not self:
                mine.taker.drop(mine)
        mine.let_go()
        tell()

    def drop(self, delivery: RabbitmqDelivery) -> None:
        """Acknowledge a message whose outcome went out without this consumer."""
        self._outbox.leave(lambda channel: _acknowledge(channel, delivery))

    def put_off(self, delivery: Delivery) -> bool:
        """Hand a message back after a pause, or say that this was done for long enough."""
        pause = self._patience.pause(delivery.id, delivery.actor_name, self._queue)
        if pause is None:
            return False
        self._put_off.append((time.monotonic() + pause, _ours(delivery)))
        delivery.let_go()
        return True

    def put_aside(self, delivery: Delivery, reason: str) -> None:
        """Take a message off, and keep a note of it."""
        mine = _ours(delivery)
        body = mine.encode()
        if not self._outbox.is_closed:
            self._say(lambda channel: self._note_and_acknowledge(channel, mine.tags, body, reason))
        mine.let_go()

    def forget(self, delivery: Delivery) -> None:
        """It is held no longer."""
        self._hands.forget(_ours(delivery))

    # -- the channel, in the thread that iterates

    def _open(self, prefetch: int) -> None:
        self._connection = connect(self._parameters)
        try:
            with told_as_unreachable(self._parameters):
                channel = self._channel = self._connection.channel()
                self._names.declare_tasks(channel, self._queue.removesuffix(".DQ"))
                channel.basic_qos(prefetch_count=prefetch)
                channel.tx_select()
                self._consumer_tag = channel.basic_consume(self._names.wire(self._queue), self._arrive)
        except BaseException:
            close_quietly(self._connection)
            raise

    def _arrive(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._arrived.append((method, properties, body))

    def _listen(self, seconds: float) -> None:
        try:
            with told_as_unreachable(self._parameters):
                self._connection.process_data_events(seconds)
            self._check()
        except Unreachable as error:
            self._lose(error)

    def _check(self) -> None:
        if not self._channel.is_open or not self._connection.is_open:
            raise Unreachable("RabbitMQ closed the channel")

    def _flush(self) -> None:
        try:
            self._outbox.flush(self._channel)
        except Unreachable as error:
            self._lose(error)

    def _flush_quietly(self) -> None:
        try:
            self._flush()
        except ConnectionClosed as error:
            _logger.info("what queue %r had given returns: %s", self._queue, error)

    def _lose(self, error: Exception) -> None:
        closed = lost(error)
        self._give_up(closed)
        raise closed from error

    def _give_up(self, error: ConnectionClosed) -> None:
        self._outbox.close(error)
        # RabbitMQ hands all of it out anew; what was begun here is ended here all the same.
        for delivery in self._hands.of(self):
            delivery.void()

    def _settle(self, delivery: RabbitmqDelivery, act: Callable[[Any, RabbitmqDelivery], object]) -> None:
        # One that a lost connection brought has been handed out anew: its tag means another message here, or none.
        if not delivery.is_over and delivery.taker is self:
            self._say(lambda channel: act(channel, delivery))
        delivery.let_go()

    def _say(self, act: Act, then: Callable[[], object] | None = None) -> None:
        """Have it done and committed."""
        word = self._outbox.leave(act, then)
        if threading.get_ident() == self._thread_id:
            self._flush()
        word.wait()

    def _stop_taking(self, channel: Any) -> None:
        self._takes_new = False
        channel.basic_cancel(self._consumer_tag)
        self._hand_back_unseen()

    def _hand_back_unseen(self) -> None:
        tags = [method.delivery_tag for method, _, _ in self._arrived]
        tags += [tag for _, delivery in self._put_off for tag in delivery.tags]
        self._arrived.clear()
        self._put_off.clear()
        if tags:
            self._outbox.leave(_handing_back(tags))

    def _report_and_acknowledge(self, channel: Any, delivery: RabbitmqDelivery, report: str, partition: int) -> None:
        self._publish(channel, self._names.reports(partition), report.encode())
        _acknowledge(channel, delivery)

    def _note_and_acknowledge(self, channel: Any, tags: Iterable[int], body: bytes, reason: str) -> None:
        text = body[:_NOTE_CHARACTERS].decode("utf-8", "backslashreplace")
        _logger.error("a message of queue %r is put aside: %s", self._queue, reason)
        self._publish(channel, self._names.garbage, to_json({"queue": self._queue, "reason": reason, "text": text}))
        for tag in tags:
            channel.basic_ack(tag)

    def _publish(self, channel: Any, queue: str, body: bytes) -> None:
        if queue not in self._declared:
            self._names.declare_own(channel, queue)
            self._declared.add(queue)
        Outgoing(queue, body, _nothing_with).publish(channel)

    # -- taking

    def _wait_seconds(self) -> float:
        if not self._put_off:
            return self._timeout
        return min(self._timeout, max(0.0, min(due for due, _ in self._put_off) - time.monotonic()))

    def _return_due(self) -> None:
        now = time.monotonic()
        due = [delivery for moment, delivery in self._put_off if moment <= now]
        if due:
            self._put_off = [each for each in self._put_off if each[0] > now]
            tags = [tag for delivery in due for tag in delivery.tags]
            self._outbox.leave(_handing_back(tags))

    def _delivery(self, method: Any, properties: Any, body: bytes) -> RabbitmqDelivery | None:
        tag: int = method.delivery_tag
        try:
            message = read_message(body, self._queue)
        except MalformedMessage as problem:
            self._outbox.leave(partial(self._note_and_acknowledge, tags=[tag], body=body, reason=str(problem)))
            return None
        if self._hands.was_reported(message):
            self._outbox.leave(lambda channel: channel.basic_ack(tag))
            return None
        delivery = RabbitmqDelivery(message, tag, _number_of(method, properties), self)
        return delivery if self._hands.take(delivery, tag, self) else None


def _ours(message: MessageProxy) -> RabbitmqDelivery:
    if not isinstance(message, RabbitmqDelivery):
        raise InternalError(f"{message!r} did not come from a consumer of dramaturg's RabbitmqBroker")
    return message


def _acknowledge(channel: Any, delivery: RabbitmqDelivery) -> None:
    for tag in delivery.tags:
        channel.basic_ack(tag)


def _refuse(channel: Any, delivery: RabbitmqDelivery) -> None:
    for tag in delivery.tags:
        channel.basic_nack(tag, requeue=False)


def _handing_back(tags: Iterable[int]) -> Callable[[Any], None]:
    def hand_back(channel: Any) -> None:
        for tag in tags:
            channel.basic_nack(tag, requeue=True)

    return hand_back


def _number_of(method: Any, properties: Any) -> int:
    """How often a message was handed out, as far as RabbitMQ says: a classic queue tells the first time from others."""
    headers: dict[str, Any] = properties.headers or {}
    count = headers.get("x-delivery-count")
    return int(count) + 1 if isinstance(count, int) else 2 if method.redelivered else 1


def _nothing() -> None:
    """What a connection is woken with."""


def _nothing_with(_channel: Any) -> None:
    """The queue was declared."""
