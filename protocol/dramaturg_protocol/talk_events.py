"""What a run hears from outside and says to it: signals, updates, its status."""

from __future__ import annotations

from dataclasses import dataclass

from dramaturg_protocol.error_info import ErrorInfo
from dramaturg_protocol.payloads import Payload


@dataclass(frozen=True, slots=True)
class SignalReceived:
    """Somebody sent the run a signal; it is kept until the code takes it, in order of arrival.

    Attributes:
      sender: id of the run that sent it; empty where a client did.
    """

    message_id: str
    name: str
    payload: Payload
    by: str | None = None
    reason: str | None = None
    sender: str = ""


@dataclass(frozen=True, slots=True)
class SignalSent:
    """The code sent another run a signal.

    Attributes:
      workflow_id: of the other run.
      run_id: of the other run, where it is known; else the newest with that workflow id is meant.
    """

    seq: int
    workflow_id: str
    name: str
    payload: Payload
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class StatusSet:
    """The code set what is shown as the run's own status."""

    value: Payload


@dataclass(frozen=True, slots=True)
class UpdateAccepted:
    """The run takes an update, which its validator let pass; its handler begins."""

    message_id: str
    name: str
    input: Payload


@dataclass(frozen=True, slots=True)
class UpdateCompleted:
    """The handler of an update has ended; whoever asked is told.

    Attributes:
      message_id: of the update.
      result: what it returned.
      error: what it raised instead.
    """

    message_id: str
    name: str
    result: Payload | None = None
    error: ErrorInfo | None = None
