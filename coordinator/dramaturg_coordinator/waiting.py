"""Futures that workflow code waits for: each knows its position, and cancelling one is a command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from dramaturg_coordinator.loop import WorkflowFuture, WorkflowLoop
from dramaturg_protocol import events as e
from dramaturg_protocol.ambient import StepRequest
from dramaturg_protocol.payloads import Payload


class Asked(Protocol):
    """Whoever is to hear that the code no longer waits for a position."""

    def forget(self, seq: int, cancelled: e.EventBody) -> None:
        """The code no longer waits; `cancelled` is the command that follows."""


class StepFuture(WorkflowFuture[Any]):
    """Waits for a step; cancelling it is a command."""

    def __init__(self, scope: Asked, loop: WorkflowLoop, seq: int, request: StepRequest) -> None:
        super().__init__(loop=loop)
        self.scope = scope
        self.seq = seq
        self.request = request

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the future, and the step if it has no outcome yet."""
        if not super().cancel(msg):
            return False
        self.scope.forget(self.seq, e.StepCancelled(self.seq, self.request.name))
        return True


class TimerFuture(WorkflowFuture[None]):
    """Waits for a moment; cancelling it is a command."""

    def __init__(self, scope: Asked, loop: WorkflowLoop, seq: int) -> None:
        super().__init__(loop=loop)
        self.scope = scope
        self.seq = seq

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the future, and the timer if it has not fired yet."""
        if not super().cancel(msg):
            return False
        self.scope.forget(self.seq, e.TimerCancelled(self.seq))
        return True


class AskedFuture(WorkflowFuture[Any]):
    """Waits for what people or the world outside answer; cancelling it is a command.

    Attributes:
      withdrawn: that command.
      check: raises `PayloadError` for an answer that the code does not take.
    """

    def __init__(
        self, scope: Asked, loop: WorkflowLoop, seq: int, withdrawn: e.EventBody, check: Callable[[Payload], object]
    ) -> None:
        super().__init__(loop=loop)
        self.scope = scope
        self.seq = seq
        self.withdrawn = withdrawn
        self.check = check

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the future, and what was asked if it has no answer yet."""
        if not super().cancel(msg):
            return False
        self.scope.forget(self.seq, self.withdrawn)
        return True
