"""Several processes count; one shows the sum."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dramaturg_actors.shared_metrics import SharedMetrics

CHILD = """
from prometheus_client import CollectorRegistry
from dramaturg_actors.metrics import WorkerMetrics
from dramaturg_protocol.definitions import registry

metrics = WorkerMetrics(CollectorRegistry(), registry)
metrics.may_run(threads=8, async_limit=100)
metrics._attempts.labels("add", "default", "COMPLETED").inc(3)
print("there", flush=True)
input()
"""


def child() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    return process


def test_counters_stay_and_gauges_go_with_a_process() -> None:
    with SharedMetrics() as shared:
        registry = shared.registry()
        attempts = {"step": "add", "queue": "default", "outcome": "COMPLETED"}
        one, two = child(), child()
        assert registry.get_sample_value("dramaturg_worker_attempts_total", attempts) == 6
        assert registry.get_sample_value("dramaturg_worker_capacity", {"lane": "thread"}) == 16

        one.communicate("\n", timeout=10)
        shared.forget_process(one.pid)

        assert registry.get_sample_value("dramaturg_worker_attempts_total", attempts) == 6
        assert registry.get_sample_value("dramaturg_worker_capacity", {"lane": "thread"}) == 8
        two.communicate("\n", timeout=10)
        assert Path(shared.folder).is_dir()

    assert not Path(shared.folder).exists()
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
