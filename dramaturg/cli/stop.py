"""``dramaturg cancel`` and ``terminate``: end runs."""

from __future__ import annotations

from dramaturg.cli.arguments import By, Json, Reason, RunOrWorkflowId
from dramaturg.cli.connection import connected
from dramaturg.cli.steer import tell_done


def cancel(any_id: RunOrWorkflowId, by: By = None, reason: Reason = None, json: Json = False) -> None:
    """Cancel a run: its code sees asyncio.CancelledError and may clean up.

    Returns once the request is in the run's history. A run that is closed stays as it is.
    """
    with connected() as client:
        handle = client.handle(any_id)
        handle.cancel(by=by, reason=reason)
        tell_done(handle, "cancel requested", json)


def terminate(any_id: RunOrWorkflowId, by: By = None, reason: Reason = None, json: Json = False) -> None:
    """End a run at once, without clean-up.

    Returns once it is in the run's history. A run that is closed stays as it is.
    """
    with connected() as client:
        handle = client.handle(any_id)
        handle.terminate(by=by, reason=reason)
        tell_done(handle, "terminate requested", json)
