"""Which runs are meant: the filter of lists, counts and batches, as conditions of SQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from pydantic_core import to_json
from sqlalchemy import ColumnElement, and_, exists, or_

from dramaturg_protocol.records import WorkKind
from dramaturg_store.schema import open_work, runs

_ESCAPE: Final = "!"
#: What people call that which a run waits for, and the rows of open work that stand for it.
WAITS: Final[Mapping[str, tuple[WorkKind, ...]]] = {
    "step": (WorkKind.STEP, WorkKind.WAITING, WorkKind.LOCAL, WorkKind.LEFT_OPEN, WorkKind.RETRY),
    "timer": (WorkKind.TIMER,),
    "retry": (WorkKind.RETRY,),
    "approval": (WorkKind.APPROVAL,),
    "hook": (WorkKind.HOOK,),
}


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs are meant; what is not given excludes none.

    Attributes:
      statuses: any of them.
      tags: all of them.
      since, until: started then or later; started before.
      text: a part of the run's id, workflow id, workflow, tags or error, whatever its case.
      idle_since: open, and nothing happened to it since.
      waiting_on: one of `WAITS`.
      step, queue: such a step is under way, one in this queue.
    """

    workflow: str | None = None
    statuses: Collection[str] = ()
    tags: Mapping[str, str | int | bool] = field(default_factory=dict[str, str | int | bool])
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    idle_since: datetime | None = None
    waiting_on: str | None = None
    step: str | None = None
    queue: str | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing is given."""
        return self == RunFilter()

    @property
    def is_indexed(self) -> bool:
        """Whether the index over partition, status and workflow has all that it takes."""
        return self == RunFilter(self.workflow, self.statuses) and (self.workflow is None or bool(self.statuses))

    def conditions(self) -> list[ColumnElement[bool]]:
        """What holds of a row of `runs` that is meant."""
        found: list[ColumnElement[bool]] = []
        if self.workflow is not None:
            found.append(runs.c.workflow == self.workflow)
        if self.statuses:
            found.append(runs.c.status.in_(sorted(self.statuses)))
        if self.since is not None:
            found.append(runs.c.started_at >= self.since)
        if self.until is not None:
            found.append(runs.c.started_at < self.until)
        if self.idle_since is not None:
            found.append(and_(runs.c.closed_at.is_(None), runs.c.updated_at < self.idle_since))
        found += [_has_tag(name, value) for name, value in self.tags.items()]
        if self.text is not None:
            texts = (runs.c.run_id, runs.c.workflow_id, runs.c.workflow, runs.c.tags, runs.c.error)
            found.append(or_(*(column.ilike(_containing(self.text), escape=_ESCAPE) for column in texts)))
        return found + self._conditions_of_work()

    def _conditions_of_work(self) -> list[ColumnElement[bool]]:
        wanted: list[ColumnElement[bool]] = []
        if self.waiting_on is not None:
            wanted.append(open_work.c.kind.in_([kind.value for kind in WAITS[self.waiting_on]]))
        # The message of a step holds its name and queue, as the compact JSON that we write.
        for key, value in (("name", self.step), ("queue", self.queue)):
            if value is not None:
                text = f'"{key}":{to_json(value).decode()},'
                wanted.append(open_work.c.message.like(_containing(text), escape=_ESCAPE))
        return [exists().where(open_work.c.run_id == runs.c.run_id, *wanted)] if wanted else []


def _has_tag(name: str, value: Any) -> ColumnElement[bool]:
    # Compact JSON in which a name stands once: what follows the value is a comma or the end.
    text = f"{to_json(name).decode()}:{to_json(value).decode()}"
    return or_(*(runs.c.tags.like(_containing(f"{text}{end}"), escape=_ESCAPE) for end in (",", "}")))


def _containing(text: str) -> str:
    for special in (_ESCAPE, "%", "_"):
        text = text.replace(special, _ESCAPE + special)
    return f"%{text}%"
