"""The fixture ``workflow_env`` for pytest, found by itself where Dramaturg is installed.

Nothing of the engine is imported before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dramaturg.testing import WorkflowEnv


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest of the marker."""
    config.addinivalue_line(
        "markers", "workflow_env(**options): what WorkflowEnv is to be made with for the fixture workflow_env"
    )


@pytest.fixture
def workflow_env(request: pytest.FixtureRequest) -> Iterator[WorkflowEnv]:
    """The engine in memory under a virtual clock, for one test.

    ``@pytest.mark.workflow_env(replay_every_turn=True)`` gives it options of `WorkflowEnv`; the marker nearest to the
    test decides about each.
    """
    from dramaturg.testing import WorkflowEnv

    options: dict[str, object] = {}
    for marker in reversed([*request.node.iter_markers("workflow_env")]):
        if marker.args:
            raise pytest.UsageError(f"{request.node.nodeid}: the marker workflow_env takes options by name only")
        options.update(marker.kwargs)
    with WorkflowEnv(**options) as env:  # type: ignore[arg-type]
        yield env
