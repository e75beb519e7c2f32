"""What the code of one run hears from outside and says to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Protocol

from dramaturg_coordinator.conditions import Conditions
from dramaturg_coordinator.questions import Bound, Questions
from dramaturg_coordinator.read_only import ReadOnly
from dramaturg_coordinator.signals import Signals
from dramaturg_protocol import dialogue
from dramaturg_protocol import events as e
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.waits import encode_waits


class Speaker(Bound, Protocol):
    """What is needed of the scope of the run.

    Attributes:
      hearers: who is told of which events.
    """

    hearers: dict[type[e.EventBody], Callable[[Any], None]]

    def next_seq(self) -> int: ...


class Dialogue(dialogue.Dialogue):
    """The conversation of one run.

    Parameters:
      scope: of the run; what is said here is told to it by its `hearers`.
    """

    def __init__(self, scope: Speaker, read_only: ReadOnly) -> None:
        self._scope = scope
        self._loop = scope.loop
        self._status: Payload | None = None
        self._signals = Signals(scope)
        self._conditions = Conditions(scope, read_only)
        self._has_woken = False
        self.questions = Questions(scope, read_only)
        scope.hearers[e.SignalReceived] = self._signals.receive
        scope.hearers[e.UpdateAccepted] = self.questions.accept

    def settle(self) -> None:
        """Let the code go on whose conditions have come true, until it waits again."""
        while self._conditions and not self._loop.is_interrupted:
            self._has_woken = False
            self._loop.call_soon(self._look)
            self._loop.run_ready()
            if not self._has_woken:
                return

    def untaken(self) -> list[e.SignalReceived]:
        """The signals that the code has not taken, in order of arrival."""
        return self._signals.untaken()

    def waits(self) -> str | None:
        """What the code waits for, encoded for the run's row."""
        if not (self._signals.is_waited_for or self._conditions or self.questions.is_updatable):
            return None
        return encode_waits([*self._signals.waits(), *self._conditions.waits(), *self.questions.waits()])

    # What workflow code calls.

    def wait_signal(self, name: str, limit: dialogue.TimeLimit | None) -> Generator[asyncio.Future[Any], None, Payload]:
        """Wait for the next signal of this name."""
        return self._signals.wait(name, limit)

    def wait_until(
        self, predicate: Callable[[], object], limit: dialogue.TimeLimit | None
    ) -> Generator[asyncio.Future[Any], None, None]:
        """Wait until a function gives something true."""
        return self._conditions.wait(predicate, limit)

    def on_query(self, name: str, fn: Callable[..., Any]) -> None:
        """Answer a query with a function, from now on."""
        self.questions.on_query(name, fn)

    def on_update(self, name: str, fn: Callable[..., Any], validator: Callable[..., Any] | None) -> None:
        """Have a function called for each update of a name, from now on."""
        self.questions.on_update(name, fn, validator)

    def send_signal(self, workflow_id: str, name: str, payload: Payload, run_id: str = "") -> None:
        """Send another run a signal."""
        if not self._scope.is_muted:
            self._scope.emit(e.SignalSent(self._scope.next_seq(), workflow_id, name, payload, run_id))

    def send_cancel(self, workflow_id: str) -> None:
        """Have another run cancelled."""
        if not self._scope.is_muted:
            self._scope.emit(e.CancelSent(self._scope.next_seq(), workflow_id))

    def set_status(self, value: Payload) -> None:
        """Have this shown as the run's own status; the same once more is no event."""
        if not self._scope.is_muted and value != self._status:
            self._scope.emit(e.StatusSet(value))
            self._status = value

    def _look(self) -> None:
        self._has_woken = self._conditions.look()
