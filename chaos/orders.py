"""What clients ordered, and what they were told: kept in a file, outside everything that Dramaturg writes."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class Promise(StrEnum):
    """What a client may expect of a start."""

    ACCEPTED = "accepted"
    """The call returned: the run is there, whatever happens."""
    UNCERTAIN = "uncertain"
    """The call failed while the database was away: there is one run or none."""
    SENT = "sent"
    """A message of a client without a database: as durable as the broker, until a coordinator took it."""


@dataclass(frozen=True, slots=True)
class Order:
    """A start.

    Attributes:
      tag: that its runs bear; one for all that were started in one call.
      run_id: empty where the call failed.
      key: the idempotency key or workflow id that it bore, if any; all starts with one key are one run.
      result: what the run has to give, as JSON.
      status: that its run has to end with, if nobody stops it.
    """

    tag: str
    promise: Promise
    workflow: str
    way: str
    at: float
    run_id: str
    result: str
    status: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Verb:
    """A cancel or a terminate.

    Attributes:
      until: when the call was over.
      is_answered: whether it returned; otherwise it may have counted or not.
    """

    run_id: str
    verb: str
    at: float
    until: float
    is_answered: bool


class Journal:
    """Orders and verbs of all clients, each a line of a file as soon as it is known.

    Parameters:
      path: where they are written.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._file = path.open("a", encoding="utf-8")
        self.orders: list[Order] = []
        self.verbs: list[Verb] = []
        self.refusals: Counter[str] = Counter()

    def ordered(self, orders: Sequence[Order]) -> None:
        """Clients started runs."""
        with self._lock:
            self.orders += orders
            self._write([{"order": asdict(order)} for order in orders])

    def asked(self, verb: Verb) -> None:
        """A client stopped a run."""
        with self._lock:
            self.verbs.append(verb)
            self._write([{"verb": asdict(verb)}])

    def refused(self, what: str, error: Exception) -> None:
        """A call failed as it may while services are away."""
        with self._lock:
            self.refusals[f"{what}: {type(error).__name__}"] += 1

    def counts(self) -> Mapping[str, int]:
        """How many starts of each way and promise, verbs, and calls that failed."""
        with self._lock:
            counted = Counter(f"{order.way} ({order.promise})" for order in self.orders)
            counted += Counter(verb.verb for verb in self.verbs)
            return dict(sorted((counted + self.refusals).items()))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, lines: Sequence[Mapping[str, Any]]) -> None:
        self._file.writelines(json.dumps(line) + "\n" for line in lines)
        self._file.flush()


def now() -> float:
    """Seconds since the epoch, by the clock of the ledger and, on this one machine, of the database."""
    return time.time()
