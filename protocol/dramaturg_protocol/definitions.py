"""What a step and a workflow are, apart from any broker, database or event loop; and the registry of both."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dramaturg_protocol.errors import DuplicateNameError
from dramaturg_protocol.fingerprints import fingerprint_of, fingerprint_of_modules
from dramaturg_protocol.limits import LimitSize, sizes_of
from dramaturg_protocol.retries import RetryPolicy
from dramaturg_protocol.signatures import CallSchema

DEFAULT_QUEUE = "default"


@dataclass(frozen=True, slots=True, eq=False)
class StepDefinition:
    """A step.

    Attributes:
      fn: the plain function; ``None`` where only the name is known here (`step_ref`).
      options: what the decorator set, checked.
      actor: the Dramatiq actor that it was before it was a step; ``None`` for one that was none.
    """

    name: str
    fn: Callable[..., Any] | None
    schema: CallSchema
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    actor: Any = None

    @property
    def queue(self) -> str | None:
        """Where its messages go, as far as the decorator says."""
        return self.options.get("queue")


@dataclass(frozen=True, slots=True, eq=False)
class WorkflowDefinition:
    """One version of a workflow.

    Attributes:
      document: what it does besides its code, where that is data.
    """

    name: str
    version: int
    fn: Callable[..., Any]
    schema: CallSchema
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    document: str = ""

    @property
    def fingerprint(self) -> str:
        """A short hash of the function's code: changes when its code does, not when a comment does."""
        return fingerprint_of(self.fn, self.document)


@dataclass(frozen=True, slots=True)
class Listener:
    """A step that runs when an event is recorded.

    Attributes:
      event: its type.
      workflow: only in runs of this one.
      tags: only in runs that bear these.
    """

    event: str
    step: str
    workflow: str | None
    tags: Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class EffectiveOptions:
    """What holds for one step of a run, from the call, the decorator, the queue's and the project's defaults.

    Attributes:
      timeout: seconds, as all that end in ``timeout``.
      local: the coordinator runs it itself.
      isolated: in a process of its own.
      is_held: after its last attempt it waits for a person (``on_give_up="pause"``).
      priority: lower runs first; ``None`` where nothing says it here.
      limits: whose grants an attempt needs, in the order in which it asks for them.
      cache: seconds for which a result is used again.
    """

    retries: RetryPolicy
    timeout: float | None
    retry_on_timeout: bool
    local: bool = False
    isolated: bool = False
    is_held: bool = False
    queue_timeout: float | None = None
    total_timeout: float | None = None
    heartbeat_timeout: float | None = None
    priority: int | None = None
    limits: tuple[LimitSize, ...] = ()
    cache: float | None = None

    @property
    def announces(self) -> bool:
        """Whether a worker says at once that it begins an attempt: some time counts from there, or ends there."""
        return not (self.timeout is None and self.queue_timeout is None and self.heartbeat_timeout is None)


def effective_options(*layers: Mapping[str, Any]) -> EffectiveOptions:
    """Merge options; the first layer that has one decides."""
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        merged.update(layer)
    return EffectiveOptions(
        retries=merged.get("retries") or _DEFAULT_POLICY,
        timeout=_seconds(merged, "timeout"),
        retry_on_timeout=merged.get("retry_on_timeout", True),
        local=merged.get("local", False),
        isolated=merged.get("isolation") == "process",
        is_held=merged.get("on_give_up", "raise") == "pause",
        queue_timeout=_seconds(merged, "queue_timeout"),
        total_timeout=_seconds(merged, "total_timeout"),
        heartbeat_timeout=_seconds(merged, "heartbeat_timeout"),
        priority=merged.get("priority"),
        limits=sizes_of(merged),
        cache=_seconds(merged, "cache"),
    )


def _seconds(options: Mapping[str, Any], name: str) -> float | None:
    duration = options.get(name)
    return None if duration is None else float(duration.total_seconds())


_DEFAULT_POLICY = RetryPolicy()


def _place_of(fn: Callable[..., Any] | None) -> tuple[str, int, str] | None:
    code = getattr(inspect.unwrap(fn), "__code__", None) if fn is not None else None
    if code is None:
        return None
    return (os.path.realpath(code.co_filename), code.co_firstlineno, getattr(fn, "__qualname__", ""))


class Registry:
    """The steps and workflows that this process knows, by name."""

    def __init__(self) -> None:
        self.steps: dict[str, StepDefinition] = {}
        self.workflows: dict[str, dict[int, WorkflowDefinition]] = {}
        self.lifespans: list[Callable[[], Any]] = []
        self._step_workflows: dict[str, WorkflowDefinition] = {}
        self.listeners: dict[str, list[Listener]] = {}
        self._families: dict[str, Callable[[str], WorkflowDefinition]] = {}

    def add_step(self, definition: StepDefinition) -> None:
        """Register a step; a definition with code replaces one without.

        Raises:
          DuplicateNameError: another function has the name.
        """
        known = self.steps.get(definition.name)
        if known is not None and definition.fn is None:
            return
        _refuse_another("step", known, definition)
        self.steps[definition.name] = definition

    def add_workflow(self, definition: WorkflowDefinition) -> None:
        """Register a version of a workflow.

        Raises:
          DuplicateNameError: another function has this name and version.
        """
        versions = self.workflows.setdefault(definition.name, {})
        what = f"version {definition.version} of workflow"
        _refuse_another(what, versions.get(definition.version), definition)
        versions[definition.version] = definition

    def set_step_workflow(self, definition: WorkflowDefinition) -> None:
        """Keep the workflow that is a run of one step; it is found by name and not listed."""
        self._step_workflows[definition.name] = definition

    def add_family(self, prefix: str, define: Callable[[str], WorkflowDefinition]) -> None:
        """Register all workflows whose names begin so, which nobody has to define; they are not listed."""
        self._families[prefix] = define

    def add_listener(self, listener: Listener) -> None:
        """Register a step that listens, once."""
        known = self.listeners.setdefault(listener.event, [])
        if listener not in known:
            known.append(listener)

    def add_lifespan(self, generator: Callable[[], Any]) -> None:
        """Register a lifespan, once."""
        if _place_of(generator) not in [_place_of(known) for known in self.lifespans]:
            self.lifespans.append(generator)

    def workflow(self, name: str, version: int | None = None) -> WorkflowDefinition | None:
        """A version of a workflow, the highest for ``None``; ``None`` where it is not known."""
        versions = self.workflows.get(name)
        if not versions:
            return self._step_workflows.get(name) or self._of_family(name)
        return versions[max(versions)] if version is None else versions.get(version)

    def _of_family(self, name: str) -> WorkflowDefinition | None:
        return next((define(name) for prefix, define in self._families.items() if name.startswith(prefix)), None)

    @property
    def versions(self) -> dict[str, list[int]]:
        """The versions of each workflow, as a coordinator announces them."""
        return {name: sorted(versions) for name, versions in self.workflows.items()}

    @property
    def fingerprint(self) -> str:
        """A short hash of all that is registered, and of the files that it is from.

        It is the same in every process that serves the same code, if it is taken right after the modules are imported.
        """
        definitions = [each for versions in self.workflows.values() for each in versions.values()]
        rows = sorted(f"{each.name} {each.version} {each.fingerprint}" for each in definitions)
        rows.append(fingerprint_of_modules(each.fn for each in definitions))
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]

    @contextmanager
    def isolated(self) -> Generator[None, None, None]:
        """Forget, at the end of the block, what was registered inside it."""
        kept = (dict(self.steps), {name: dict(versions) for name, versions in self.workflows.items()})
        lifespans, step_workflows = list(self.lifespans), dict(self._step_workflows)
        listeners = {event: list(known) for event, known in self.listeners.items()}
        try:
            yield
        finally:
            self.steps, self.workflows = kept
            self.lifespans, self._step_workflows, self.listeners = lifespans, step_workflows, listeners


def _refuse_another(
    what: str, known: StepDefinition | WorkflowDefinition | None, definition: StepDefinition | WorkflowDefinition
) -> None:
    if known is None or known.fn is None or _is_same_function(known.fn, definition.fn):
        return
    document = getattr(known, "document", "")
    if document and document == getattr(definition, "document", ""):
        return
    old, new = _place_of(known.fn), _place_of(definition.fn)
    raise DuplicateNameError(
        f"{what} {definition.name!r} is registered twice: by {_where(old)} and by {_where(new)}; "
        f'give one of them another name with name="…"'
    )


def _is_same_function(known: Callable[..., Any], new: Callable[..., Any] | None) -> bool:
    if known is new:
        return True
    old_place, new_place = _place_of(known), _place_of(new)
    if old_place is None or new_place is None:
        return False
    # A cell of a notebook or a console's input is no file: typing it again replaces what was there.
    is_typed_in = all(place[0].endswith(">") or "ipykernel" in place[0] for place in (old_place, new_place))
    return old_place == new_place or is_typed_in


def _where(place: tuple[str, int, str] | None) -> str:
    return "an object without code" if place is None else f"{place[2]} ({place[0]}:{place[1]})"


#: What decorators register into.
registry = Registry()
