"""Reports of workers over RabbitMQ: one queue for each partition, read by its owner, acknowledged once they are committed.

    a worker's transaction ──► queue of the partition ──► in hand ── commit ──► one acknowledgement for all of them

All queues are read over one channel, in the coordinator's own thread, which also hears wake-ups there. Two owners may read
one queue for a moment, while a partition goes from one to the other: what the wrong one takes changes nothing, since its
commit is fenced, and returns to the queue when its channel lets go of it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

from pydantic_core import from_json

from dramaturg_protocol.amqp import AmqpNames, close_quietly, connect, told_as_unreachable
from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.messages import StepReport, decode_report
from dramaturg_protocol.reading import MalformedMessage
from dramaturg_protocol.records import DeadLetter

#: Reports of one partition that may be in hand at once.
_PREFETCH: Final = 500


@dataclass(frozen=True, slots=True)
class _Entry:
    tag: int
    said: StepReport | DeadLetter


class AmqpReports:
    """The port `Reports` over RabbitMQ.

    Parameters:
      parameters: pika's, of the server.
      partitions: those that this coordinator owns.
    """

    def __init__(self, parameters: Any, names: AmqpNames, partitions: Collection[int]) -> None:
        self._parameters = parameters
        self._names = names
        self._queues = {number: names.reports(number) for number in sorted(partitions)}
        self._connection: Any = None
        self._channel: Any = None
        self._in_hand: deque[_Entry] = deque()
        self._is_woken = threading.Event()
        self._is_cancelled = False

    def attend(self, epochs: Mapping[int, int]) -> None:
        """Read the queues of these partitions; what was not acknowledged returns to its queue, and comes again."""
        queues = {number: self._names.reports(number) for number in sorted(epochs)}
        if queues != self._queues:
            self._queues = queues
            self.close()

    def wait(self, timeout: timedelta) -> None:
        """Return when there is a report, after `wake`, or when the time is over."""
        if not self._in_hand and not self._is_woken.is_set():
            self._listen(timeout.total_seconds())

    def wake(self) -> None:
        """End a wait, from any thread of this process."""
        self._is_woken.set()
        connection = self._connection
        if connection is not None:
            try:
                connection.add_callback_threadsafe(_nothing)
            except Exception as error:
                raise Unreachable(f"the connection to RabbitMQ is lost: {error!r}") from error

    def take_wake(self) -> bool:
        """Whether somebody called `wake` since the last time."""
        was_set = self._is_woken.is_set()
        self._is_woken.clear()
        return was_set

    def take(self, limit: int) -> Sequence[StepReport | DeadLetter]:
        """The oldest reports, which stay until they are acknowledged."""
        if not self._in_hand:
            self._listen(0.0)
        return [entry.said for entry, _ in zip(self._in_hand, range(limit), strict=False)]

    def acknowledge(self, count: int) -> None:
        """Forget the oldest."""
        last = 0
        for _ in range(min(count, len(self._in_hand))):
            last = self._in_hand.popleft().tag
        if last:
            self._do(partial(_acknowledge, tag=last))

    def mark(self) -> Mapping[str, str]:
        """The queues in which there are reports now."""
        return {queue: "" for queue, count in self._counts(self._queues.values()).items() if count or self._in_hand}

    def is_past(self, mark: Mapping[str, str]) -> bool:
        """Whether the queues of a mark were empty once."""
        return not self._in_hand and not any(self._counts(mark).values())

    def look_for_loss(self) -> None:
        """Nothing to look for: RabbitMQ says so when it takes a queue away."""

    def close(self) -> None:
        """Let go of what was not acknowledged."""
        connection, self._connection, self._channel = self._connection, None, None
        self._in_hand.clear()
        if connection is not None:
            close_quietly(connection)

    def _counts(self, queues: Collection[str]) -> dict[str, int]:
        counts: dict[str, int] = {}

        def ask(channel: Any) -> None:
            for queue in queues:
                counts[queue] = channel.queue_declare(queue, passive=True).method.message_count

        self._do(ask)
        return counts

    def _listen(self, seconds: float) -> None:
        def listen(_channel: Any) -> None:
            self._connection.process_data_events(seconds)

        self._do(listen)

    def _do(self, act: Callable[[Any], object]) -> None:
        try:
            with told_as_unreachable(self._parameters):
                act(self._open_channel())
            self._check()
        except Unreachable:
            self.close()
            raise

    def _check(self) -> None:
        if not self._connection.is_open or not self._channel.is_open or self._is_cancelled:
            raise Unreachable("RabbitMQ closed the connection to the coordinator, or took a queue of reports away")

    def _open_channel(self) -> Any:
        if self._channel is None:
            self._is_cancelled = False
            self._connection = connect(self._parameters)
            channel = self._channel = self._connection.channel()
            channel.add_on_cancel_callback(self._cancelled)
            channel.basic_qos(prefetch_count=_PREFETCH)
            for queue in (*self._queues.values(), self._names.garbage):
                self._names.declare_own(channel, queue)
                keep = self._keep_garbage if queue == self._names.garbage else self._keep_report
                channel.basic_consume(queue, keep)
            self._names.declare_wakes(channel)
            wakes = channel.queue_declare("", exclusive=True, auto_delete=True).method.queue
            channel.queue_bind(wakes, self._names.wakes)
            channel.basic_consume(wakes, self._hear_wake, auto_ack=True)
        return self._channel

    def _cancelled(self, _method: Any) -> None:
        self._is_cancelled = True

    def _keep_report(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        try:
            said: StepReport | DeadLetter = decode_report(body)
        except MalformedMessage as problem:
            said = DeadLetter("report", str(problem), body.decode("utf-8", "backslashreplace"))
        self._in_hand.append(_Entry(method.delivery_tag, said))

    def _keep_garbage(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        self._in_hand.append(_Entry(method.delivery_tag, _letter_of(body)))

    def _hear_wake(self, *_: Any) -> None:
        self._is_woken.set()


def _acknowledge(channel: Any, tag: int) -> None:
    """Acknowledge everything up to a tag."""
    channel.basic_ack(tag, multiple=True)


def _letter_of(body: bytes) -> DeadLetter:
    text = body.decode("utf-8", "backslashreplace")
    try:
        said: Any = from_json(body)
        return DeadLetter("queue", f"queue {said['queue']}: {said['reason']}", str(said["text"]))
    except (ValueError, TypeError, KeyError):
        return DeadLetter("queue", "a note of a message put aside that cannot be read itself", text)


def _nothing() -> None:
    """What a connection is woken with."""
