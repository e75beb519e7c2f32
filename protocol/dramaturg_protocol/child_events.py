"""What happens between a run and the runs that it starts."""

from __future__ import annotations

from dataclasses import dataclass, field

from dramaturg_protocol.error_info import ErrorInfo
from dramaturg_protocol.payloads import Payload


@dataclass(frozen=True, slots=True)
class ChildStarted:
    """The code started a run of its own.

    Attributes:
      run_id: of the child; follows from this run and the position.
      workflow_id: as the code chose it; the child's run id where it did not.
      version: of the workflow, where the code chose one.
      on_parent_close: what becomes of the child when this run closes first: ``cancel``, ``terminate`` or ``abandon``.
      tags: of the child.
      context: what its steps see; where it is not set, what steps of this run see at this point.
      group: position of the fan-out of which it runs a part.
    """

    seq: int
    workflow: str
    run_id: str
    workflow_id: str
    input: Payload
    version: int | None = None
    on_parent_close: str = "cancel"
    tags: dict[str, str | int | bool] = field(default_factory=dict[str, str | int | bool])
    context: Payload | None = None
    group: int | None = None


@dataclass(frozen=True, slots=True)
class ChildClosed:
    """A child ended, or could not begin.

    Attributes:
      run_id: the run that ended: the last of a chain.
      status: how: ``COMPLETED``, ``FAILED``, ``CANCELLED``, ``TERMINATED`` or ``TIMED_OUT``.
      result: of one that completed.
      error: of one that failed.
    """

    seq: int
    workflow: str
    run_id: str
    message_id: str
    status: str
    result: Payload | None = None
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class CancelSent:
    """The code asked another run to be cancelled.

    Attributes:
      workflow_id: of the other run.
      run_id: of the other run, where it is known.
      child: its position, where it is a child of this run.
    """

    seq: int
    workflow_id: str
    run_id: str = ""
    child: int | None = None
