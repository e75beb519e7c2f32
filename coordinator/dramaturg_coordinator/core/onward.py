"""Where code goes on in another way than it did before, in the midst of what it does in reply to one event.

A cut keeps some of that and not the rest:

    3 a completed ──► 4 step b  5 timer  6 failed  7 reset(keep 4)

Told of 3 again, the code asks for step b as it did then. What it does from there on is of the cut's generation and time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from dramaturg_coordinator.core.commands import SameCall, is_same
from dramaturg_protocol import events as e


class Onward:
    """What code asks for again in reply to events that it is told together, and the cuts beyond.

    Parameters:
      history: the events that count.
      index: of the event with which it is told of them.

    Attributes:
      is_last: it is told the last of them now.
    """

    def __init__(self, history: Sequence[e.HistoryEvent], index: int, same_call: SameCall) -> None:
        self._same_call = same_call
        self._ahead = deque(_ahead(history, index))
        self.is_last = False

    def ask(self, body: e.EventBody) -> None:
        """The code asks for this."""
        if self._ahead and is_same(self._ahead[0].body, body, self._same_call):
            self._ahead.popleft()

    def cuts(self) -> Iterator[e.HistoryEvent]:
        """The cuts that the code has come to."""
        while self.is_last and self._ahead and isinstance(self._ahead[0].body, e.Cut):
            yield self._ahead.popleft()


def _ahead(history: Sequence[e.HistoryEvent], index: int) -> Iterator[e.HistoryEvent]:
    """What was recorded in reply, and the cuts that came next, up to what the code is told after that."""
    is_holding = False
    for at in range(index + 1, len(history)):
        event = history[at]
        match event.body:
            case e.Cut(early=early):
                if early:
                    yield event
            case e.RunBlocked() | e.RunPaused():
                is_holding = True
            case _ if isinstance(event.body, e.COMMANDS):
                yield event
            case _ if isinstance(event.body, e.RESUMES) or (isinstance(event.body, e.WAKES) and not is_holding):
                return
            case _:
                pass
