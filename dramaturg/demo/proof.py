"""Compares a killed and resumed run's history with the ledger of what ran."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from dramaturg import Event
from dramaturg.demo.witness import Execution

OUTCOMES = {"step.completed", "step.failed", "step.timed_out", "step.cancelled", "step.skipped"}


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that durability promises, and whether it held."""

    text: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One class of steps: how many, how often they ran in each process, and their outcomes in the history."""

    what: str
    steps: int
    first: int
    second: int
    outcomes: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """A run that was killed and resumed.

    Attributes:
      before: its history as the killed process left it.
      after: its whole history.
      ledger: what ran, from the outside.
      first_pid: of the process that was killed.
    """

    before: Sequence[Event]
    after: Sequence[Event]
    ledger: Sequence[Execution]
    first_pid: int

    def finished(self) -> set[int]:
        """Positions of the steps whose outcome was recorded before the kill."""
        return {event.data["seq"] for event in self.before if event.type in OUTCOMES}

    def begun(self) -> set[int]:
        """Positions of the steps that were running at the kill: begun, not recorded."""
        return {each.seq for each in self.ledger if each.pid == self.first_pid} - self.finished()

    def queued(self) -> set[int]:
        """Positions of the steps that waited in a queue at the kill."""
        return _scheduled(self.before) - self.finished() - self.begun()

    def later(self) -> set[int]:
        """Positions of the steps that the workflow asked for after the restart."""
        return _scheduled(self.after) - _scheduled(self.before)

    def rows(self) -> list[Row]:
        """The table: every step once, by where it stood at the kill."""
        return [
            self._row("finished before the kill", self.finished()),
            self._row("running at the kill", self.begun()),
            self._row("in the queue at the kill", self.queued()),
            self._row("asked for after the restart", self.later()),
        ]

    def claims(self) -> list[Claim]:
        """What is to be proved, in the order in which to read it."""
        ended = "run.completed" in {event.type for event in self.after}
        return [
            Claim("the run is COMPLETED" if ended else "the run is not COMPLETED", ended),
            self._history_stands(),
            self._one_outcome_each(),
            self._no_finished_step_ran_again(),
            self._interrupted_steps_ran_again(),
        ]

    def _history_stands(self) -> Claim:
        same = sum(old == new for old, new in zip(self.before, self.after, strict=False))
        has_no_gap = [event.number for event in self.after] == [*range(1, len(self.after) + 1)]
        words = "events from before the kill stand unchanged in the history"
        return _count(words, same, len(self.before), also=has_no_gap)

    def _one_outcome_each(self) -> Claim:
        outcomes = Counter(event.data["seq"] for event in self.after if event.type in OUTCOMES)
        positions = _scheduled(self.after)
        once = sum(outcomes[seq] == 1 for seq in positions)
        return _count(
            "positions have exactly one outcome in the history", once, len(positions), also=set(outcomes) == positions
        )

    def _no_finished_step_ran_again(self) -> Claim:
        finished = self.finished()
        again = {each.seq for each in self._second()}
        times = Counter((each.seq, each.attempt) for each in self.ledger)
        repeated = {seq for (seq, _), number in times.items() if number > 1}
        ran = {seq for seq, _ in times}
        once = (finished & ran) - again - repeated
        return _count("steps that had finished ran once, and not again", len(once), len(finished))

    def _interrupted_steps_ran_again(self) -> Claim:
        begun = self.begun()
        keys: defaultdict[int, set[str]] = defaultdict(set)
        for each in self.ledger:
            keys[each.seq].add(each.key)
        owners = Counter(key for found in keys.values() for key in found)
        again = {each.seq for each in self._second() if len(keys[each.seq]) == 1}
        words = "steps that were running ran again, under the same key"
        is_unique = all(number == 1 for number in owners.values()) and all(len(found) == 1 for found in keys.values())
        return _count(words, len(begun & again), len(begun), also=is_unique)

    def _second(self) -> list[Execution]:
        return [each for each in self.ledger if each.pid != self.first_pid]

    def _row(self, what: str, positions: Collection[int]) -> Row:
        pids = [each.pid == self.first_pid for each in self.ledger if each.seq in positions]
        outcomes = sum(event.type in OUTCOMES and event.data["seq"] in positions for event in self.after)
        return Row(what, len(positions), pids.count(True), pids.count(False), outcomes)


def _count(words: str, good: int, of: int, *, also: bool = True) -> Claim:
    return Claim(f"{good} of {of} {words}", good == of and also)


def _scheduled(events: Iterable[Event]) -> set[int]:
    return {event.data["seq"] for event in events if event.type == "step.scheduled"}
