"""`replay`: does a recorded history still fit the code of a workflow?"""

from __future__ import annotations

import dataclasses
from typing import Any

from dramaturg.embedded import rules_of
from dramaturg.histories import read_history
from dramaturg.orders import target_of
from dramaturg.steps import StepFunction
from dramaturg.workflows import BoundWorkflow, Workflow
from dramaturg_coordinator.rehearsal import rehearse_history
from dramaturg_protocol.config import Settings
from dramaturg_protocol.definitions import Registry, WorkflowDefinition, registry
from dramaturg_protocol.errors import NonDeterminismError


def replay(wf: Workflow[..., Any] | BoundWorkflow[..., Any] | StepFunction[..., Any], history: object) -> None:
    """Run a workflow's code over a recorded history; nothing is done, no step runs.

    Parameters:
      wf: the code to try, whatever its version.
      history: what ``dramaturg export`` wrote (a path, its text, or parsed), or the events of ``handle.events()``.

    Raises:
      NonDeterminismError: the code asks for something else; the message has both sides, the event and the line.
      ValueError: that is no history, or one of another workflow.
    """
    definition = target_of(wf).definition
    found = read_history(history)
    if definition is None or definition.name != found.started.workflow:
        raise ValueError(f"the history is of workflow {found.started.workflow!r}, not of {wf!r}")
    rules = dataclasses.replace(rules_of(Settings()), registry=_With(definition))
    problem = rehearse_history(rules, found.run_id or "replayed", found.events)
    if problem is not None:
        sides = [
            f"{title:<9} {line}"
            for title, lines in (("recorded", problem.recorded), ("now", problem.actual))
            for line in lines
        ]
        raise NonDeterminismError("\n".join([problem.message, *sides]))


class _With(Registry):
    """What is registered, with one workflow in the place of all of its versions."""

    def __init__(self, definition: WorkflowDefinition) -> None:
        super().__init__()
        self.steps = registry.steps
        self._definition = definition

    def workflow(self, name: str, version: int | None = None) -> WorkflowDefinition | None:
        """The one, or another that is registered."""
        return self._definition if name == self._definition.name else registry.workflow(name, version)
