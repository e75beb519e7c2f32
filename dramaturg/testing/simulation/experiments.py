"""One experiment: calls of clients and how their runs may end; tried under many seeds, and reduced where one fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic_core import from_json

from dramaturg.testing.simulation.chance import Chance
from dramaturg.testing.simulation.clients import Call
from dramaturg.testing.simulation.faults import Fault
from dramaturg.testing.simulation.world import Violation, World
from dramaturg_coordinator.rules import Rules
from dramaturg_protocol.records import RunRecord
from dramaturg_protocol.schedule_records import SCHEDULE_TAG, ScheduleRecord

#: Nobody computes for so long without awaiting; what takes real time must not decide anything here.
_NO_LIMIT = 3600.0

#: How many of the seeds drop every run from memory after every turn.
_FORGETFUL = 0.25


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended.

    Attributes:
      text: its result as JSON, or its error's type and message.
    """

    status: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.status} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class Experiment:
    """What clients send, and what may become of it.

    Attributes:
      endings: by run id, how it may end.
      schedules: rows that are there from the beginning.
      scheduled: by a schedule's id, how its runs may end.
      optional: ids of runs that need not exist.
    """

    calls: Sequence[Call]
    endings: Mapping[str, Collection[Ending]]
    optional: Collection[str] = ()
    schedules: Sequence[ScheduleRecord] = ()
    scheduled: Mapping[str, Collection[Ending]] = field(default_factory=dict[str, "Collection[Ending]"])


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a seed fails.

    Attributes:
      problem: the invariant that does not hold, or the difference.
      faults: what went wrong before, in order.
    """

    seed: int
    problem: str
    faults: tuple[Fault, ...]

    @property
    def kind(self) -> str:
        """What tells one failure from another."""
        return self.problem.partition(":")[0]

    def __str__(self) -> str:
        lines = "".join(f"\n    {fault}" for fault in self.faults) or "\n    none"
        return f"seed {self.seed}: {self.problem}\n  what went wrong before, in order:{lines}"


def try_seed(
    experiment: Experiment, rules: Rules, seed: int, *, is_calm: bool = False, only: Collection[str] | None = None
) -> Finding | None:
    """Let a world run; why it fails, if it does.

    Parameters:
      only: names of the faults that may happen; ``None`` for all that the seed has.
    """
    world = world_of(experiment, rules, seed, is_calm=is_calm, only=only)
    try:
        runs = world.run()
        problem = _difference(experiment, runs, world.books.children) or _ended_otherwise(experiment, world)
    except Violation as violation:
        problem = str(violation)
    return Finding(seed, problem, tuple(world.faults.done)) if problem else None


def reduce(experiment: Experiment, rules: Rules, finding: Finding) -> Finding:
    """The same failure with as few faults as it takes."""
    is_reduced = True
    while is_reduced:
        is_reduced = False
        for left_out in finding.faults:
            only = {fault.name for fault in finding.faults if fault is not left_out}
            smaller = try_seed(experiment, rules, finding.seed, only=only)
            if smaller is not None and smaller.kind == finding.kind and len(smaller.faults) < len(finding.faults):
                finding, is_reduced = smaller, True
                break
    return finding


def world_of(
    experiment: Experiment, rules: Rules, seed: int, *, is_calm: bool = False, only: Collection[str] | None = None
) -> World:
    """The world of a seed, before anything happened in it."""
    chance = Chance(seed)
    is_forgetful = not is_calm and chance.happens("forgetful", _FORGETFUL)
    rules = dataclasses.replace(rules, replay_every_turn=is_forgetful, code_limit=_NO_LIMIT)
    return World(seed, experiment.calls, rules, is_calm=is_calm, only=only, schedules=experiment.schedules)


def ending_of(record: RunRecord) -> Ending:
    """How a run ended."""
    if record.error is not None:
        error = from_json(record.error)
        return Ending(record.status, f"{error['type']}: {error['message']}")
    return Ending(record.status, record.result or "")


def _difference(experiment: Experiment, runs: Mapping[str, RunRecord], children: Collection[str]) -> str:
    for run_id, allowed in experiment.endings.items():
        record = runs.get(run_id)
        if record is None:
            if run_id not in experiment.optional:
                return f"a run is missing: {run_id} was accepted and never began"
        elif ending_of(record) not in allowed:
            expected = " or ".join(map(str, allowed))
            return f"another outcome: run {run_id} ended as {ending_of(record)}, undisturbed as {expected}"
    scheduled = {run_id for run_id, record in runs.items() if SCHEDULE_TAG in from_json(record.tags)}
    unknown = runs.keys() - experiment.endings.keys() - scheduled - set(children)
    return f"a run too many: nobody asked for {sorted(unknown)}" if unknown else ""


def _ended_otherwise(experiment: Experiment, world: World) -> str:
    for run_id, schedule_id in world.books.scheduled.items():
        ending, allowed = ending_of(world.database.tables.runs[run_id]), experiment.scheduled[schedule_id]
        if ending not in allowed:
            expected = " or ".join(map(str, allowed))
            return f"another outcome: run {run_id} of {schedule_id} ended as {ending}, undisturbed as {expected}"
    return ""
