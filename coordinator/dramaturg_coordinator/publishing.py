"""Steps on their way to workers, through any Dramatiq broker: one `enqueue` a message."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import dramatiq
from dramatiq.errors import BrokerConnectionError

from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.reading import MalformedMessage
from dramaturg_protocol.records import Lease, WorkItem
from dramaturg_protocol.transport import message_of

logger = logging.getLogger("dramaturg.coordinator")


class BrokerPublisher:
    """The port `Publisher` over a Dramatiq broker."""

    can_lose = False

    def __init__(self, broker: dramatiq.Broker) -> None:
        self._broker: Any = broker

    def prepare(self, work: Sequence[WorkItem], lease: Lease) -> None:
        """Nothing to note: whoever takes over publishes all that is open."""

    def publish(self, work: Sequence[WorkItem], lease: Lease) -> None:
        """Send each item's message; a row without one is reported and left out."""
        for _, message in readable_messages(work):
            try:
                self._broker.declare_queue(message.queue_name)
                self._broker.enqueue(message)
            except BrokerConnectionError as error:
                raise Unreachable(f"the broker does not answer: {error}") from error

    def missing(self, work: Sequence[WorkItem], lease: Lease) -> Sequence[WorkItem]:
        """All of them: a broker of this kind cannot be asked, and one in memory begins empty."""
        return work

    def is_emptied(self) -> bool:
        """It cannot be known."""
        return False


def readable_messages(work: Iterable[WorkItem]) -> Iterator[tuple[WorkItem, dramatiq.Message[Any]]]:
    """Rows of open work with their messages; one that has none or a damaged one is reported and left out."""
    for item in work:
        if item.message is None:
            logger.error("open work %s has no message and cannot be published", item.key)
            continue
        try:
            message = message_of(item.message, item.task)
        except MalformedMessage as error:
            logger.error("the message of open work %s cannot be read: %s", item.key, error)
            continue
        yield item, message
