"""Workers in the coordinator's own process hear of cancelled steps from it, without a broker between them."""

from __future__ import annotations

from collections.abc import Sequence

from dramaturg_actors.worker import StepWorker
from dramaturg_coordinator.turn import Observer
from dramaturg_protocol.records import RunWrites


def revoking_in(worker: StepWorker) -> Observer:
    """What tells a worker, after each commit, which attempts nobody waits for any more."""

    def revoke(writes: Sequence[RunWrites]) -> None:
        ids = {each.message_id for run in writes for each in run.revoked}
        if ids:
            worker.revoke(ids)

    return revoke
