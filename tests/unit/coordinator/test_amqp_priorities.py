"""Priorities over RabbitMQ, whose own go the other way round."""

from __future__ import annotations

from typing import Any

import pytest

from dramaturg_coordinator.amqp_publishing import AmqpPublisher
from dramaturg_protocol.amqp import AmqpNames
from dramaturg_protocol.amqp_sending import Outgoing
from dramaturg_protocol.messages import StepTask, encode_message
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import Lease, WorkItem, WorkKind


class Sender:
    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    def send(self, messages: list[Outgoing]) -> None:
        self.sent += messages


class Inspector:
    def first(self, queue: str) -> bytes:
        return b"[]"


@pytest.mark.parametrize(
    ("most", "priority", "sent_with"),
    [(10, None, None), (10, 0, None), (10, 4, None), (10, -3, 3), (10, -30, 10), (None, -3, None)],
)
def test_what_is_urgent_passes_others_in_queues_that_have_priorities(
    most: int | None, priority: int | None, sent_with: int | None
) -> None:
    sender: Any = Sender()
    inspector: Any = Inspector()
    publisher = AmqpPublisher(AmqpNames("ns", most), sender, inspector)
    task = StepTask("r", 1, 1, 1, 0, "work", "default", "flow", "w", Payload("{}"), 8, priority=priority)
    item = WorkItem("r", 1, 1, 0, WorkKind.STEP, None, 1, encode_message(task), task=task)

    publisher.publish([item], Lease("me", {0: 1}))

    assert [each.priority for each in sender.sent] == [sent_with, None]
