"""What a closed run gives to those who wait for it: its result, or the error that says how it ended."""

from __future__ import annotations

from typing import Any

from dramaturg.orders import Target
from dramaturg_protocol.error_info import decode_error
from dramaturg_protocol.errors import RunEnded, WorkflowCancelled, WorkflowFailed, WorkflowTerminated, WorkflowTimedOut
from dramaturg_protocol.events import ErrorInfo
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import RunRecord


def outcome_of(record: RunRecord, target: Target) -> Any:
    """The result of a closed run.

    Raises:
      RunEnded: there is none; the kind of error says why.
    """
    if record.status == "COMPLETED":
        return target.schema.decode_result(record.result or Payload("null"))
    if record.status == "FAILED":
        error = decode_error(record.error) if record.error else ErrorInfo("", "")
        raise WorkflowFailed(
            run_id=record.run_id,
            workflow=record.workflow,
            error_type=error.type,
            message=error.message,
            traceback=error.traceback,
        )
    kinds: dict[str, type[RunEnded]] = {
        "CANCELLED": WorkflowCancelled,
        "TERMINATED": WorkflowTerminated,
        "TIMED_OUT": WorkflowTimedOut,
    }
    kind = kinds.get(record.status, RunEnded)
    raise kind(f"run {record.run_id} of workflow {record.workflow!r} is {record.status}", run_id=record.run_id)
