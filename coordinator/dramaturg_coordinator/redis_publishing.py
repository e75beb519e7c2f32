"""Steps on their way to workers over Redis: many messages in one script, fenced and idempotent.

The script checks that no higher epoch of the partitions was seen, and puts a message into its queue only if its id is
not there. So publishing twice is harmless, and a coordinator that was paused past its lease sends nothing.

A Redis that was emptied has forgotten ids that workers may still have. A worker hears of it within some seconds and
drops what it has not begun (`CONFIRMED_SECONDS`); what may have been sent before is not sent again until these are over.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import redis

from dramaturg_coordinator.publishing import readable_messages
from dramaturg_coordinator.queues_in_use import QueuesInUse
from dramaturg_protocol.faults import Fenced, Unreachable
from dramaturg_protocol.records import Lease, WorkItem
from dramaturg_protocol.redis_client import SETTLE_SECONDS, told_as_unreachable
from dramaturg_protocol.redis_keys import RedisKeys
from dramaturg_protocol.transport import redis_body_of

_FOLDER = Path(__file__).parent

#: Messages in one call of the script: it blocks Redis meanwhile, for some 5 µs each.
CHUNK = 200


class RedisPublisher:
    """The port `Publisher` over Redis, in the format of Dramatiq's own broker.

    Attributes:
      queues: those that it has sent to or looked into, as far as anything in them may be open.
    """

    can_lose = True

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client: Any = client
        self._keys = RedisKeys(namespace)
        self.queues = QueuesInUse()
        self._script: Any = client.register_script((_FOLDER / "publish.lua").read_text())
        self._incarnation: Any = client.register_script((_FOLDER / "incarnation.lua").read_text())
        self._known_since: bytes | None = None
        self._is_doubtful = False

    def prepare(self, work: Sequence[WorkItem], lease: Lease) -> None:
        """Nothing to note: Redis can be asked what it has."""

    def publish(self, work: Sequence[WorkItem], lease: Lease) -> None:
        """Send each item's message; with none, let Redis know the epochs of the lease.

        Raises:
          Fenced: a partition has another owner; nothing of this call's last chunk was sent.
          Unreachable: Redis does not answer, or was emptied after a call that it did not answer; some may have been
            sent.
        """
        if not work:
            self._publish((), lease)
        elif self._is_doubtful:
            self._wait_for_workers()
        items = iter(work)
        while chunk := list(islice(items, CHUNK)):
            self._publish(chunk, lease)

    def missing(self, work: Sequence[WorkItem], lease: Lease) -> list[WorkItem]:
        """Those of the items whose message Redis does not have: neither waiting nor with a worker.

        None for some seconds after Redis was emptied: a worker may have them.

        Raises:
          Unreachable: Redis does not answer.
        """
        if not self._is_settled():
            return []
        by_queue: dict[str, list[tuple[WorkItem, str]]] = {}
        for item, message in readable_messages(work):
            by_queue.setdefault(message.queue_name, []).append((item, message.message_id))
        self.queues.see(by_queue)
        lost: list[WorkItem] = []
        for queue, pairs in by_queue.items():
            for start in range(0, len(pairs), CHUNK):
                part = pairs[start : start + CHUNK]
                with told_as_unreachable(self._client):
                    pipe: Any = self._client.pipeline(transaction=False)
                    for _, message_id in part:
                        pipe.hexists(self._keys.bodies(queue), message_id)
                    found = pipe.execute()
                lost += [item for (item, _), is_there in zip(part, found, strict=True) if not is_there]
        return lost

    def is_emptied(self) -> bool:
        """Whether Redis lost everything since this was asked last, or, when it is asked first, a moment ago.

        Raises:
          Unreachable: Redis does not answer.
        """
        before = self._known_since
        self._known_since, age = self._look()
        return age < SETTLE_SECONDS if before is None else before != self._known_since

    def _look(self) -> tuple[bytes, float]:
        """When Redis was first seen with what it has, and how many seconds ago that was."""
        with told_as_unreachable(self._client):
            since, age = self._incarnation(keys=[self._keys.incarnation])
        return since, age / 1000

    def _is_settled(self) -> bool:
        return self._look()[1] >= SETTLE_SECONDS

    def _wait_for_workers(self) -> None:
        # What was sent without an answer may have been fetched before all was lost.
        if not self._is_settled():
            raise Unreachable("Redis was emptied: it takes some seconds until all workers know")
        self._is_doubtful = False

    def _publish(self, chunk: Sequence[WorkItem], lease: Lease) -> None:
        partitions = sorted({item.partition for item in chunk} or lease.epochs)
        keys = [self._keys.epochs]
        args: list[Any] = [len(partitions)]
        for partition in partitions:
            args += (partition, lease.epochs[partition])
        places: dict[str, int] = {}
        for _, message in readable_messages(chunk):
            queue = message.queue_name
            if queue not in places:
                places[queue] = len(keys) + 1
                keys += (self._keys.bodies(queue), self._keys.queue(queue))
            args += (places[queue], message.message_id, redis_body_of(message))
        self.queues.see(places)
        try:
            with told_as_unreachable(self._client):
                lost = self._script(keys=keys, args=args)
        except Unreachable:
            self._is_doubtful = True
            raise
        if lost:
            raise Fenced(int(partition) for partition in lost)
