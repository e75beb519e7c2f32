"""`RedisConsumer`: takes messages from one queue, and ends them.

A message is held under the consumer's name from its fetch to its end. The name is new after every connection that was
lost: what was fetched and never arrived is held under the old one, and nobody would know of it. So the next consumer
takes over from the one before: what is being worked on goes with it, the rest returns to the queue at once. Were the
process gone, maintenance returns all of it.

What is held is lost when Redis was emptied, and returned when the consumer was silent for too long: then Redis does not
know its name any more. Others may run these steps now, or have run them. So what was not begun here is dropped at the
next sign of life, and where the last one is old nothing is begun before the next. Messages of plain actors are not
dropped: nobody publishes them again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from dramatiq.broker import Consumer, MessageProxy
from dramatiq.errors import ConnectionClosed
from pydantic_core import to_json

from dramaturg_actors.bodies import read_message
from dramaturg_actors.deliveries import Begun, Delivery
from dramaturg_actors.endings import Endings
from dramaturg_actors.estates import Estate, Estates
from dramaturg_actors.pace import Pace
from dramaturg_actors.patience import Patience
from dramaturg_actors.redis_scripts import Fetched, Finished, RedisScripts
from dramaturg_actors.redis_waiting import QueueWaiter
from dramaturg_protocol.errors import InternalError
from dramaturg_protocol.ids import new_message_id
from dramaturg_protocol.reading import MalformedMessage
from dramaturg_protocol.redis_client import CONFIRMED_SECONDS
from dramaturg_protocol.transport import TASK_OPTION

#: How often a consumer that may take nothing gives a sign of life.
_BEAT_SECONDS: Final = 1.0
#: Messages put off at once; what is beyond counts as taken.
_PUT_OFF_LIMIT: Final = 1000
#: How long others may take first what was put off here.
_COURTESY_SECONDS: Final = 0.05
_NOTE_CHARACTERS: Final = 64 * 1024

_logger = logging.getLogger("dramaturg.actors")


@dataclass(frozen=True, slots=True)
class _PutOff:
    due: float
    id: str


class RedisConsumer(Consumer):
    """Takes messages from one queue of Redis.

    Parameters:
      waiter: waits for the queue to have something.
      prefetch: how many may be held at once.
      timeout: seconds after which a wait gives ``None``.
      confirmed: seconds for which Redis' word counts that it knows this consumer.
      patience: when to put a message off, and when no longer.
      estates: what consumers of this broker left.
      endings: of this queue.
      maintain: called now and then.
    """

    def __init__(
        self,
        queue: str,
        scripts: RedisScripts,
        waiter: QueueWaiter,
        *,
        prefetch: int,
        timeout: float,
        confirmed: float = CONFIRMED_SECONDS,
        patience: Patience,
        estates: Estates,
        endings: Endings,
        maintain: Callable[[], None],
    ) -> None:
        self.name = f"{new_message_id()}@{queue}"
        self._queue = queue
        self._scripts = scripts
        self._waiter = waiter
        self._prefetch = prefetch
        self._pace = Pace(prefetch)
        self._timeout = timeout
        self._confirmed = confirmed
        self._known_at = float("-inf")
        self._patience = patience
        self._estates = estates
        self._inherited = estates.take(queue)
        self._endings = endings
        self._maintain = maintain
        self._fetched: deque[Fetched] = deque()
        self._working: dict[str, Delivery] = {}
        self._unbegun: dict[str, Delivery] = {}  # of those, steps that wait for their begin
        self._plain: dict[str, Delivery] = {}  # of those, messages of plain actors, which do not say when they begin
        self._put_off: list[_PutOff] = []
        self._changed = threading.Condition()
        self._beat_due = 0.0
        self._is_woken = False
        self._is_full = False
        self._is_drained = False
        self._takes_new = True
        self._is_closed = False

    # -- what Dramatiq's consumer thread asks

    def __next__(self) -> Delivery | None:
        """The next message, or ``None`` after a while."""
        self._take_over()
        self._return_due()
        if not self._takes_new:
            self._hand_back_unseen()
        if not self._fetched:
            self._refill()
        while self._fetched:
            fetched = self._fetched.popleft()
            if fetched.id in self._working:
                # It is being worked on, was lost or returned, and came again: the copy in hand ends this one too.
                continue
            try:
                return self._delivery(fetched)
            except MalformedMessage as problem:
                self._put_body_aside(fetched.id, fetched.body, [self.name], str(problem))
        return None

    def ack(self, message: MessageProxy) -> None:
        """Forget a message that was processed."""
        delivery = _ours(message)
        self._end(delivery, lambda holders: self._scripts.finish(self._queue, holders, [Finished(delivery.id)])[0])

    def nack(self, message: MessageProxy) -> None:
        """Move a message to the dead letters; a step's is forgotten, since the coordinator knows its outcome."""
        delivery = _ours(message)
        if TASK_OPTION in delivery.options:
            self.ack(delivery)
        else:
            self._end(delivery, lambda holders: self._scripts.refuse(self._queue, holders, delivery.id))

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Hand messages back that were never begun.

        Raises:
          ConnectionClosed: Redis did not take them; they return when this consumer is closed or found dead.
        """
        deliveries = [each for each in map(_ours, messages) if not (each.is_over or each.is_ending)]
        holders = {holder for each in deliveries for holder in each.holders}
        try:
            self._scripts.hand_back(self._queue, holders, [each.id for each in deliveries])
        finally:
            for each in deliveries:
                each.let_go()

    def close(self) -> None:
        """Hand back what nobody saw; leave what is being worked on to the next consumer of the queue."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._hand_back_unseen()
        except ConnectionClosed as error:
            _logger.info("what queue %r had given and nobody saw returns later: %s", self._queue, error)
        self._waiter.close()
        # A delayed message is not worked on: Dramatiq drops them all when a connection is lost.
        working = {each.id: each for each in self._working.copy().values() if each.options.get("eta") is None}
        self._estates.leave(self._queue, [*self._inherited, Estate(self.name, working)])

    # -- what others ask, from any thread

    def wake(self) -> None:
        """End the wait for a message."""
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()
        self._waiter.wake()

    def take_nothing(self) -> None:
        """Give no more messages and hand back what nobody saw, but go on to hold what was given."""
        self._takes_new = False
        self.wake()

    def finish(self, delivery: Delivery, report: str, partition: int, tell: Callable[[], None]) -> None:
        """End a message and publish its report."""
        self._endings.end(delivery, report, partition, tell)

    def put_off(self, delivery: Delivery) -> bool:
        """Hand a message back after a pause, or say that this was done for long enough."""
        pause = self._patience.pause(delivery.id, delivery.actor_name, self._queue)
        if pause is None:
            return False
        self._put_off.append(_PutOff(time.monotonic() + pause, delivery.id))
        delivery.let_go()
        return True

    def put_aside(self, delivery: Delivery, reason: str) -> None:
        """Take a message off, and keep a note of it."""
        self._put_body_aside(delivery.id, delivery.encode(), delivery.holders, reason)
        delivery.let_go()

    def forget(self, delivery: Delivery) -> None:
        """Have room for another message."""
        with self._changed:
            if self._working.get(delivery.id) is delivery:
                del self._working[delivery.id]
                self._unbegun.pop(delivery.id, None)
                self._plain.pop(delivery.id, None)
                self._pace.ended(delivery.seconds, len(self._unbegun))
            self._tell_of_room()

    def begun(self, delivery: Delivery, waited: float) -> None:
        """Have room for another step to wait."""
        with self._changed:
            self._unbegun.pop(delivery.id, None)
            self._pace.begun(waited)
            self._tell_of_room()

    def begin_again(self, delivery: Delivery) -> Begun:
        """Count that a message begins which was delivered before."""
        return self._scripts.begin_again(self._queue, delivery.id)

    def say(self, delivery: Delivery, report: str, partition: int) -> None:
        """Publish a heartbeat, and keep it for the next delivery."""
        self._scripts.say(self._queue, delivery.id, report, partition)

    def _tell_of_room(self) -> None:
        # Only where it can take something: each waking costs more than the message.
        if self._is_full and self._room() > 0:
            self._is_full = False
            self._changed.notify_all()

    def is_confirmed(self, patience: float) -> bool:
        """Whether Redis said lately that it knows what is held here; waits for that, some seconds at most."""
        if self._is_fresh():
            return True
        with self._changed:
            return self._changed.wait_for(self._is_fresh, patience)

    # -- taking

    def _refill(self) -> None:
        room = self._room()
        has_waited = False
        if room > 0 and self._is_drained and time.monotonic() < self._beat_due:
            # It gave less than it was asked for: most likely a fetch would find nothing.
            self._waiter.wait(self._wait_seconds())
            has_waited, room = True, self._room()
        if room > 0 or time.monotonic() >= self._beat_due:
            # Whoever failed to end it may have been given up.
            self._endings.flush()
            self._fetch(room)
            self._maintain()
        if self._fetched or has_waited:
            return
        if room > 0:
            self._waiter.wait(self._wait_seconds())
        else:
            with self._changed:
                self._is_full = True
                self._changed.wait_for(lambda: self._is_woken or self._room() > 0, self._wait_seconds())
                self._is_full = self._is_woken = False

    def _fetch(self, room: int) -> None:
        asked_at = time.monotonic()
        is_known, fetched = self._scripts.fetch(self._queue, self.name, room)
        if not is_known:
            self._void_unbegun(self._working.copy().values())
            self._put_off.clear()
        self._fetched.extend(fetched)
        self._is_drained = 0 < len(fetched) < room
        self._beat_due = time.monotonic() + _BEAT_SECONDS
        self._confirm(asked_at)

    def _confirm(self, asked_at: float) -> None:
        with self._changed:
            # From before the question: what Redis said may have taken long to arrive.
            self._known_at = asked_at
            self._changed.notify_all()

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._known_at < self._confirmed

    def _void_unbegun(self, deliveries: Iterable[Delivery]) -> list[str]:
        """Drop those that can be published again and were not begun; their ids."""
        void = [each.id for each in deliveries if TASK_OPTION in each.options and each.void()]
        if void:
            _logger.warning(
                "Redis does not know any more that this worker holds %d messages of queue %r: they are dropped",
                len(void),
                self._queue,
            )
        return void

    def _room(self) -> int:
        if not self._takes_new:
            return 0
        room = self._prefetch - len(self._working) - max(0, len(self._put_off) - _PUT_OFF_LIMIT)
        room = min(room, self._pace.allowed - len(self._unbegun))
        # Not each one singly while others wait: that would be a fetch for each message.
        is_worth_it = 2 * room >= min(self._prefetch, self._pace.allowed) or not (self._unbegun or self._plain)
        return max(0, room) if is_worth_it else 0

    def _wait_seconds(self) -> float:
        if not self._put_off:
            return self._timeout
        return min(self._timeout, max(0.0, min(each.due for each in self._put_off) - time.monotonic()))

    def _delivery(self, fetched: Fetched) -> Delivery:
        message = read_message(fetched.body, self._queue)
        delivery = Delivery(message, fetched.id, fetched.number, self)
        self._hold(delivery)
        return delivery

    def _hold(self, delivery: Delivery) -> None:
        self._working[delivery.id] = delivery
        if TASK_OPTION not in delivery.options:
            self._plain[delivery.id] = delivery
        elif not delivery.is_begun:
            self._unbegun[delivery.id] = delivery

    def _take_over(self) -> None:
        if not self._inherited:
            return
        asked_at = time.monotonic()
        while self._inherited:
            estate = self._inherited[0]
            for delivery in estate.working.values():
                self._adopt(delivery)
            working = [each.id for each in estate.working.values() if not each.is_over]
            is_known, returned = self._scripts.take_over(self._queue, self.name, estate.name, working)
            if not is_known:
                # It may have been taken over by one whose answer was lost: what is held still returns.
                void = self._void_unbegun(estate.working.values())
                self._scripts.hand_back(self._queue, [self.name], void)
            self._inherited.pop(0)
            if returned:
                _logger.warning("%d messages of queue %r were taken and lost: they return", returned, self._queue)
        self._confirm(asked_at)

    def _adopt(self, delivery: Delivery) -> None:
        if delivery.taker is not self:
            # Its end may be under way in another thread, which looks at these in the opposite order (`let_go`).
            delivery.holders = (self.name, *delivery.holders)
            delivery.taker = self
            self._hold(delivery)
            if delivery.is_over or delivery.is_begun:
                self._unbegun.pop(delivery.id, None)
            if delivery.is_over:
                self._working.pop(delivery.id, None)
                self._plain.pop(delivery.id, None)

    # -- ending

    def _end(self, delivery: Delivery, end: Callable[[Iterable[str]], bool]) -> None:
        while not (delivery.is_over or delivery.is_ending):
            holders = delivery.holders
            if end(holders) or delivery.holders is holders:
                delivery.let_go()

    def _return_due(self) -> None:
        now = time.monotonic()
        due = [each for each in self._put_off if each.due <= now]
        if not due:
            return
        self._scripts.hand_back(self._queue, [self.name], [each.id for each in due], at_head=False)
        self._put_off = [each for each in self._put_off if each.due > now]
        with self._changed:
            # Who blocks on the queue is woken now: let those go first that may know more than we do.
            self._changed.wait_for(lambda: self._is_woken, _COURTESY_SECONDS)

    def _hand_back_unseen(self) -> None:
        unseen = [*(each.id for each in self._fetched), *(each.id for each in self._put_off)]
        self._scripts.hand_back(self._queue, [self.name], unseen)
        self._fetched.clear()
        self._put_off.clear()

    def _put_body_aside(self, message_id: str, body: bytes, holders: Iterable[str], reason: str) -> None:
        _logger.error("message %s of queue %r is put aside: %s", message_id, self._queue, reason)
        text = body[:_NOTE_CHARACTERS].decode("utf-8", "backslashreplace")
        note: dict[str, Any] = {"queue": self._queue, "id": message_id, "reason": reason, "text": text}
        self._scripts.put_aside(self._queue, holders, message_id, to_json(note).decode())


def _ours(message: MessageProxy) -> Delivery:
    if not isinstance(message, Delivery):
        raise InternalError(f"{message!r} did not come from a consumer of dramaturg.RedisBroker")
    return message
