"""Results that a later call of the same step with the same arguments may have: ``cache="1h"``.

What a step gave is kept in the commit of its completion. A call that is scheduled within the time has it at once, as a
`step.completed` that says so; only a call that begins something: what a person has done again is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b

from dramaturg_coordinator.core.run_state import OpenStep
from dramaturg_coordinator.live import LiveRun
from dramaturg_coordinator.rules import Rules
from dramaturg_protocol import events as e
from dramaturg_protocol.errors import DramaturgError
from dramaturg_protocol.records import KeptResult, RunWrites
from dramaturg_protocol.sealing import digest_of

#: Gives the kept results of these keys; others are absent.
ReadKept = Callable[[Collection[str]], Mapping[str, KeptResult]]


class Reuse:
    """What one turn takes from and adds to the kept results, for one run."""

    def __init__(
        self, run: LiveRun, rules: Rules, writes: RunWrites, read: ReadKept, namespace: str, now: datetime
    ) -> None:
        self._run = run
        self._rules = rules
        self._writes = writes
        self._read = read
        self._namespace = namespace
        self._now = now
        self._found: dict[int, KeptResult | None] = {}

    def at_once(self, seq: int, others: Iterable[int]) -> Sequence[e.StepCompleted]:
        """The outcome of a step that was scheduled just now and is not to be run; none for one that is.

        Parameters:
          others: positions that will be asked for next: all are looked for at once.
        """
        step = self._run.state.steps.get(seq)
        if seq not in self._found:
            self._look_for([seq, *others])
        kept = self._found.pop(seq)
        if kept is None or step is None:
            return ()
        return (e.StepCompleted(seq, step.name, step.attempt, kept.result, cached=True),)

    def note(self, body: e.StepCompleted) -> None:
        """Keep a result that is about to be recorded."""
        if body.cached:
            return
        step = self._run.state.steps.get(body.seq)
        seconds = None if step is None else self._rules.options_of(step).cache
        if step is not None and seconds is not None and step.undoes is None:
            until = self._now + timedelta(seconds=seconds)
            self._writes.kept.append(KeptResult(self._key_of(step), body.result, self._now, until))

    def _look_for(self, seqs: Iterable[int]) -> None:
        """Read what may be there for these positions, in one go."""
        state = self._run.state
        wanted: dict[int, tuple[str, float]] = {}
        for seq in seqs:
            self._found[seq] = None
            step = state.steps.get(seq)
            seconds = None if step is None else self._rules.options_of(step).cache
            if step is None or seconds is None or step.undoes is not None or step.generation > 1:
                continue
            wanted[seq] = (self._key_of(step), seconds)
        if not wanted:
            return
        # What this turn adds is not committed yet, but for this run it is.
        own = {kept.key: kept for kept in self._writes.kept}
        found = {**self._read({key for key, _ in wanted.values()}), **own}
        for seq, (key, seconds) in wanted.items():
            kept = found.get(key)
            if kept is not None and kept.stored_at + timedelta(seconds=seconds) > self._now:
                self._found[seq] = kept

    def _key_of(self, step: OpenStep) -> str:
        definition = self._rules.registry.steps.get(step.name)
        try:
            digest = digest_of(step.input) if definition is None else definition.schema.digest_call(step.input)
        except (DramaturgError, TypeError, ValueError):
            # The step itself says what is wrong with its arguments.
            digest = digest_of(step.input)
        return blake2b(f"{self._namespace}\0{step.name}\0{digest}".encode(), digest_size=20).hexdigest()
