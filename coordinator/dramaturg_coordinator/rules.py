"""What the coordinator knows besides histories: the registered code and the configured defaults."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dramaturg_coordinator.core.commands import CHILD_CALL
from dramaturg_coordinator.core.run_state import OpenStep, RunState
from dramaturg_protocol import events as e
from dramaturg_protocol.config import DEFAULT_MAX_HISTORY, DEFAULT_MAX_PAYLOAD
from dramaturg_protocol.definitions import (
    DEFAULT_QUEUE,
    EffectiveOptions,
    Registry,
    StepDefinition,
    WorkflowDefinition,
    effective_options,
)
from dramaturg_protocol.events import RunLimit
from dramaturg_protocol.limits import Limit, LimitKind, keys_of
from dramaturg_protocol.options import options_from_json
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.retries import RetryPolicy
from dramaturg_protocol.step_tokens import StepPlace, seal_of

#: Seconds that workflow code may run without awaiting.
CODE_LIMIT = 5.0
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True)
class Rules:
    """Registered code and configured defaults.

    Attributes:
      step_defaults: options for every step of the project.
      queue_defaults: options for the steps of a queue.
      max_payload: bytes.
      max_history: events after which a run is paused.
      history_log_level: from this level on a workflow's log record is an event.
      replay_every_turn: rebuild every run from its history after every turn.
      code_limit: seconds that workflow code may run without awaiting.
      secret: of the namespace, for tokens.
      partition_of: the partition of a workflow id; where nobody says it, nothing can be sent to other runs.
      public_url: where links to approvals and hooks lead.
    """

    registry: Registry
    step_defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    queue_defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    max_payload: int = DEFAULT_MAX_PAYLOAD
    max_history: int = DEFAULT_MAX_HISTORY
    history_log_level: int = logging.WARNING
    replay_every_turn: bool = False
    code_limit: float = CODE_LIMIT
    secret: str = field(default="", repr=False)
    partition_of: Callable[[str], int] = lambda _: 0
    public_url: str = ""
    _plain: dict[tuple[StepDefinition | None, str], EffectiveOptions] = field(
        default_factory=dict[tuple[StepDefinition | None, str], EffectiveOptions], init=False, repr=False, compare=False
    )

    @property
    def default_queue(self) -> str:
        """Where steps go that name no queue."""
        return str(self.step_defaults.get("queue", DEFAULT_QUEUE))

    def seal_of(self, run_id: str, generation: int, seq: int) -> str:
        """What makes the token of a step; empty where there is no secret."""
        return seal_of(self.secret, StepPlace(run_id, generation, seq)) if self.secret else ""

    def timeout_of(self, definition: WorkflowDefinition | None) -> float | None:
        """Seconds that a run may take."""
        timeout = definition.options.get("timeout") if definition is not None else None
        return None if timeout is None else float(timeout.total_seconds())

    def unblocked(self, state: RunState, version: int) -> e.RunUnblocked:
        """What is recorded of a run that goes on now: where it began before anybody knew its workflow, its time too."""
        if version == state.version or state.started is None:
            return e.RunUnblocked()
        return e.RunUnblocked(version, self.timeout_of(self.registry.workflow(state.started.workflow, version)))

    def retries_of(self, state: RunState) -> RetryPolicy | None:
        """How often a run is tried again that fails of its own; ``None`` for not at all."""
        if state.started is None:
            return None
        definition = self.registry.workflow(state.started.workflow, state.version or None)
        return None if definition is None else definition.options.get("retries")

    def limit_of(self, definition: WorkflowDefinition | None, payload: Payload) -> RunLimit | None:
        """The limit that a run begins under."""
        option = definition.options.get("concurrency") if definition is not None else None
        if definition is None or option is None:
            return None
        limit = option if isinstance(option, Limit) else Limit(option)
        most, what = int(limit.amount), f"workflow {definition.name!r}"
        try:
            args, kwargs = definition.schema.decode_call(payload)
            key = keys_of({LimitKind.CONCURRENCY: limit}, definition.fn, args, kwargs, what=what)
        except Exception as error:  # noqa: BLE001 - a function of the user's own
            return RunLimit(most, on_conflict=limit.on_conflict, error=f"{type(error).__name__}: {error}"[:1000])
        return RunLimit(most, key.get(LimitKind.CONCURRENCY, ""), limit.on_conflict)

    def options_of(self, step: OpenStep) -> EffectiveOptions:
        """What holds for a step: call, decorator, start, queue, project, built-in, in this order."""
        definition = self.registry.steps.get(step.name)
        if step.options or step.priority is not None:
            return self._options_of(definition, step.queue, step.options, step.priority)
        return self._plain_of(definition, step.queue)

    def _plain_of(self, definition: StepDefinition | None, queue: str) -> EffectiveOptions:
        """What holds for calls that set no option: most, so it is kept."""
        plain = self._plain.get((definition, queue))
        if plain is None:
            plain = self._options_of(definition, queue, {})
            self._plain[definition, queue] = plain
        return plain

    def _options_of(
        self, definition: StepDefinition | None, queue: str, call: Mapping[str, Any], priority: int | None = None
    ) -> EffectiveOptions:
        return effective_options(
            options_from_json(call),
            definition.options if definition is not None else {},
            {} if priority is None else {"priority": priority},
            self.queue_defaults.get(queue, {}),
            self.step_defaults,
        )

    def same_call(self, name: str, recorded: Any, actual: Any) -> bool:
        """Whether two encoded calls of a step are equal though their texts differ."""
        called: StepDefinition | WorkflowDefinition | None = self.registry.steps.get(name)
        if name.startswith(CHILD_CALL):
            called = self.registry.workflow(name.removeprefix(CHILD_CALL))
        return called is not None and called.schema.same_call(recorded, actual)
