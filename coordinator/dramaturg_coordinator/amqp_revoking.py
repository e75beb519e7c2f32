"""Take back, over RabbitMQ, what workers have for nothing.

RabbitMQ deletes no single message, so what is queued stays there: the workers that hear of it drop it when they take it.
Nobody keeps it for a worker that starts later, or is cut off just then: one of those may begin such a step, and is told
when it reports that it runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_core import to_json

from dramaturg_coordinator.revoking import Revoking
from dramaturg_protocol.amqp import AmqpNames
from dramaturg_protocol.amqp_sending import AmqpSender, tell_workers
from dramaturg_protocol.records import Revoked


def amqp_revoking(names: AmqpNames, sender: AmqpSender) -> Revoking:
    """What tells the workers of a namespace, after each commit, which attempts nobody waits for any more."""

    def send(revoked: Sequence[Revoked]) -> None:
        sender.send([tell_workers(names, to_json([each.message_id for each in revoked]))])

    return Revoking(send)
