"""Steps on their way to workers over RabbitMQ: none is lost, and none is sent again that may merely be queued.

RabbitMQ cannot be asked whether a message is there. So before a turn commits, what it will publish is noted in a queue
that keeps one message, the intent of the partition:

    prepare: intent := ids ──► database commit ──► one transaction: step messages + intent := nothing

- a crash before the commit: the ids in the intent are no open work, nothing follows;
- a crash between commit and transaction: whoever takes the partition over finds the ids and publishes them;
- a crash after it: the intent is empty, everything that is open was sent, and nothing is sent again;
- no intent at all: RabbitMQ was emptied, or nothing was ever published; all that is open is sent.

What a lease that was lost in the meantime sends all the same cannot be refused here; such a copy changes nothing at the
coordinator, but a worker may run it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any

from pydantic_core import from_json, to_json

from dramaturg_coordinator.publishing import readable_messages
from dramaturg_protocol.amqp import AmqpNames
from dramaturg_protocol.amqp_inspection import AmqpInspector
from dramaturg_protocol.amqp_sending import AmqpSender, Outgoing
from dramaturg_protocol.ids import attempt_id
from dramaturg_protocol.records import Lease, WorkItem
from dramaturg_protocol.transport import priority_of


class AmqpPublisher:
    """The port `Publisher` over RabbitMQ."""

    can_lose = True

    def __init__(self, names: AmqpNames, sender: AmqpSender, inspector: AmqpInspector) -> None:
        self._names = names
        self._sender = sender
        self._inspector = inspector
        self._epochs: dict[int, int] = {}
        # Partitions of a lease that began, whose intent nobody has read yet.
        self._unread: set[int] = set()
        # Partitions without an intent, and what was sent there since: all else that is open was never sent, or lost.
        self._lost: dict[int, set[str]] = {}
        # By partition, what a holder before us may not have sent. It stays in the intent until we have.
        self._owed: dict[int, set[str]] = {}

    def prepare(self, work: Sequence[WorkItem], lease: Lease) -> None:
        """Note what is about to be committed and then published.

        Raises:
          Unreachable: RabbitMQ does not answer; do not commit.
        """
        coming = _ids_by_partition(work)
        self._read_intents(coming)
        self._sender.send(
            [
                self._intent(number, ids | self._owed_of(number))
                for number, ids in coming.items()
                if number not in self._lost
            ]
        )

    def publish(self, work: Sequence[WorkItem], lease: Lease) -> None:
        """Send each item's message, and forget the intents that it fulfils; with none, a lease begins.

        Raises:
          Unreachable: RabbitMQ does not answer; all of it was sent, or nothing.
        """
        if not work:
            self._begin(lease)
            return
        sent = _ids_by_partition(work)
        self._read_intents(sent)
        steps = [self._step(message) for _, message in readable_messages(work)]
        done = [
            self._intent(number, self._owed_of(number) - ids)
            for number, ids in sent.items()
            if number not in self._lost
        ]
        self._sender.send([*steps, *done])
        for number, ids in sent.items():
            self._owed_of(number).difference_update(ids)
            if number in self._lost:
                self._lost[number] |= ids

    def missing(self, work: Sequence[WorkItem], lease: Lease) -> list[WorkItem]:
        """Those of the items that were never sent, or whose queue is gone.

        Raises:
          Unreachable: RabbitMQ does not answer.
        """
        pairs = list(readable_messages(work))
        open_ids = dict.fromkeys(lease.epochs, frozenset[str]()) | _ids_by_partition(item for item, _ in pairs)
        self._read_intents(lease.epochs)
        for number, ids in open_ids.items():
            # What was settled since needs no publishing any more.
            self._owed_of(number).intersection_update(ids)
        self._settle_lost(open_ids)
        queues = {self._names.wire(message.queue_name) for _, message in pairs}
        there = self._inspector.counts(queues)
        return [
            item
            for item, message in pairs
            if _id_of(item) in self._owed_of(item.partition) or self._names.wire(message.queue_name) not in there
        ]

    def is_emptied(self) -> bool:
        """Whether RabbitMQ lost everything: a queue of intents that was there is gone.

        Raises:
          Unreachable: RabbitMQ does not answer.
        """
        known = sorted(self._epochs.keys() - self._unread - self._lost.keys())[:1]
        if not known or self._inspector.counts([self._names.intents(number) for number in known]):
            return False
        self._unread.clear()
        self._owed.clear()
        self._lost = {number: set() for number in self._epochs}
        return True

    def _begin(self, lease: Lease) -> None:
        for number, epoch in lease.epochs.items():
            if self._epochs.get(number) != epoch:
                self._epochs[number] = epoch
                self._unread.add(number)
                self._lost.pop(number, None)
                self._owed.pop(number, None)

    def _read_intents(self, partitions: Collection[int]) -> None:
        for number in sorted(self._unread.intersection(partitions)):
            said = self._inspector.first(self._names.intents(number))
            if said is None:
                self._lost[number] = set()
            else:
                self._owed[number] = set(from_json(said))
            self._unread.discard(number)

    def _settle_lost(self, open_ids: Mapping[int, AbstractSet[str]]) -> None:
        """From here on these have an intent, which tells a RabbitMQ that was emptied from one that was not."""
        owed = {number: set(open_ids[number] - sent) for number, sent in self._lost.items() if number in open_ids}
        self._sender.send([self._intent(number, ids) for number, ids in owed.items()])
        self._owed |= owed
        for number in owed:
            del self._lost[number]

    def _owed_of(self, partition: int) -> set[str]:
        return self._owed.setdefault(partition, set())

    def _intent(self, partition: int, ids: Collection[str]) -> Outgoing:
        queue = self._names.intents(partition)
        return Outgoing(queue, to_json(sorted(ids)), partial(self._names.declare_own, name=queue))

    def _step(self, message: Any) -> Outgoing:
        queue: str = message.queue_name
        return Outgoing(
            self._names.wire(queue),
            message.encode(),
            partial(self._names.declare_tasks, queue=queue),
            priority=self._priority(message),
        )

    def _priority(self, message: Any) -> int | None:
        """RabbitMQ's own priority, which is higher first: only what is more urgent than usual passes plain messages."""
        most, said = self._names.max_priority, priority_of(message, 0)
        return min(-said, most) if most and said < 0 else None


def _ids_by_partition(work: Iterable[WorkItem]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for item in work:
        found.setdefault(item.partition, set()).add(_id_of(item))
    return found


def _id_of(item: WorkItem) -> str:
    return attempt_id(item.run_id, item.generation, item.seq, item.attempt)
