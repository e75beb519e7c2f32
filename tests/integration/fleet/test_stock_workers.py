"""A worker of stock Dramatiq in the fleet, which knows the actor of a step and tells nobody what came of it."""

from __future__ import annotations

import pytest

from dramaturg import WorkflowFailed
from tests.integration.fleet.fleets import PATIENCE, Fleet

pytestmark = [pytest.mark.slow]

STOCK = """
import os, dramatiq
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(
    RedisBroker(url=os.environ["DRAMATURG_BROKER_URL"], namespace=os.environ["DRAMATURG_NAMESPACE"])
)

@dramatiq.actor
def add(*args, **kwargs):
    print("took it", flush=True)
"""
SERVE = """
import sys
from dramatiq.cli import main
sys.argv = ["dramatiq", "stock", "-p", "1", "-t", "2"]
sys.exit(main())
"""
DOCTOR = """
from dramaturg.cli.app import main
import sys
sys.argv = ["dramaturg", "doctor"]
main()
"""
#: A coordinator looks for lost messages twice a minute: here it is to be soon.
IMPATIENT = """
import dramaturg_coordinator.tenure
dramaturg_coordinator.tenure.SWEEP_PERIOD = 0.5
"""


def test_a_step_that_is_taken_without_a_word_again_and_again_fails_as_not_reported(fleet: Fleet) -> None:
    fleet.write("impatient", IMPATIENT)
    fleet.write("stock", STOCK)
    fleet.coordinator("impatient").wait_for("holding")
    stock = fleet.script(SERVE)
    (handle,) = fleet.start("chain", 1)

    with pytest.raises(WorkflowFailed, match=r"without dramaturg\.install") as caught:
        handle.result(timeout=PATIENCE)

    assert "queue 'default'" in str(caught.value)
    failed = next(event for event in handle.events() if event.type == "step.failed")
    assert failed.data["error"]["type"] == "NotReported"
    stock.wait_for("took it", times=4)
    doctor = fleet.script(DOCTOR)
    doctor.wait()
    doctor.wait_for("queue default: 1 failed as NotReported")
    doctor.wait_for(r"call dramaturg\.install\(broker\) in every worker that serves this queue")

    # Once workers that report have its place, runs get on.
    assert stock.terminate() == 0
    fleet.worker()
    assert fleet.start("chain", 1)[0].result(timeout=PATIENCE) == 10
