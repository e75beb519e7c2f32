"""The row that lists show of a run."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from pydantic_core import to_json

from dramaturg_coordinator.core.run_state import RunState
from dramaturg_protocol import events as e
from dramaturg_protocol.error_info import encode_error
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import RunRecord
from dramaturg_protocol.sealing import seal


def record_of(
    state: RunState,
    namespace: str,
    now: datetime,
    waits: str | None = None,
    limited: Collection[tuple[int, int]] = (),
) -> RunRecord:
    """The row that shows a run as it is.

    Parameters:
      waits: what its code waits for besides open work, encoded.
      limited: its open steps that wait for a limit, by generation and position: they do not run.
    """
    started = state.started
    assert started is not None
    assert state.started_at is not None
    error: e.ErrorInfo | None = None
    if state.blocked is not None:
        error = e.ErrorInfo("Blocked", state.blocked.message)
    elif isinstance(state.end, e.RunFailed):
        error = state.end.error
    return RunRecord(
        run_id=state.run_id,
        namespace=namespace,
        partition=state.partition,
        workflow_id=started.workflow_id,
        workflow=started.workflow,
        version=state.version,
        status=status_of(state, limited),
        generation=state.generation,
        last_event=state.number,
        tags=to_json(started.tags).decode() if started.tags else "{}",
        started_at=state.started_at,
        updated_at=now,
        closed_at=state.time if state.is_closed else None,
        result=Payload(seal(state.end.result)) if isinstance(state.end, e.RunCompleted) else None,
        error=encode_error(error) if error is not None else None,
        waits=None if state.is_closed else waits,
        parent=started.parent.run_id if started.parent is not None else None,
        continued_from=started.continued_from or None,
    )


def status_of(state: RunState, limited: Collection[tuple[int, int]]) -> str:
    """The status that people see: a run waits that has no child, and whose steps all wait for limits."""
    status = state.status
    if status != "RUNNING" or state.children:
        return status
    return "WAITING" if all((step.generation, seq) in limited for seq, step in state.steps.items()) else status
