"""Generated programs under faults: each ends as it does when it is read from top to bottom, and the invariants hold."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from dramaturg.testing.simulation.experiments import world_of
from dramaturg.testing.simulation.faults import FaultKind
from tests.simulation import scheduled
from tests.simulation.programs import RULES, experiment_of, explain, find, scenario_of

pytestmark = pytest.mark.simulation


@pytest.mark.timeout(600)
def test_generated_programs_end_under_faults_as_they_read(seeds: Sequence[int]) -> None:
    findings = [finding for seed in seeds if (finding := find(seed)) is not None]

    assert not findings, "\n".join(explain(finding) for finding in findings[:3])


def test_faults_of_every_kind_strike() -> None:
    struck: set[FaultKind] = set()
    for seed in range(400):
        if struck == set(FaultKind):
            break
        world = world_of(experiment_of(scenario_of(seed)), RULES, seed)
        world.run()
        struck.update(fault.kind for fault in world.faults.done)
    for seed in range(60):
        world = world_of(scheduled.experiment_of(seed), RULES, seed)
        world.run()
        struck.update(fault.kind for fault in world.faults.done)

    assert struck == set(FaultKind)


TRACE = """
from tests.simulation.test_programs import trace
print(trace(range(20)))
"""


def trace(seeds: Sequence[int]) -> str:
    """What happened under some seeds, in order."""
    lines: list[str] = []
    for seed in seeds:
        world = world_of(experiment_of(scenario_of(seed)), RULES, seed)
        world.run()
        lines += [str(fault) for fault in world.faults.done]
        tables = world.database.tables
        lines += [
            f"{number} {time} {name}"
            for events in tables.events.values()
            for _, number, name, time, _ in events.values()
        ]
    return "\n".join(lines)


def test_a_seed_is_the_same_world_in_every_process() -> None:
    hashed_otherwise = {**os.environ, "PYTHONHASHSEED": "7"}

    there = subprocess.run(
        [sys.executable, "-c", TRACE], env=hashed_otherwise, capture_output=True, text=True, check=True, timeout=100
    )

    assert there.stdout.strip() == trace(range(20)).strip()
