"""What a process has in its hands of one queue of RabbitMQ, whichever connection brought it.

RabbitMQ hands out anew whatever a lost connection had not acknowledged. A step that this process still runs must not
begin a second time here, nor one whose report went out while its acknowledgement was lost.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import dramatiq

from dramaturg_actors.deliveries import Delivery
from dramaturg_protocol.transport import TASK_OPTION

if TYPE_CHECKING:
    from dramaturg_actors.rabbitmq_consumer import RabbitmqConsumer

_REMEMBERED: Final = 10_000

Key = tuple[str, str]


class RabbitmqDelivery(Delivery):
    """A message from RabbitMQ.

    Attributes:
      tags: under which its taker's channel knows it; more than one where copies of it came.
      redelivered: it was handed out before, to this worker or to another one.
    """

    def __init__(self, message: dramatiq.Message[Any], tag: int, number: int, taker: RabbitmqConsumer) -> None:
        super().__init__(message, message.message_id, number, taker)
        self.taker: RabbitmqConsumer
        self.tags = [tag]
        self.redelivered = number > 1


class Hands:
    """The steps of one queue that this process runs, and those that it reported lately."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._working: dict[Key, RabbitmqDelivery] = {}
        self._reported: OrderedDict[Key, None] = OrderedDict()

    def take(self, delivery: RabbitmqDelivery, tag: int, taker: RabbitmqConsumer) -> bool:
        """Whether a message that came is a new one; if it is not, its copy in hand has the tag from now on."""
        key = _key_of(delivery)
        if key is None:
            return True
        with self._lock:
            held = self._working.get(key)
            if held is None:
                self._working[key] = delivery
                return True
            held.tags = [*held.tags, tag] if held.taker is taker else [tag]
            held.taker = taker
            return False

    def of(self, taker: RabbitmqConsumer) -> list[RabbitmqDelivery]:
        """The steps that a consumer took."""
        with self._lock:
            return [each for each in self._working.values() if each.taker is taker]

    def was_reported(self, message: dramatiq.Message[Any]) -> bool:
        """Whether the outcome of a message was reported from here, so that it only has to be acknowledged."""
        key = _key_of(message)
        with self._lock:
            return key is not None and key in self._reported

    def end(self, delivery: RabbitmqDelivery) -> None:
        """The outcome of a message is out: whatever copy comes from now on is a late one."""
        key = _key_of(delivery)
        if key is None:
            return
        with self._lock:
            self._working.pop(key, None)
            self._reported[key] = None
            if len(self._reported) > _REMEMBERED:
                self._reported.popitem(last=False)

    def forget(self, delivery: RabbitmqDelivery) -> None:
        """It is held no longer."""
        key = _key_of(delivery)
        with self._lock:
            if key is not None and self._working.get(key) is delivery:
                del self._working[key]


def _key_of(message: Any) -> Key | None:
    """What tells a step's attempt from all others, also from itself after it was handed back; ``None`` for others."""
    task = message.options.get(TASK_OPTION)
    return (message.message_id, task) if isinstance(task, str) else None
