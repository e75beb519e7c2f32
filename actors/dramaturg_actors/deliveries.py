"""A message as a consumer of ours gives it: it can be ended together with its report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Any, Final, NamedTuple, Protocol

import dramatiq
from dramatiq.broker import MessageProxy
from dramatiq.errors import ConnectionClosed

#: How long a wait for Redis' word lasts before it is looked whether the worker stops.
_LOOK_SECONDS: Final = 0.1


class Fate(Enum):
    """What became of a message that was taken; decided once."""

    BEGUN = auto()
    VOID = auto()


class Begun(NamedTuple):
    """What the broker knows of a message that was delivered before.

    Attributes:
      times: how often it began again, this time included.
      said: the last heartbeat with details that a delivery before this one gave, an encoded report; empty for none.
      is_exact: whether each time was counted.
    """

    times: int
    said: str = ""
    is_exact: bool = True


# One for all: it is held for two bytecodes.
_deciding = threading.Lock()


class Delivery(MessageProxy):
    """A message in the hands of this worker, and what can become of it beside Dramatiq's ack and nack.

    Attributes:
      id: the message's in its queue.
      number: how often it was taken from its queue, from 1. What was handed back unbegun does not count.
      taker: who took it; another one after a lost connection.
      holders: the names under which it may be held in Redis.
      is_ending: its end is known, and is told to Redis.
      is_over: it is not held any more.
    """

    def __init__(self, message: dramatiq.Message[Any], id: str, number: int, taker: Taker) -> None:  # noqa: A002
        super().__init__(message)  # pyright: ignore[reportUnknownMemberType]
        self.id = id
        self.number = number
        self.taker = taker
        self.holders: tuple[str, ...] = (taker.name,)
        self.is_ending = False
        self.is_over = False
        self._fate: Fate | None = None
        self._taken_at = time.monotonic()
        self._begun_at: float | None = None

    def begin(self, is_stopping: Callable[[], bool]) -> bool:
        """Say that the step begins now, or hear that it must not; right before its code.

        What was fetched is not this worker's any more once Redis was emptied, or once it was silent for so long that
        others were given its messages. So where Redis' last word on that is old, this waits for the next.
        """
        while not self.taker.is_confirmed(_LOOK_SECONDS):
            if is_stopping():
                self._give_up()
                return False
        if not self._decide(Fate.BEGUN):
            return False
        self._begun_at = time.monotonic()
        self.taker.begun(self, self._begun_at - self._taken_at)
        return True

    @property
    def is_begun(self) -> bool:
        """Whether its step began here."""
        return self._fate is Fate.BEGUN

    @property
    def seconds(self) -> float:
        """How long ago it began, or was taken where that is not known."""
        return time.monotonic() - (self._begun_at or self._taken_at)

    def begin_again(self) -> Begun:
        """Count that the step begins though it was delivered before.

        Raises:
          ConnectionClosed: the broker did not count it.
        """
        return self.taker.begin_again(self)

    def say(self, report: str, partition: int) -> None:
        """Publish a heartbeat with details, and keep it for the next delivery where the broker can.

        Raises:
          ConnectionClosed: the broker did not take it.
        """
        self.taker.say(self, report, partition)

    def void(self) -> bool:
        """Have the message never begin; false if it has begun."""
        if not self._decide(Fate.VOID):
            return False
        self.let_go()
        return True

    def finish(self, report: str, partition: int, tell: Callable[[], None]) -> None:
        """End the message and publish its report, in one; together with others where a call for them is under way.

        Parameters:
          tell: called when it is out, by any thread; before this returns, unless others take it along.

        Raises:
          ConnectionClosed: the broker did not do it, or its answer was lost; doing it again is harmless.
        """
        self.taker.finish(self, report, partition, tell)

    def put_off(self) -> bool:
        """Hand the message back after a pause, for a worker that knows its actor; false when that went on for long.

        For the thread that took it.
        """
        return self.taker.put_off(self)

    def put_aside(self, reason: str) -> None:
        """Take the message off and keep it where an operator finds it.

        Raises:
          ConnectionClosed: the broker did not do it.
        """
        self.taker.put_aside(self, reason)

    def _give_up(self) -> None:
        try:
            self.taker.requeue([self])
        except ConnectionClosed:
            # It stays under the consumer's name, and returns when the consumer is found dead.
            self.void()

    def _decide(self, fate: Fate) -> bool:
        with _deciding:
            if self._fate is None:
                self._fate = fate
            return self._fate is fate

    def let_go(self) -> None:
        """Hold the message no longer."""
        # In this order: another consumer may be taking over, and looks at these in the opposite one.
        self.is_over = True
        self.taker.forget(self)


class Taker(Protocol):
    """A consumer whose messages are `Delivery` objects; see there."""

    name: str

    def is_confirmed(self, patience: float) -> bool:
        """Whether Redis said lately that it knows what is held here; waits for that, some seconds at most."""
        ...

    def begun(self, delivery: Delivery, waited: float) -> None:
        """A step begins; it waited here for some seconds."""
        ...

    def begin_again(self, delivery: Delivery) -> Begun: ...

    def say(self, delivery: Delivery, report: str, partition: int) -> None: ...

    def requeue(self, messages: Iterable[MessageProxy]) -> None: ...

    def finish(self, delivery: Delivery, report: str, partition: int, tell: Callable[[], None]) -> None: ...

    def put_off(self, delivery: Delivery) -> bool: ...

    def put_aside(self, delivery: Delivery, reason: str) -> None: ...

    def forget(self, delivery: Delivery) -> None: ...
