"""How a run knows the run that started it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ParentLink:
    """The run that started another one, and waits for it.

    Attributes:
      partition: of the parent, which is told how its child ended.
      seq: position of the child in the parent.
      child: the run that the parent knows as its child: the first of a chain.
    """

    run_id: str
    workflow_id: str
    partition: int
    seq: int
    child: str
