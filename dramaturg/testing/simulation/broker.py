"""A broker in memory that keeps the rules of the real one: fenced and idempotent publishing, reports in streams.

What its scripts do in one go is one call here. It can be emptied, and it outlives every coordinator.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dramaturg_coordinator.publishing import readable_messages
from dramaturg_protocol.faults import Fenced
from dramaturg_protocol.messages import StepReport, StepTask, decode_report, decode_task
from dramaturg_protocol.reading import MalformedMessage
from dramaturg_protocol.records import DeadLetter, Lease, WorkItem
from dramaturg_protocol.redis_client import SETTLE_SECONDS


@dataclass(slots=True)
class Entry:
    """One entry of a stream of reports."""

    id: int
    report: StepReport | DeadLetter


class SimulatedBroker:
    """Queues, and a stream of reports for each partition.

    Attributes:
      waiting: ids in the order in which they were published; one without a body is dropped when it is taken.
      bodies: by message id: of what waits, and of what a worker has.
      settled_at: from when on all know that it was emptied; what it does not have is nowhere then.
      entered: called with each message that comes in, and the epoch under which it does.
    """

    def __init__(self, now: Callable[[], datetime], entered: Callable[[StepTask, int], None]) -> None:
        self.waiting: list[str] = []
        self.bodies: dict[str, StepTask] = {}
        self.streams: dict[int, list[Entry]] = {}
        self._entered = entered
        self._epochs: dict[int, int] = {}
        self._last_id = 0
        self._now = now
        self.settled_at = now() - timedelta(seconds=SETTLE_SECONDS)

    def publish(self, tasks: Sequence[StepTask], epochs: Mapping[int, int], partitions: Collection[int]) -> None:
        """Take messages in, each once, unless a higher epoch of a partition was seen."""
        lost = [number for number in partitions if self._epochs.get(number, 0) > epochs[number]]
        if lost:
            raise Fenced(lost)
        self._epochs.update({number: epochs[number] for number in partitions})
        for task in tasks:
            if task.message_id not in self.bodies:
                self.bodies[task.message_id] = task
                self.waiting.append(task.message_id)
                self._entered(task, epochs[task.partition])

    def take(self, index: int = 0) -> StepTask | None:
        """The message at a place of the queue; it stays known until it is finished or returned."""
        return self.bodies.get(self.waiting.pop(index))

    def put_back(self, task: StepTask) -> None:
        """The worker that had a message is gone."""
        if task.message_id in self.bodies:
            self.waiting.insert(0, task.message_id)

    def finish(self, task: StepTask, report: str) -> None:
        """Forget a message and keep its report, in one."""
        self.bodies.pop(task.message_id, None)
        self.report(task.partition, report)

    def report(self, partition: int, text: str) -> None:
        """Append to the stream of a partition."""
        self._last_id += 1
        report: StepReport | DeadLetter
        try:
            report = decode_report(text)
        except MalformedMessage as problem:
            report = DeadLetter("report", str(problem), text)
        self.streams.setdefault(partition, []).append(Entry(self._last_id, report))

    def lose(self, message_id: str) -> None:
        """Forget one message."""
        self.bodies.pop(message_id, None)

    def empty(self) -> None:
        """Forget everything."""
        self.waiting.clear()
        self.bodies.clear()
        self.streams.clear()
        self._epochs.clear()
        self.settled_at = self._now() + timedelta(seconds=SETTLE_SECONDS)


class SimulatedPublisher:
    """The port `Publisher` of one coordinator."""

    can_lose = True

    def __init__(self, broker: SimulatedBroker, now: Callable[[], datetime]) -> None:
        self._broker = broker
        self._now = now
        self._known: datetime | None = None

    def prepare(self, work: Sequence[WorkItem], lease: Lease) -> None:
        """Nothing to note: this broker can be asked what it has."""

    def publish(self, work: Sequence[WorkItem], lease: Lease) -> None:
        """Send each item's message; with none, tell the epochs of the lease."""
        tasks = [decode_task(item.message) for item, _ in readable_messages(work) if item.message is not None]
        partitions = {task.partition for task in tasks} or lease.epochs.keys()
        self._broker.publish(tasks, lease.epochs, partitions)

    def missing(self, work: Sequence[WorkItem], lease: Lease) -> Sequence[WorkItem]:
        """Those whose message is not there; none for some seconds after the broker was emptied."""
        if self._now() < self._broker.settled_at:
            return []
        return [item for item, message in readable_messages(work) if message.message_id not in self._broker.bodies]

    def is_emptied(self) -> bool:
        """Whether everything was lost since this was asked last; asked first, whether a moment ago."""
        before, self._known = self._known, self._broker.settled_at
        return self._now() < self._known if before is None else before != self._known


class SimulatedReports:
    """The port `Reports` of one coordinator: what it has read and not acknowledged is in its hand."""

    def __init__(self, broker: SimulatedBroker, partitions: Collection[int]) -> None:
        self._broker = broker
        self._read = dict.fromkeys(partitions, 0)
        self._in_hand: list[tuple[int, Entry]] = []
        self._is_woken = False

    def attend(self, epochs: Mapping[int, int]) -> None:
        """Read the streams of these partitions: new ones from their start, others no longer."""
        self._read = {partition: self._read.get(partition, 0) for partition in epochs}
        self._in_hand = [each for each in self._in_hand if each[0] in epochs]

    @property
    def in_hand(self) -> Sequence[StepReport | DeadLetter]:
        """What was read and not acknowledged, oldest first."""
        return [entry.report for _, entry in self._in_hand]

    def wait(self, timeout: timedelta) -> None:
        """At once: who has nothing to do is not called again before there is something."""

    def wake(self) -> None:
        """There is something in the inbox."""
        self._is_woken = True

    def take_wake(self) -> bool:
        """Whether `wake` was called since the last time."""
        was_woken, self._is_woken = self._is_woken, False
        return was_woken

    def take(self, limit: int) -> Sequence[StepReport | DeadLetter]:
        """The oldest reports, which stay until they are acknowledged."""
        if not self._in_hand:
            for partition, last in self._read.items():
                new = [entry for entry in self._broker.streams.get(partition, ()) if entry.id > last]
                self._in_hand += [(partition, entry) for entry in new]
                self._read[partition] = new[-1].id if new else last
        return self.in_hand[:limit]

    def acknowledge(self, count: int) -> None:
        """Forget the oldest, and cut them off their streams."""
        done, self._in_hand = self._in_hand[:count], self._in_hand[count:]
        for partition, last in {partition: entry.id for partition, entry in done}.items():
            stream = self._broker.streams.get(partition)
            if stream is not None:
                stream[:] = [entry for entry in stream if entry.id > last]

    def mark(self) -> Mapping[str, str]:
        """How far the streams reach now."""
        streams = self._broker.streams
        return {str(number): str(streams[number][-1].id if streams.get(number) else 0) for number in self._read}

    def is_past(self, mark: Mapping[str, str]) -> bool:
        """Whether everything up to a mark was taken and acknowledged."""
        return not self._in_hand and all(self._read[int(number)] >= int(last) for number, last in mark.items())

    def look_for_loss(self) -> None:
        """Ids never go back here."""

    def close(self) -> None:
        """What is in hand is still in the streams."""
