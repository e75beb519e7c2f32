"""Each planted bug is found within some seeds; without them the same seeds pass (``test_programs`` tries them)."""

from __future__ import annotations

import pytest

from tests.simulation.planted import BUGS, Bug

pytestmark = pytest.mark.simulation


@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_a_planted_bug_is_found(bug: Bug) -> None:
    problem = ""
    for seed in (bug.lately, *range(bug.within)):
        with bug.plant():
            finding = bug.finds(seed)
        if finding is not None:
            problem = finding.problem
            break

    assert problem, f"{bug.within} seeds do not find it"
    assert problem.startswith(bug.found_by), problem
