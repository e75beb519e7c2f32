"""What reports have in common that are held in this process until they are acknowledged: waiting for them."""

from __future__ import annotations

import threading
from collections import deque
from datetime import timedelta
from typing import Generic, TypeVar

Held = TypeVar("Held")


class InHand(Generic[Held]):
    """Things that have come and are not acknowledged, oldest first; the methods may be called from any thread."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._in_hand: deque[Held] = deque()
        self._is_woken = False

    def wait(self, timeout: timedelta) -> None:
        """Return when there is something, after `wake`, or when the time is over."""
        with self._condition:
            if not self._in_hand and not self._is_woken:
                self._condition.wait(timeout.total_seconds())

    def wake(self) -> None:
        """End a wait."""
        with self._condition:
            self._is_woken = True
            self._condition.notify()

    def take_wake(self) -> bool:
        """Whether somebody called `wake` since this was asked last."""
        was_woken, self._is_woken = self._is_woken, False
        return was_woken

    def _come(self, what: Held) -> None:
        with self._condition:
            self._in_hand.append(what)
            self._condition.notify()
