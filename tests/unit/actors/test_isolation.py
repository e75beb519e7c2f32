"""An isolated step and the end of its worker."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from dramaturg_protocol.definitions import registry
from dramaturg_protocol.messages import ReportKind
from tests import isolated_steps
from tests.unit.actors import workshop as workshop_module
from tests.unit.actors.workshop import Workshop


def wait_until_it_says(path: Path) -> None:
    for _ in range(6000):
        if isolated_steps.pids_in(path):
            return
        threading.Event().wait(0.02)
    raise AssertionError("the step did not begin")


@pytest.mark.parametrize("stuck", [isolated_steps.isolated_c_call, isolated_steps.isolated_stubborn])
def test_a_worker_that_stops_kills_it_and_hands_it_back(
    workshop: Workshop, stuck: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workshop_module, "WAIT_SECONDS", 120.0)
    said = tmp_path / "said"
    name = stuck.fn.__name__
    workshop.registry.add_step(registry.steps[name])
    workshop.start()

    workshop.send(name, str(said), isolated=True)
    wait_until_it_says(said)
    workshop.stop(0.0)

    report = workshop.outcome()
    assert (report.kind, report.error_type) == (ReportKind.RELEASED, "dramaturg_protocol.errors.WorkerShutdown")
