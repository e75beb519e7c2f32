"""Reports of workers through any Dramatiq broker: an ordinary queue for each partition, acknowledged after the commit.

    a worker's ack ── enqueue ──► queue of the partition ── consumer, in a thread ──► in hand ── commit ──► ack

Dramatiq's consumers take from one queue each and belong to one thread, so there is a thread for each partition. What is
acknowledged goes back to that thread: only there a broker's connection may be used.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import dramatiq
from dramatiq.errors import BrokerConnectionError, DecodeError

from dramaturg_coordinator.in_hand import InHand
from dramaturg_protocol.messages import StepReport, decode_report
from dramaturg_protocol.reading import MalformedMessage
from dramaturg_protocol.records import DeadLetter
from dramaturg_protocol.transport import REPORT_ACTOR, report_queue

logger = logging.getLogger("dramaturg.coordinator")

_PREFETCH: Final = 500
_WAIT_MILLISECONDS: Final = 200
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_JOIN_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Entry:
    reader: _Reader
    message: Any
    said: StepReport | DeadLetter


class QueueReports(InHand[_Entry]):
    """The port `Reports` over a Dramatiq broker that has nothing better.

    Parameters:
      epochs: of the partitions that this coordinator owns.
    """

    def __init__(self, broker: dramatiq.Broker, epochs: Mapping[int, int]) -> None:
        super().__init__()
        self._broker = broker
        self._readers: dict[tuple[int, int], _Reader] = {}
        self.attend(epochs)

    def attend(self, epochs: Mapping[int, int]) -> None:
        """Read the queues of these partitions; what was not acknowledged of others returns to its queue."""
        self._stop([reader for fence, reader in self._readers.items() if fence not in epochs.items()])
        kept = {fence: reader for fence, reader in self._readers.items() if fence in epochs.items()}
        with self._condition:
            self._in_hand = deque(entry for entry in self._in_hand if entry.reader in kept.values())
        for number, epoch in sorted(epochs.items()):
            if (number, epoch) not in kept:
                kept[number, epoch] = _Reader(self._broker, report_queue(number), self._arrive)
                kept[number, epoch].start()
        self._readers = kept

    def take(self, limit: int) -> Sequence[StepReport | DeadLetter]:
        """The oldest reports, which stay until they are acknowledged."""
        with self._condition:
            return [entry.said for entry, _ in zip(self._in_hand, range(limit), strict=False)]

    def acknowledge(self, count: int) -> None:
        """Forget the oldest."""
        with self._condition:
            done = [self._in_hand.popleft() for _ in range(count)]
        for entry in done:
            entry.reader.acknowledge(entry.message)

    def mark(self) -> Mapping[str, str]:
        """Nothing can be said of what such a broker holds."""
        return {}

    def is_past(self, mark: Mapping[str, str]) -> bool:
        """Whether everything that has come was taken."""
        return not self._in_hand

    def look_for_loss(self) -> None:
        """Nothing can be said of what such a broker lost."""

    def close(self) -> None:
        """Read no more; what was not acknowledged returns to its queue."""
        self._stop(list(self._readers.values()))

    def _stop(self, readers: Collection[_Reader]) -> None:
        for reader in readers:
            reader.stop()
        for reader in readers:
            reader.join(_JOIN_SECONDS)

    def _arrive(self, reader: _Reader, message: Any) -> None:
        self._come(_Entry(reader, message, _said(message)))


class _Reader(threading.Thread):
    """Takes from one queue and acknowledges there."""

    def __init__(self, broker: dramatiq.Broker, queue: str, arrive: Any) -> None:
        super().__init__(name=f"dramaturg-{queue}", daemon=True)
        self._broker: Any = broker
        self._queue = queue
        self._arrive = arrive
        self._done: deque[Any] = deque()
        self._is_stopping = threading.Event()
        self._consumer: Any = None

    def acknowledge(self, message: Any) -> None:
        """Have a message acknowledged."""
        self._done.append(message)
        wake = getattr(self._consumer, "wake", None)
        if wake is not None:
            wake()

    def stop(self) -> None:
        """End soon."""
        self._is_stopping.set()

    def run(self) -> None:
        """Take messages until `stop`."""
        pause = _FIRST_PAUSE
        while not self._is_stopping.is_set():
            try:
                self._consume()
                pause = _FIRST_PAUSE
            except BrokerConnectionError as error:
                logger.warning("reports of queue %s wait: %s; trying again in %.1f s", self._queue, error, pause)
            except Exception:
                logger.exception("queue %s cannot be read; trying again in %.1f s", self._queue, pause)
            self._is_stopping.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _consume(self) -> None:
        self._broker.declare_queue(self._queue)
        consumer = self._consumer = self._broker.consume(self._queue, prefetch=_PREFETCH, timeout=_WAIT_MILLISECONDS)
        # What an earlier consumer gave comes again; only its own messages may be acknowledged here.
        taken: set[int] = set()
        try:
            while not self._is_stopping.is_set():
                self._acknowledge_done(consumer, taken)
                try:
                    message = next(consumer)
                except DecodeError as error:
                    logger.error("a report that cannot be read is left to the broker: %s", error)
                    continue
                if message is not None:
                    taken.add(id(message))
                    self._arrive(self, message)
            self._acknowledge_done(consumer, taken)
        finally:
            consumer.close()

    def _acknowledge_done(self, consumer: Any, taken: set[int]) -> None:
        while self._done:
            message = self._done.popleft()
            if id(message) in taken:
                taken.discard(id(message))
                consumer.ack(message)


def _said(message: Any) -> StepReport | DeadLetter:
    args: Any = message.args
    if message.actor_name != REPORT_ACTOR or len(args) != 1 or not isinstance(args[0], str):
        return DeadLetter("report", "a message without a report in a queue of reports", repr(message)[:4096])
    try:
        return decode_report(args[0])
    except MalformedMessage as problem:
        return DeadLetter("report", str(problem), args[0])
