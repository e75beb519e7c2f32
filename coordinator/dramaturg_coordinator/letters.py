"""Put aside what no turn can take, each once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from dramaturg_coordinator.batch import ALWAYS, Batch, Held
from dramaturg_coordinator.ports import Store
from dramaturg_protocol.faults import Refused
from dramaturg_protocol.records import DeadLetter, Lease

logger = logging.getLogger("dramaturg.coordinator")


class Letters:
    """Writes dead letters."""

    def __init__(self, store: Store, held: Held) -> None:
        self._store = store
        self._held = held
        self._kept: set[DeadLetter] = set()

    def put_aside(self, batch: Batch, lease: Lease, now: datetime) -> None:
        """Keep what a batch gave up, where an operator sees it."""
        new = [letter for letter in batch.letters if letter not in self._kept]
        if new:
            self._write(new)
            # Once, however often the turn is taken again before the reports are acknowledged.
            self._kept.update(new)
        for writes in batch.hopeless:
            logger.error("a request for run %s is put aside: %s", writes.run_id, writes.dead_letters[0].reason)
            try:
                self._store.commit([writes], lease, now)
            except Refused as refused:
                logger.error("the database refuses to put it aside; it stays: %s", refused)
                self._held.add(writes.run_id, writes.arrivals, ALWAYS)
            else:
                self._held.forget(writes.run_id, writes.arrivals)

    def forget(self) -> None:
        """The reports are acknowledged: none of them comes again."""
        self._kept.clear()

    def _write(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            logger.error("a report is put aside: %s", letter.reason)
        try:
            self._store.put_aside(letters)
        except Refused as refused:
            if len(letters) == 1:
                logger.error("the database refuses a dead letter, which is dropped: %s: %r", refused, letters[0])
                return
            for letter in letters:
                self._write([letter])
