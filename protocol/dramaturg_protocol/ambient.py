"""How code finds out that it runs inside a workflow, without importing the room that runs it.

A workflow's event loop has a `scope`; whichever loop is running in this thread answers.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from dramaturg_protocol.asking import ApprovalRequest, AskedApproval, AskedHook, HookRequest
    from dramaturg_protocol.dialogue import Dialogue
    from dramaturg_protocol.events import Compensation
    from dramaturg_protocol.payloads import Payload


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a workflow can know of its own run.

    Attributes:
      attempt: from 1.
      parent: the run that started this one, if any.
      context: what the run was started with; each who asks gets a value of its own.
    """

    run_id: str
    workflow_id: str
    workflow: str
    version: int
    started_at: datetime
    attempt: int
    parent: str | None
    tags: dict[str, str | int | bool]
    context: Any = None


@dataclass(frozen=True, slots=True)
class StepRequest:
    """A step as workflow code asked for it.

    Attributes:
      queue: as the call or the decorator says; ``None`` leaves it to the project's default.
      options: what the call itself set, ready for JSON.
      decode: turns the recorded result into a value.
      compensate: what undoes it.
      limits: the values of the keys of its limits, by option name.
      group: position of the fan-out that it belongs to.
    """

    name: str
    queue: str | None
    input: Payload
    options: dict[str, Any]
    decode: Callable[[Payload], Any]
    compensate: Compensation | None = None
    limits: dict[str, str] = field(default_factory=dict[str, str])
    group: int | None = None

    def in_group(self, group: int) -> StepRequest:
        """The same, as a member of a fan-out."""
        return replace(self, group=group)


@dataclass(frozen=True, slots=True)
class ChildRequest:
    """A child as workflow code asked for it.

    Attributes:
      workflow_id: ``None`` for its run id.
      decode: turns the recorded result into a value.
    """

    workflow: str
    input: Payload
    decode: Callable[[Payload], Any]
    workflow_id: str | None = None
    version: int | None = None
    on_parent_close: str = "cancel"
    tags: dict[str, str | int | bool] = field(default_factory=dict[str, str | int | bool])
    context: Payload | None = None
    group: int | None = None


class ChildTicket(ABC):
    """A child that was asked for.

    Attributes:
      run_id: what it is; another one after the run was reset to before the child's end.
      seq: its position in the run.
    """

    run_id: str
    seq: int
    workflow_id: str

    @abstractmethod
    def outcome(self) -> asyncio.Future[Any]:
        """A future of its own for each who asks; cancelling it cancels the child, unless that may outlive its parent."""

    @abstractmethod
    def cancel(self) -> None:
        """Have the child cancelled, unless it has ended."""


class Continued(GeneratorExit):
    """Unwinds code that has continued as a new run: what it still does counts no more, as where a run is evicted."""


class WorkflowScope(ABC):
    """What the face asks of the run that is executing in this thread."""

    @abstractmethod
    def start_step(self, request: StepRequest) -> asyncio.Future[Any]:
        """Ask for a step; the future gets its outcome."""

    @property
    @abstractmethod
    def dialogue(self) -> Dialogue:
        """What it hears from outside and says to it."""

    @abstractmethod
    def start_child(self, request: ChildRequest) -> ChildTicket:
        """Start a run that belongs to this one."""

    @abstractmethod
    def begin_fan_out(self, step: str, items: int, chunk: int) -> int:
        """Note that a fan-out begins; its position, which its members bear."""

    @abstractmethod
    def continue_as_new(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
        """End the run, and begin the next of its chain."""
        raise NotImplementedError

    @abstractmethod
    def push_compensation(self, request: StepRequest) -> None:
        """Have a step run if the run does not end well."""

    @abstractmethod
    def compensate_now(self) -> asyncio.Future[None]:
        """Undo what is on the stack; the future gets an error where something could not be undone."""

    @abstractmethod
    def start_timer(self, due: datetime) -> asyncio.Future[None]:
        """Ask to be woken at a moment."""

    @abstractmethod
    def request_approval(self, request: ApprovalRequest) -> AskedApproval:
        """Ask people for a decision."""

    @abstractmethod
    def create_hook(self, request: HookRequest) -> AskedHook:
        """Wait for one call from outside."""

    @abstractmethod
    def shield(self) -> AbstractAsyncContextManager[object]:
        """A block in which the task that enters it is not cancelled."""

    @abstractmethod
    def next_hash(self) -> int:
        """A hash for an object that asyncio may put into a set: the same on every replay."""

    @abstractmethod
    def side_effect(self, name: str, call: Callable[[], Any], annotation: Any) -> Any:
        """Call once, record what came back, and give that on every replay."""

    @abstractmethod
    def patched(self, change_id: str) -> bool:
        """Whether this run passes here with the changed code."""

    @abstractmethod
    def now(self) -> datetime:
        """The time of the event that is being applied, aware, UTC."""

    @abstractmethod
    def random(self) -> random.Random:
        """A generator whose seed follows from the run and the position."""

    @abstractmethod
    def uuid4(self) -> uuid.UUID:
        """A UUID that follows from the run and the position."""

    @abstractmethod
    def info(self) -> RunInfo:
        """About the run itself."""

    @abstractmethod
    def log(self, level: int, message: str) -> bool:
        """Note a log record; false where it must stay silent."""

    @abstractmethod
    def set_context(self, value: Any) -> None:
        """Let later steps see this as their context."""

    @property
    @abstractmethod
    def step_context(self) -> Any:
        """What a step that is asked for now sees as its context."""

    @property
    @abstractmethod
    def is_replaying(self) -> bool:
        """What the code does now, it did before."""

    @property
    @abstractmethod
    def max_payload(self) -> int:
        """Bytes that one argument list or result may take."""

    @property
    @abstractmethod
    def is_muted(self) -> bool:
        """The run was dropped from memory: nothing that it does now counts."""


def current_scope() -> WorkflowScope | None:
    """The workflow that is executing in this thread, if any."""
    scope = getattr(asyncio._get_running_loop(), "scope", None)
    return scope if isinstance(scope, WorkflowScope) else None


def workflow_scope(what: str) -> WorkflowScope:
    """The workflow that is executing in this thread.

    Raises:
      RuntimeError: there is none; the message names `what`.
    """
    scope = current_scope()
    if scope is None:
        raise RuntimeError(f"{what} works inside a workflow only: no workflow is running here")
    return scope
