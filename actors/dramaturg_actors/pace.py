"""How many steps a worker may take and let wait: as many as it begins within a moment, so that it hoards no long ones.

What waits here cannot be begun by a worker that is idle. What does not wait costs a round trip before it begins. So the
number grows while steps end quickly and none waits, and shrinks when one takes long or had to wait: 1 for steps that
take long, as much as the consumer may hold for those that take nothing.
"""

from __future__ import annotations

from typing import Final

#: How many may wait before anything is known of the queue.
FIRST_ALLOWED: Final = 1
#: A step that ends within this many seconds is quick: others may wait for it.
QUICK_SECONDS: Final = 0.1
#: A step that waited longer than this had better be begun by somebody else.
LONG_WAIT_SECONDS: Final = 0.2


class Pace:
    """How many steps of one queue may wait.

    Parameters:
      most: never more than this.

    Attributes:
      allowed: how many at present.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.allowed = min(most, FIRST_ALLOWED)

    def begun(self, waited: float) -> None:
        """A step begins that waited for some seconds."""
        if waited > LONG_WAIT_SECONDS:
            self.allowed = max(1, self.allowed // 2)

    def ended(self, took: float, waiting: int) -> None:
        """A step ended that took some seconds, while others wait."""
        if took >= QUICK_SECONDS:
            self.allowed = max(1, self.allowed // 2)
        elif not waiting:
            self.allowed = min(self._most, 2 * self.allowed)
