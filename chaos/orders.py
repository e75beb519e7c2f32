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


class Heard(StrEnum):
    """What became of something that a client said to a run."""

    YES = "yes"
    """The call returned."""
    NO = "no"
    """It was refused, as it may be: somebody else was first, or the run does not take it."""
    UNKNOWN = "unknown"
    """It was not answered."""


@dataclass(frozen=True, slots=True)
class Said:
    """A signal, an update, a query, a decision, or the call of a hook.

    Attributes:
      run_id: of the first run, where it is a chain.
      name: that nothing else bears.
      given: what was said, as JSON.
      expected: the answer that there has to be, as JSON; ``null`` where any will do.
      answer: as JSON.
      is_keyed: whether all tries count once.
      tries: how often it was said; all but the last were not answered.
    """

    run_id: str
    what: str
    name: str
    given: str
    expected: str
    answer: str
    is_keyed: bool
    heard: Heard
    tries: int
    at: float
    until: float


@dataclass(frozen=True, slots=True)
class Timetable:
    """A schedule.

    Attributes:
      start_at, end_at: its first time, and the moment after which there are none; seconds since the epoch.
      every: seconds from one time to the next.
    """

    schedule_id: str
    start_at: float
    end_at: float
    every: float


class Journal:
    """What all clients ordered and said, each a line of a file as soon as it is known.

    Parameters:
      path: where they are written.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._file = path.open("a", encoding="utf-8")
        self.orders: list[Order] = []
        self.verbs: list[Verb] = []
        self.speech: list[Said] = []
        self.timetables: list[Timetable] = []
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

    def said(self, said: Said) -> None:
        """A client said something to a run."""
        with self._lock:
            self.speech.append(said)
            self._write([{"said": asdict(said)}])

    def scheduled(self, timetable: Timetable) -> None:
        """A client made a schedule."""
        with self._lock:
            self.timetables.append(timetable)
            self._write([{"timetable": asdict(timetable)}])

    def refused(self, what: str, error: Exception) -> None:
        """A call failed as it may while services are away."""
        with self._lock:
            self.refusals[f"{what}: {type(error).__name__}"] += 1

    def counts(self) -> Mapping[str, int]:
        """How many starts of each way and promise, verbs, what was said, and calls that failed."""
        with self._lock:
            counted = Counter(f"{order.way} ({order.promise})" for order in self.orders)
            counted += Counter(verb.verb for verb in self.verbs)
            counted += Counter(f"{said.what} (heard: {said.heard})" for said in self.speech)
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
