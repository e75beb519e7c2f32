"""What a step can know and say of itself: `current_step`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from dramaturg_actors.vital_signs import VitalSigns
from dramaturg_protocol.errors import ConfigurationError, StepCancelled, StepInterrupt
from dramaturg_protocol.ids import idempotency_key_of
from dramaturg_protocol.messages import StepTask
from dramaturg_protocol.payloads import Payload, decode_value
from dramaturg_protocol.signs import Progress
from dramaturg_protocol.step_tokens import StepPlace, token_of

MAX_NOTE: Final = 1000

_LOGGER: Final = logging.getLogger("dramaturg.step")


@dataclass(slots=True, eq=False)
class StepContext:
    """The attempt that is running here.

    Attributes:
      seq: the step's position in its run, from 1.
      attempt: from 1.
      max_attempts: how many the retry policy allows.
      idempotency_key: the same over attempts and redeliveries: what the outside world recognises a repeat by.
      state: what the lifespans of this process gave.
      interrupted: why the step was told to stop; ``None`` while it was not.
      cancel_reason: why nobody waits for the step any more; ``None`` while somebody does.
      signs: what it says of itself.
      is_left_open: somebody else will say what came of it.
    """

    run_id: str
    workflow_id: str
    workflow: str
    name: str
    seq: int
    attempt: int
    max_attempts: int
    idempotency_key: str
    state: Mapping[str, Any]
    interrupted: StepInterrupt | None
    signs: VitalSigns
    _generation: int
    _seal: str
    _is_stopping: Callable[[], bool]
    _context: Payload | None = None
    cancel_reason: StepCancelled | None = None
    is_left_open: bool = False
    _connection: Any = None

    @property
    def stopping(self) -> bool:
        """Whether the worker is about to stop: a long step may end early, or wait to be interrupted."""
        return self._is_stopping()

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry the run, workflow, step, position and attempt."""
        return logging.LoggerAdapter(
            _LOGGER,
            {
                "run_id": self.run_id,
                "workflow_id": self.workflow_id,
                "workflow": self.workflow,
                "step": self.name,
                "seq": self.seq,
                "attempt": self.attempt,
            },
        )

    def heartbeat(self, *details: Any) -> None:
        """Say that the step is alive, and where it is.

        It is reported in the background, about once a second at most, so a step may call it as often as it likes.

        Parameters:
          details: values that `last_heartbeat` gives to the next attempt, for it to go on from there; without any, those
            of the call before stay.

        Raises:
          PayloadError: the details cannot be encoded, or are larger than 64 KiB.
        """
        self.signs.beat(details)

    @property
    def last_heartbeat(self) -> tuple[Any, ...]:
        """The details that the attempts before this one gave last; empty where there are none."""
        return self.signs.last

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Show how far the step is, wherever the run is shown. It is no heartbeat, and reported as one is.

        Parameters:
          done: in units of the step's own.
          total: how many there are; ``None`` where it is not known.
          note: what it does at the moment, in some words.
        """
        self.signs.progress(Progress(float(done), None if total is None else float(total), str(note)[:MAX_NOTE]))

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the step any more: its run was cancelled or ended, or its workflow let go of it."""
        return self.cancel_reason is not None

    def raise_if_cancelled(self) -> None:
        """Raise `StepCancelled` if nobody waits for the step any more."""
        if self.cancel_reason is not None:
            raise self.cancel_reason

    def complete_later(self) -> str:
        """Leave the step open when its code returns: somebody else says what came of it, with the token that this gives.

        Pass the token on, then return; what the step returns then counts for nothing. The step is open until
        ``client.complete_step(token, value)`` or ``fail_step(token, message)``, without a worker, and its `timeout` and
        `total_timeout` go on. Where it raises, it was not left open.

        Raises:
          ConfigurationError: whoever sent this step has no secret to make tokens with.
        """
        if not self._seal:
            raise ConfigurationError(
                "this step came without a seal: complete_later() needs a coordinator with a database"
            )
        self.is_left_open = True
        return token_of(StepPlace(self.run_id, self._generation, self.seq), self._seal)

    @property
    def connection(self) -> Any:
        """Of a step with `exactly_once`: the connection whose transaction records its outcome; leave commit() to us.

        It is SQLAlchemy's ``Connection``, in an ``async def`` step ``AsyncConnection``.

        Raises:
          RuntimeError: the step does not have the option.
        """
        if self._connection is None:
            raise RuntimeError(f"step {self.name!r} has no connection: give it exactly_once=engine")
        return self._connection

    def lend(self, connection: Any) -> None:
        """Set what `connection` gives; not for steps."""
        self._connection = connection

    @property
    def context(self) -> Any:
        """What the run was started with for its steps, or its code set since; each who asks gets a value of its own.

        Raises:
          PayloadError: it is of a class that this process does not know.
        """
        return None if self._context is None else decode_value(self._context, Any, where="the run's context")


def context_of(task: StepTask, state: Mapping[str, Any], is_stopping: Callable[[], bool]) -> StepContext:
    """The context of one attempt."""
    return StepContext(
        run_id=task.run_id,
        workflow_id=task.workflow_id,
        workflow=task.workflow,
        name=task.name,
        seq=task.seq,
        attempt=task.attempt,
        max_attempts=task.max_attempts,
        idempotency_key=idempotency_key_of(task.run_id, task.generation, task.seq),
        state=state,
        interrupted=None,
        signs=VitalSigns(task),
        _generation=task.generation,
        _seal=task.seal,
        _is_stopping=is_stopping,
        _context=task.context,
    )


_CURRENT: ContextVar[StepContext | None] = ContextVar("dramaturg_current_step", default=None)


def current_step() -> StepContext | None:
    """The attempt that runs here; ``None`` outside a step."""
    return _CURRENT.get()


def enter_step(context: StepContext | None) -> None:
    """Make this the current step of the present `contextvars.Context`, which belongs to the attempt alone."""
    _CURRENT.set(context)
