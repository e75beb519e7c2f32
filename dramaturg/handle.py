"""`Handle`: one run, by its id."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, TypeVarTuple

from dramaturg import views
from dramaturg.approvals import decision_of
from dramaturg.family_trees import tree_of
from dramaturg.orders import Target
from dramaturg_protocol.definitions import StepDefinition
from dramaturg_protocol.durations import Duration
from dramaturg_protocol.messages import RequestKind
from dramaturg_protocol.request_bodies import ControlBody, DecideBody, SettleVerb

if TYPE_CHECKING:
    from dramaturg.client import Client

R_co = TypeVar("R_co", covariant=True)
Ts = TypeVarTuple("Ts")


class Positional(Protocol[*Ts, R_co]):
    """A workflow as a type checker sees it when options stand beside its positional arguments."""

    @property
    def fn(self) -> Callable[[*Ts], Coroutine[Any, Any, R_co]]:
        """The plain function."""
        ...


class PositionalStep(Protocol[*Ts, R_co]):
    """A step as a type checker sees it when options stand beside its positional arguments."""

    @property
    def definition(self) -> StepDefinition:
        """What tells a step from a workflow."""
        ...

    def __call__(self, *args: *Ts) -> Coroutine[object, None, R_co]:
        """Ask for the step."""
        ...


class Handle(Generic[R_co]):
    """One run, by its id. Making one asks nobody anything."""

    def __init__(self, client: Client, any_id: str, target: Target | None = None, run_id: str | None = None) -> None:
        self._client = client
        self._any_id = any_id
        self._target = target
        self._run_id = run_id

    @property
    def run_id(self) -> str:
        """The run's id.

        Raises:
          NotFound: there is no such run.
        """
        if self._run_id is None:
            self._run_id = self._client.resolve(self._any_id)
        return self._run_id

    @property
    def workflow_id(self) -> str:
        """The id that the run was started under; its run id where none was chosen."""
        return self._any_id

    def result(self, timeout: Duration | None = None) -> R_co:
        """Wait for the run's result.

        Parameters:
          timeout: a duration; ``None`` waits for ever.

        Raises:
          TimeoutError: time is over; it says what the run waits for.
          WorkflowFailed: the workflow raised.
          WorkflowCancelled, WorkflowTerminated: it was stopped.
          NotFound: there is no such run.
        """
        return self._client.results_of.wait(self, timeout)  # type: ignore[no-any-return]

    def describe(self) -> views.RunDescription:
        """All about the run; `NotFound` where there is none."""
        return self._client.describe(self.run_id)

    def tree(self) -> views.RunTree:
        """The run's family: from the run that nobody started down to all that were started below it.

        Raises:
          NotFound: the run has not begun.
        """
        return tree_of(self._client.database, self.run_id)

    def events(self, follow: bool = False) -> Iterator[views.Event]:
        """The run's history, from the first event.

        Parameters:
          follow: go on with what happens, until the run is closed.
        """
        return self._client.events_of(self.run_id, follow=follow)

    def cancel(self, by: str | None = None, reason: str | None = None) -> None:
        """Cancel the run: its code sees ``asyncio.CancelledError`` and may clean up. A closed run stays as it is.

        Parameters:
          by: who, kept in the event.
          reason: why, kept in the event.

        Raises:
          NotAnswered: no coordinator recorded it within 10 s; it stays and counts once.
          NotFound: there is no such run.
        """
        self._client.requests.send(self.run_id, RequestKind.CANCEL, ControlBody(by, reason))

    def terminate(self, by: str | None = None, reason: str | None = None) -> None:
        """End the run at once, without clean-up. Parameters and errors as `cancel`."""
        self._client.requests.send(self.run_id, RequestKind.TERMINATE, ControlBody(by, reason))

    def pause(self, by: str | None = None, reason: str | None = None) -> None:
        """Begin nothing more of the run until it is resumed; steps under way end, and what arrives is kept.

        Parameters and errors as `cancel`.

        Raises:
          WrongState: it is closed, blocked or paused already.
        """
        self._client.requests.send(self.run_id, RequestKind.PAUSE, ControlBody(by, reason))

    def resume(self, by: str | None = None, reason: str | None = None) -> None:
        """Go on with a paused run. Parameters and errors as `pause`."""
        self._client.requests.send(self.run_id, RequestKind.RESUME, ControlBody(by, reason))

    def retry(self, by: str | None = None, reason: str | None = None) -> None:
        """Go on with a failed run, under the same id, from the steps that failed; what succeeded is not run again.

        After an error of the workflow's own code it goes on with the code of now. Parameters and errors as `cancel`.

        Raises:
          WrongState: the run did not fail.
        """
        self._client.requests.send(self.run_id, RequestKind.RETRY, ControlBody(by, reason))

    def reset(self, to_event: int, by: str | None = None, reason: str | None = None) -> None:
        """Set the run back, open or closed: everything after an event is done again. Parameters and errors as `cancel`.

        Parameters:
          to_event: number of the last event that stays.

        Raises:
          WrongState: the run has no such event.
        """
        self._client.requests.send(self.run_id, RequestKind.RESET, ControlBody(by, reason, to_event))

    def approve(self, name: str, by: str, comment: str = "", *, connection: Any = None) -> None:
        """Approve what the run asks for under this name; where it asks several times, what was asked first.

        Parameters:
          name: of the approval.
          by: who decides; kept in the history.
          comment: why; kept there too.
          connection: a SQLAlchemy `Connection` or `Session`: it is decided if and only if its transaction is committed, and
            nothing is waited for; whether it was open is in the run's history.

        Raises:
          AlreadyDecided: somebody was faster, or it timed out.
          NoOpenApproval: the run asks for nothing of this name now.
          NotAnApprover: it is for others to decide.
          NotAnswered: no coordinator recorded it within 10 s; it stays and counts once.
          NotFound: there is no such run.
        """
        self._decide(decision_of(name, True, by, comment), connection)

    def reject(self, name: str, by: str, comment: str = "", *, connection: Any = None) -> None:
        """Reject what the run asks for under this name. Parameters and errors as `approve`."""
        self._decide(decision_of(name, False, by, comment), connection)

    def _decide(self, body: DecideBody, connection: Any) -> None:
        if connection is None:
            self._client.requests.send(self.run_id, RequestKind.DECIDE, body)
        else:
            self._client.requests.send_in(connection, self.run_id, self.workflow_id, RequestKind.DECIDE, body)

    def fork(
        self, from_step: int, args: object = None, by: str | None = None, reason: str | None = None
    ) -> Handle[R_co]:
        """A new run that shares what this one recorded before a step, and goes on from there by itself.

        What completed before that step is not run again; this run stays as it is, open or closed.

        Parameters:
          from_step: position of the first step that the new run does itself.
          args: other input, a tuple of positional or a dict of keyword arguments; then all of it is done, from step 1.
          by: who, kept in the new run's first event.
          reason: why, kept there too.

        Raises:
          NotFound: the run did not ask for such a step.
          WrongState: the code of now does not fit what it would share, or the run waited for a hook there that was made
            earlier: its token leads to one run.
          ValueError: other input for a part of the run only.
          NotAnswered: no coordinator recorded it within 10 s; it stays and counts once.
        """
        new_id = self._client.requests.fork(self.run_id, from_step, args, by, reason)
        return Handle(self._client, new_id, self._target, new_id)

    def signal(
        self,
        name: str,
        payload: object = None,
        idempotency_key: str | None = None,
        delay: Duration | datetime | None = None,
        *,
        by: str | None = None,
        reason: str | None = None,
        connection: object = None,
    ) -> None:
        """Send the run a signal, for its code to take with `wait_signal` when it wants to; none is lost.

        Parameters:
          payload: any value that a payload can hold.
          idempotency_key: the same key for the same name and run counts once.
          delay: a duration, or an aware ``datetime``: it is sent then. This returns once it is committed, and needs no
            coordinator. A run that continues as others has it at the end of its chain; one that is closed by then has it if
            it goes on again, by `retry` or `reset`.
          connection: a SQLAlchemy `Connection` or `Session`: the signal is sent if and only if its transaction is
            committed; this does not wait for an answer then.
          by: who, kept in the event.
          reason: why, kept in the event.

        Raises:
          PayloadError: the payload cannot be encoded, or is too large.
          WrongState: the run is closed.
          ValueError: ``delay`` is no duration, or a ``datetime`` without time zone.
          NotAnswered: no coordinator recorded it within 10 s; it stays and counts once.
          NotFound: there is no such run.
        """
        self._client.conversation.signal(self, name, payload, idempotency_key, delay, by, reason, connection)

    def query(self, name: str, *args: Any) -> Any:
        """Ask the run a query that its code answers (`on_query`); it changes nothing. Closed runs are asked as they ended.

        Parameters:
          args: of the function that answers.

        Raises:
          NotFound: the code answers no such query, it names those that it does; or there is no such run.
          QueryFailed: the function raised.
          WrongState: the run is blocked; it says why.
          NotAnswered: no coordinator answered within 10 s.
        """
        return self._client.conversation.query(self, name, args)

    def update(self, name: str, *args: Any, idempotency_key: str | None = None, timeout: Duration | None = None) -> Any:
        """Have the run's code do something (`on_update`), and wait for what that gives.

        Parameters:
          args: of the function that does it.
          idempotency_key: the same key for the same name and run is the same update, and gets the same answer.
          timeout: how long to wait for the answer; 10 s by default.

        Raises:
          UpdateRejected: its validator refuses it; nothing of it is in the history.
          UpdateFailed: the function raised, or the run ended before it did.
          WrongState: the run is closed.
          NotAnswered: it has not ended in time, or its function is not bound yet; it stays, and counts once.
          NotFound: there is no such run.
        """
        return self._client.conversation.update(self, name, args, idempotency_key, timeout)

    def step(self, number: int) -> StepHandle:
        """One step of the run, by its position (`seq`), for a person to settle."""
        return StepHandle(self, number)

    @property
    def client(self) -> Client:
        """Whom it asks."""
        return self._client

    @property
    def target(self) -> Target | None:
        """What was started, where this process knows it."""
        return self._target

    def __repr__(self) -> str:
        return f"<handle {self._run_id or self._any_id}>"


class StepHandle:
    """One open step, in the hands of a person. Each verb returns once it is in the run's history.

    All take `by` and `reason`, kept in the event, and raise `WrongState` where the step is not open, `NotFound` where
    there is none, and `NotAnswered` as `Handle.cancel` does.
    """

    def __init__(self, run: Handle[Any], seq: int) -> None:
        self._run = run
        self.seq = seq

    def retry_now(self, by: str | None = None, reason: str | None = None) -> None:
        """Do not wait for the back-off; `WrongState` where the step does not wait."""
        self._settle(SettleVerb.RETRY_NOW, None, "", by, reason)

    def complete(self, value: object, by: str | None = None, reason: str | None = None) -> None:
        """This is its result; `PayloadError` where it is not what the step returns."""
        self._settle(SettleVerb.COMPLETE, value, "", by, reason)

    def fail(self, message: str, by: str | None = None, reason: str | None = None) -> None:
        """It gave up: the workflow gets a `StepFailed` with this message."""
        self._settle(SettleVerb.FAIL, None, message, by, reason)

    def _settle(self, verb: SettleVerb, value: object, message: str, by: str | None, reason: str | None) -> None:
        self._run.client.requests.settle(self._run.run_id, self.seq, verb, value, message, by, reason)
