"""Publish again what the broker no longer knows, and nothing else.

A step whose message is out is in one of three places: in the broker, in a report that nobody took yet, or nowhere. Only
in the last case it is published again, in this order:

1. find the messages that the broker does not have;
2. note how far the reports reach;
3. take and commit every report up to there;
4. publish those that are still open.

A report that comes after 2 belongs to a message that was in the broker at 1. A crash between any two repeats at most a
publish, which is idempotent.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime

from dramaturg_coordinator.ports import Clock, Publisher, Reports, Store
from dramaturg_protocol.faults import Refused
from dramaturg_protocol.ids import attempt_id
from dramaturg_protocol.messages import (
    ReportKind,
    Request,
    RequestKind,
    StepReport,
    decode_task,
    encode_message,
)
from dramaturg_protocol.reading import MalformedMessage
from dramaturg_protocol.records import Lease, RunWrites, WorkItem

logger = logging.getLogger("dramaturg.coordinator")

_SLICE = 500

#: A step that was sent again so many times without a report is given up: no worker that can report has it.
OFTEN = 3


class Reconciler:
    """Compares the open work with the broker.

    Parameters:
      take_turn: takes one turn; whether there was anything to do.
      is_ours: whether a run is one that this coordinator advances.
      send: keeps requests for the runs.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        store: Store,
        publisher: Publisher,
        reports: Reports,
        take_turn: Callable[[], bool],
        is_ours: Callable[[str], bool],
        send: Callable[[Sequence[Request]], None],
    ) -> None:
        self._clock = clock
        self._store = store
        self._publisher = publisher
        self._reports = reports
        self._take_turn = take_turn
        self._is_ours = is_ours
        self._send = send
        self._unreported: dict[int, int] = {}

    def unreported_in(self, partitions: Collection[int]) -> int:
        """How many steps of these partitions were sent again and again without a report, as of the last sweep of each."""
        return sum(count for partition, count in list(self._unreported.items()) if partition in partitions)

    def sweep(self, lease: Lease, *, gives_up: bool = False, was_emptied: bool = False) -> int:
        """Find what was lost in these partitions and publish it again; how many messages.

        Parameters:
          gives_up: the broker has lost nothing by itself since it was swept last, so that somebody took what it has no
            more: a step of which that was so again and again is given up.
          was_emptied: it has lost everything by itself; that says nothing of its workers.

        Raises:
          Fenced: the lease is lost.
          Unreachable: the database or the broker does not answer; sweep again later.
        """
        sent = self._sent(lease)
        often = Counter(item.partition for item in sent if item.republished >= OFTEN)
        self._unreported.update({partition: often[partition] for partition in lease.epochs})
        lost = self._publisher.missing(sent, lease)
        if not lost:
            return 0
        mark = self._reports.mark()
        while not self._reports.is_past(mark) and self._take_turn():
            # A turn with nothing to do has read every stream to its end: what the mark saw beyond it is gone, since
            # the broker was emptied, or since another owner took it.
            pass
        open_still = {(item.key, item.attempt) for item in self._sent(lease)}
        again = [item for item in lost if (item.key, item.attempt) in open_still]
        if gives_up and self._publisher.can_lose:
            self._send([_not_reported(item) for item in again if item.republished >= OFTEN])
            again = [item for item in again if item.republished < OFTEN]
        for start in range(0, len(again), _SLICE):
            self._publish(again[start : start + _SLICE], lease, counts=not was_emptied)
        if again:
            logger.info("published %d step(s) again that the broker did not know any more", len(again))
        return len(again)

    def _sent(self, lease: Lease) -> list[WorkItem]:
        return [item for item in self._store.sent_work(lease.epochs.keys()) if self._is_ours(item.run_id)]

    def _publish(self, items: Sequence[WorkItem], lease: Lease, *, counts: bool) -> None:
        # Only of a broker that can be asked it is known that it had the message and has it no more.
        count = 1 if self._publisher.can_lose else 0
        # A time-out that was running counts from the next pick-up: the worker that had the step is gone.
        fresh = [
            replace(item, due=_start_by(item), republished=(item.republished + count) if counts else 0)
            for item in items
        ]
        changed = [item for item, before in zip(fresh, items, strict=True) if item != before]
        if changed:
            self._note(changed, lease)
        for item in changed:
            if item.republished == OFTEN:
                _tell(item)
        self._publisher.publish(fresh, lease)

    def _note(self, items: Sequence[WorkItem], lease: Lease) -> None:
        """Commit what changed; what the database refuses of one run is no reason not to send the others."""
        try:
            writes = [RunWrites(item.run_id, work=[item]) for item in items]
            self._store.commit(writes, lease, self._clock.now())
        except Refused as refused:
            if len(items) == 1:
                logger.error("it is not counted how often run %s is sent again: %s", items[0].run_id, refused)
                return
            middle = len(items) // 2
            self._note(items[:middle], lease)
            self._note(items[middle:], lease)


def _start_by(item: WorkItem) -> datetime | None:
    """Until when a message that is published again is of use."""
    try:
        return None if item.due is None or item.message is None else decode_task(item.message).start_by
    except MalformedMessage:
        return None


def _not_reported(item: WorkItem) -> Request:
    """What is recorded of a step whose message was taken again and again, and of which nobody said anything."""
    queue = queue_of(item)
    report = StepReport(
        item.run_id,
        item.generation,
        item.seq,
        item.attempt,
        item.partition,
        ReportKind.FAILED,
        error_type="NotReported",
        bases=("NotReported", "Exception", "BaseException"),
        message=(
            f"its message was acknowledged without an outcome, {OFTEN + 1} times: a worker without "
            f"dramaturg.install(broker) serves queue {queue!r}; install it there, or give the step another queue"
        ),
        fatal=True,
    )
    message_id = f"not-reported:{attempt_id(item.run_id, item.generation, item.seq, item.attempt)}"
    return Request(message_id, RequestKind.REPORT, item.run_id, item.partition, encode_message(report))


def queue_of(item: WorkItem) -> str:
    """The queue of an open step; empty where that cannot be read."""
    try:
        return "" if item.message is None else decode_task(item.message).queue
    except MalformedMessage:
        return ""


def _tell(item: WorkItem) -> None:
    logger.error(
        "step %d of run %s was sent %d times more without a report of any worker: is its queue served by a worker "
        "without dramaturg.install(broker), which acknowledges it and says nothing?",
        item.seq,
        item.run_id,
        item.republished,
    )
