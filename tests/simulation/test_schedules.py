"""Generated schedules under faults: each of their times begins one run, or is skipped or missed as the policy says."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dramaturg.testing.simulation.experiments import reduce
from tests.simulation.programs import RULES
from tests.simulation.scheduled import experiment_of, find

pytestmark = pytest.mark.simulation


@pytest.mark.timeout(600)
def test_each_time_of_a_schedule_counts_once_under_faults(seeds: Sequence[int]) -> None:
    # A fifth of the programs: their worlds are large.
    findings = [finding for seed in seeds if seed % 5 == 0 and (finding := find(seed)) is not None]

    reduced = [reduce(experiment_of(finding.seed), RULES, finding) for finding in findings[:3]]
    assert not findings, "\n".join(f"{finding}\n  {experiment_of(finding.seed).schedules}" for finding in reduced)
