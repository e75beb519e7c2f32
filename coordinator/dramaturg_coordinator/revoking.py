"""Take back what workers have for nothing: attempts of steps that were cancelled, or whose run has ended.

It is not written down: after a crash between commit and message such a step begins, and is taken back when its worker
tells that it runs.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.records import Revoked, RunWrites

logger = logging.getLogger("dramaturg.coordinator")

#: In one message.
CHUNK: Final = 500
#: Kept while the broker does not answer.
_UNSENT_LIMIT: Final = 20_000


class Revoking:
    """An observer of turns.

    Parameters:
      send: has all workers hear of up to `CHUNK` attempts; raises `Unreachable`, after which they are sent once more.
    """

    def __init__(self, send: Callable[[Sequence[Revoked]], None]) -> None:
        self._send = send
        self._unsent: deque[Revoked] = deque(maxlen=_UNSENT_LIMIT)

    def __call__(self, writes: Sequence[RunWrites]) -> None:
        """Take back what the committed writes say."""
        for each in writes:
            self._unsent.extend(each.revoked)
        try:
            while self._unsent:
                chunk = list(islice(self._unsent, CHUNK))
                self._send(chunk)
                for _ in chunk:
                    self._unsent.popleft()
        except Unreachable as error:
            logger.warning("%d cancelled steps are taken back once the broker answers: %s", len(self._unsent), error)
