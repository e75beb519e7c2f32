"""What one run's code asks of people and of the world outside: approvals and hooks.

Tokens are derived, not stored: from the run, the generation and the position, under the namespace's secret. Where links
lead is recorded with what they are for, so that a changed ``PUBLIC_URL`` changes no call that the code made with one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from dramaturg_coordinator.loop import WorkflowFuture, WorkflowLoop
from dramaturg_coordinator.waiting import Asked, AskedFuture
from dramaturg_protocol import events as e
from dramaturg_protocol.asking import ApprovalRequest, AskedApproval, AskedHook, Decision, HookRequest
from dramaturg_protocol.asking_tokens import Place, approval_token, hook_token
from dramaturg_protocol.payloads import Payload


class Surroundings(Asked, Protocol):
    """What it needs of its run."""

    loop: WorkflowLoop

    def seed_of(self, generation: int) -> str:
        """The run in which what is of a generation was asked for first."""
        ...

    def next_seq(self) -> int:
        """The next position."""
        ...

    def emit(self, body: e.EventBody) -> None:
        """Note what the code asks for."""
        ...

    def expect(self, future: WorkflowFuture[Any], seq: int) -> None:
        """A future waits for a position."""
        ...

    def expected(self, seq: int) -> WorkflowFuture[Any] | None:
        """The future that waits for a position, left where it is."""
        ...

    def waiting(self, seq: int) -> WorkflowFuture[Any] | None:
        """The future that waits for a position, taken out."""
        ...


class Asking:
    """The approvals and hooks of one run.

    Parameters:
      secret: of the namespace.
      public_url: where links lead that are new.
      history: the events that will be told first: where their links lead holds.
    """

    def __init__(
        self, surroundings: Surroundings, secret: str, public_url: str, history: Sequence[e.HistoryEvent]
    ) -> None:
        self._run = surroundings
        self._secret = secret
        self._public_url = public_url
        self._newest = 1
        self._recorded: dict[int, tuple[int, str]] = {}
        for event in history:
            if isinstance(event.body, e.Cut):
                self._newest = event.body.generation
            elif isinstance(event.body, e.ApprovalRequested | e.HookCreated):
                self._recorded[event.body.seq] = (self._newest, event.body.base_url)
        #: What hears of which event.
        self.hearers: Mapping[type[e.EventBody], Callable[[Any], None]] = {
            e.ApprovalDecided: self._decided,
            e.HookResolved: self._resolved,
            e.HookExpired: self._expired,
        }

    def approval(self, request: ApprovalRequest) -> AskedApproval:
        """Ask people for a decision."""
        place, base_url = self._next_place()
        self._run.emit(
            e.ApprovalRequested(
                place.seq, request.name, request.approvers, request.prompt, request.details, request.due, base_url
            )
        )
        future = self._future(place.seq, e.ApprovalWithdrawn(place.seq, request.name), lambda _: None)
        secret = self._secret
        return AskedApproval(
            future, lambda approved, by: approval_token(secret, place, approved=approved, by=by), base_url
        )

    def hook(self, request: HookRequest) -> AskedHook:
        """Wait for one call from outside."""
        place, base_url = self._next_place()
        self._run.emit(e.HookCreated(place.seq, request.name, request.due, base_url))
        future = self._future(place.seq, e.HookWithdrawn(place.seq, request.name), request.check)
        return AskedHook(place.seq, future, hook_token(self._secret, place), base_url)

    def check(self, seq: int, payload: Payload) -> None:
        """Have the code that waits at a position look at what it would be given.

        Raises:
          PayloadError: it does not take that.
        """
        future = self._run.expected(seq)
        if isinstance(future, AskedFuture):
            future.check(payload)

    def _next_place(self) -> tuple[Place, str]:
        seq = self._run.next_seq()
        # Not the generation that the code is in: beyond a cut it asks before it is told of that.
        generation, base_url = self._recorded.get(seq, (self._newest, self._public_url))
        return Place(self._run.seed_of(generation), generation, seq), base_url

    def _future(self, seq: int, withdrawn: e.EventBody, check: Callable[[Payload], object]) -> AskedFuture:
        future = AskedFuture(self._run, self._run.loop, seq, withdrawn, check)
        self._run.expect(future, seq)
        return future

    def _decided(self, body: e.ApprovalDecided) -> None:
        self._answer(body.seq, Decision(body.approved, body.by, body.comment, body.at, body.timed_out))

    def _resolved(self, body: e.HookResolved) -> None:
        self._answer(body.seq, body.payload)

    def _expired(self, body: e.HookExpired) -> None:
        self._answer(body.seq, None)

    def _answer(self, seq: int, answer: object) -> None:
        future = self._run.waiting(seq)
        if future is not None:
            future.set_result(answer)
