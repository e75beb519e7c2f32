"""Every error that Dramaturg raises, in one tree.

DramaturgError
├── ConfigurationError            a setting, a missing optional package, a database that the code cannot use
├── DuplicateNameError            two functions under one name
├── GraphError                    a graph that cannot be run as it is
│   └── CycleError                its nodes wait for each other
├── PayloadError                  a value that cannot be encoded, decoded or is too large
├── NonDeterminismError           workflow code did what a replay could not repeat
├── StepError                     raised by step code, on purpose
│   ├── RetryableError            try again, at a given time
│   └── FatalError                never try again
├── WorkflowSide                  what workflow code sees of the things that it awaits
│   ├── StepFailed
│   │   └── StepTimeout           (also a TimeoutError)
│   ├── HookTimeout               (also a TimeoutError)
│   └── ChildFailed
└── ClientError                   what a client is told
    ├── NotFound
    ├── AlreadyStarted
    ├── IdempotencyMismatch
    ├── NotAnswered
    ├── InvalidToken              a token that this namespace did not give out
    ├── TokenExpired              what a token is for is over
    ├── NoOpenApproval            the run asks for no such decision now
    │   └── AlreadyDecided        somebody was faster, or it timed out
    ├── NotAnApprover             the decision is somebody else's
    ├── AlreadyResolved           the token of a hook was used before
    ├── QueryFailed               what answers a query raised
    ├── UpdateRejected            its validator refuses an update
    ├── UpdateFailed              an update was accepted, and raised
    ├── WrongState                what is asked does not fit the run as it is
    ├── Unavailable               the database or the broker cannot be reached
    └── RunEnded                  a result that will never come
        ├── WorkflowFailed
        ├── WorkflowCancelled
        ├── WorkflowTerminated
        └── WorkflowTimedOut

StepInterrupt (BaseException)     a running step is told to stop
├── StepCancelled
├── StepTimedOut
└── WorkerShutdown

InternalError (RuntimeError)      a bug of Dramaturg's own: please report it
"""

from __future__ import annotations

from datetime import timedelta


class DramaturgError(Exception):
    """Base of every error that Dramaturg raises for its users."""


class ConfigurationError(DramaturgError):
    """A setting is wrong, an optional package is missing, or a database cannot be used; the message says what to do."""


class DuplicateNameError(DramaturgError):
    """Two different functions were registered under one name; give one of them ``name=``."""


class GraphError(DramaturgError):
    """A graph cannot be run as it is: a node that is not there, two of one name, JSON of another form."""


class CycleError(GraphError):
    """Nodes of a graph wait for each other; the message names them."""


class InvalidSchedule(DramaturgError, ValueError):
    """A schedule cannot be meant, or would never fire; the message says which part. Nothing was written."""


class PayloadError(DramaturgError):
    """A value cannot be encoded or decoded by its annotation, or is larger than ``MAX_PAYLOAD``."""


class NonDeterminismError(DramaturgError):
    """Workflow code called something whose answer a replay could not repeat; the message names what to use instead."""


class StepError(DramaturgError):
    """Base of the errors that step code raises to say how it wants to go on."""


class RetryableError(StepError):
    """Raised in a step: try again.

    Parameters:
      message: what went wrong.
      retry_after: when to try again: a duration (``"30s"``, a ``timedelta``, seconds); ``None`` leaves it to the
        step's back-off.
    """

    def __init__(self, message: str = "", retry_after: str | float | timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class FatalError(StepError):
    """Raised in a step: never try again, whatever its retry policy says."""


class WorkflowSide(DramaturgError):
    """Base of what workflow code sees when something that it awaits ends badly."""


class StepFailed(WorkflowSide):
    """A step ended without a result.

    Attributes:
      step: the step's name.
      attempts: how many attempts were made.
      error_type: the qualified name of the last error's type, without ``builtins.``.
      message: the last error's message.
      traceback: the last error's traceback as text, empty where there is none.
      seq: the step's position in the run, from 1.
    """

    def __init__(
        self, step: str, attempts: int, error_type: str, message: str, traceback: str = "", *, seq: int = 0
    ) -> None:
        super().__init__(step, attempts, error_type, message, traceback)
        self.step = step
        self.attempts = attempts
        self.error_type = error_type
        self.message = message
        self.traceback = traceback
        self.seq = seq

    def __str__(self) -> str:
        times = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        return f"step {self.step!r} failed after {times}: {self.error_type}: {self.message}"


class StepTimeout(StepFailed, TimeoutError):
    """A step's last attempt ran out of time."""


class HookTimeout(WorkflowSide, TimeoutError):
    """Nobody used the token of a hook within its ``timeout``.

    Attributes:
      hook: the hook's name.
      seq: its position in the run, from 1.
    """

    def __init__(self, hook: str, seq: int = 0) -> None:
        super().__init__(hook, seq)
        self.hook = hook
        self.seq = seq

    def __str__(self) -> str:
        return f"hook {self.hook!r} expired: nobody used its token in time"


class ChildFailed(WorkflowSide):
    """A child workflow ended without a result.

    Attributes:
      workflow: the child's workflow.
      run_id: the child's run.
      status: how it ended: ``FAILED``, ``CANCELLED``, ``TERMINATED`` or ``TIMED_OUT``.
      error_type: the qualified name of the error's type; ``AlreadyStarted`` where another open run has its workflow id.
      message: the error's message; empty for a child that was stopped.
      traceback: the error's traceback as text, empty where there is none.
      seq: the child's position in the run, from 1.
    """

    def __init__(
        self,
        workflow: str,
        run_id: str,
        status: str,
        error_type: str = "",
        message: str = "",
        traceback: str = "",
        *,
        seq: int = 0,
    ) -> None:
        super().__init__(workflow, run_id, status, error_type, message, traceback)
        self.workflow = workflow
        self.run_id = run_id
        self.status = status
        self.error_type = error_type
        self.message = message
        self.traceback = traceback
        self.seq = seq

    def __str__(self) -> str:
        how = f"failed: {self.error_type}: {self.message}" if self.status == "FAILED" else f"is {self.status}"
        return f"child {self.workflow!r}, run {self.run_id}, {how}"


class ClientError(DramaturgError):
    """Base of what a client is told."""


class NotFound(ClientError):
    """No run, workflow or step has this id or name."""


class AlreadyStarted(ClientError):
    """A run with this workflow id is open, or the id may not be used again.

    Attributes:
      workflow_id: the id that was asked for.
      run_id: the run that has it.
    """

    def __init__(self, message: str, *, workflow_id: str, run_id: str) -> None:
        super().__init__(message)
        self.workflow_id = workflow_id
        self.run_id = run_id


class AlreadyScheduled(ClientError):
    """There is a schedule of this id."""


class IdempotencyMismatch(ClientError):
    """The idempotency key was used before, with other arguments."""


class NotAnswered(ClientError):
    """Nobody answered in time; the request stays, and counts once when it is taken."""


class QueryFailed(ClientError):
    """The function that answers a query raised, or did more than look; the run is as it was."""


class UpdateRejected(ClientError):
    """The validator of an update refuses it; the run is as it was, and nothing of it is in the history."""


class UpdateFailed(ClientError):
    """An update was accepted, and its function raised; or the run ended before that did."""


class WrongState(ClientError):
    """The run, or the step, is not in a state for what is asked; the message says which would be. Nothing changed."""


class InvalidToken(ClientError):
    """The token is none that this namespace gave out."""


class TokenExpired(ClientError):
    """What the token is for is over: it has its outcome, timed out, or nobody waits for it any more."""


class NoOpenApproval(ClientError):
    """The run asks for no decision of this name at the moment; the message says for which ones it does."""


class AlreadyDecided(NoOpenApproval):
    """The approval has its outcome: somebody decided it, or it timed out; the message says who, when and how."""


class NotAnApprover(ClientError):
    """The approval is for others to decide; the message names them. Nothing changed."""


class AlreadyResolved(ClientError):
    """The token of a hook was used before; what it was used for then holds."""


class Unavailable(ClientError):
    """The database or the broker cannot be reached."""


class RunEnded(ClientError):
    """The run ended without a result.

    Attributes:
      run_id: the run.
    """

    def __init__(self, message: str, *, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class WorkflowFailed(RunEnded):
    """The workflow raised.

    Attributes:
      error_type: the qualified name of the error's type, without ``builtins.``.
      message: the error's message.
      traceback: the error's traceback as text.
    """

    def __init__(self, *, run_id: str, workflow: str, error_type: str, message: str, traceback: str = "") -> None:
        super().__init__(f"workflow {workflow!r}, run {run_id}, failed: {error_type}: {message}", run_id=run_id)
        self.workflow = workflow
        self.error_type = error_type
        self.message = message
        self.traceback = traceback


class WorkflowCancelled(RunEnded):
    """The run was cancelled."""


class WorkflowTerminated(RunEnded):
    """The run was terminated."""


class WorkflowTimedOut(RunEnded):
    """The run took longer than the workflow's ``timeout``."""


class StepInterrupt(BaseException):
    """A running step is told to stop. Not an ``Exception``, so that ``except Exception`` does not swallow it."""


class StepCancelled(StepInterrupt):
    """The run was cancelled, or its workflow no longer awaits this step."""


class StepTimedOut(StepInterrupt):
    """The attempt took longer than its ``timeout``, or gave no heartbeat for its ``heartbeat_timeout``.

    Attributes:
      limit: the option that said how much time it had.
    """

    def __init__(self, message: str = "", *, limit: str = "timeout") -> None:
        super().__init__(message)
        self.limit = limit


class WorkerShutdown(StepInterrupt):
    """The worker is stopping; the step goes back to the queue and no attempt is counted."""


class InternalError(RuntimeError):
    """A bug in Dramaturg itself; please report it with the traceback."""
