"""What can go wrong, and where: a plan that follows from a seed, and a note of all that was done.

A fault is named by the operation that it strikes and how often that operation was done before, as in ``commit#3``. The
name stays the same when other faults are left out, which is how a failure is reduced to the few that it needs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dramaturg.testing.simulation.chance import Chance


class FaultKind(StrEnum):
    """What goes wrong; the text is what a person reads."""

    CRASH_BEFORE = "the coordinator is killed before it"
    CRASH_AFTER = "the coordinator is killed after it"
    PAUSE_BEFORE = "the coordinator freezes before it, beyond its lease, and wakes up"
    PAUSE_AFTER = "the coordinator freezes after it, beyond its lease, and wakes up"
    FAIL_BEFORE = "it is not done, and its caller sees no answer"
    FAIL_AFTER = "it is done, but its caller sees no answer"
    PARTLY = "a part of it is done, and its caller sees no answer"
    REFUSED = "the database refuses several runs in one commit"
    HIDDEN = "a row becomes visible later than those after it"
    STOPPED = "the coordinator is stopped, and hands over"
    EMPTIED = "the broker is emptied"
    LOST = "the message is lost"
    OVERTAKEN = "another message is taken first"
    DOUBLED = "it comes twice"
    FOREIGN = "something that nobody can read comes beside it"
    SLOW = "it takes long"
    WORKER_DIES_BEFORE = "the worker is killed before the step's code ran"
    WORKER_DIES_AFTER = "the worker is killed after the step's code ran, before its report"
    OUTAGE = "all coordinators are killed, and come back after up to thirty hours"
    CLOCK_BACK = "the coordinator's clock is an hour behind"
    HANDED_BACK = "the worker stops and hands the step back"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that went wrong.

    Attributes:
      name: the operation and its number.
    """

    name: str
    kind: FaultKind

    def __str__(self) -> str:
        return f"{self.name}: {self.kind}"


class Crashed(BaseException):
    """A coordinator's process is gone; no code of its own may catch this and go on."""


#: How likely a fault is at one operation, one of these for each seed: fair, windy, stormy.
RATES = (0.01, 0.03, 0.08, 0.15)

#: How much likelier one is at the operations that change something, and less at those that are done all the time.
WEIGHTS = {
    "commit": 2.0,
    "publish": 4.0,
    "acknowledge": 2.0,
    "fire": 4.0,
    "boot": 0.5,
    "quiet": 4.0,
    "call": 3.0,
    "take": 4.0,
    "report": 4.0,
    "acquire": 0.3,
    "due_work": 0.3,
    "inbox": 0.3,
    "reports": 0.3,
    "next_due": 0.3,
    "waiting": 0.3,
    "is_emptied": 0.3,
    "look_for_loss": 0.3,
    "renew": 0.3,
    "serve": 0.3,
    "balance": 0.3,
    "evict": 0.3,
}

#: How many faults one seed has at most.
MOST = 12


class FaultPlan:
    """Decides at each operation whether something goes wrong.

    Parameters:
      is_calm: nothing ever does.
      only: names of the faults that may happen; ``None`` for all.

    Attributes:
      done: what went wrong so far, in order.
    """

    def __init__(self, chance: Chance, *, is_calm: bool = False, only: Collection[str] | None = None) -> None:
        self._chance = chance
        self._only = only
        self._counts: Counter[str] = Counter()
        self._rate = chance.pick("weather", RATES)
        self._left = 0 if is_calm else 1 + chance.below("most faults", MOST)
        self.done: list[Fault] = []

    def draw(self, operation: str, kinds: Sequence[FaultKind]) -> FaultKind | None:
        """What goes wrong with this operation, if anything."""
        number = self._counts[operation] = self._counts[operation] + 1
        if not self._left:
            return None
        if not self._chance.happens(operation, self._rate * WEIGHTS.get(operation, 1.0)):
            return None
        kind = self._chance.pick(f"kind of {operation}", kinds)
        name = f"{operation}#{number}"
        if self._only is not None and name not in self._only:
            return None
        self._left -= 1
        self.done.append(Fault(name, kind))
        return kind
