"""What a run has done so far, told from its events: the steps in their batches, the timers, the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dramaturg.cli.narration import error_text, moment_of
from dramaturg.cli.output import untagged

if TYPE_CHECKING:
    from dramaturg.views import Event

_CLOSING = {
    "run.completed": "COMPLETED",
    "run.failed": "FAILED",
    "run.cancelled": "CANCELLED",
    "run.terminated": "TERMINATED",
    "run.timed_out": "TIMED_OUT",
    "run.continued": "CONTINUED",
}
_SETTLED = {
    "step.completed": "COMPLETED",
    "step.failed": "FAILED",
    "step.timed_out": "TIMED_OUT",
    "step.cancelled": "CANCELLED",
}


@dataclass(slots=True)
class StepStory:
    """One step.

    Attributes:
      attempt: the one that is under way or comes next, from 1.
      retry_at: when the next attempt is due, while it waits for that.
      error: of the last attempt that failed, in one line.
      traceback: of the same attempt.
    """

    seq: int
    name: str
    since: datetime
    status: str = "SCHEDULED"
    attempt: int = 1
    retry_at: datetime | None = None
    until: datetime | None = None
    error: str = ""
    traceback: str = ""

    @property
    def is_open(self) -> bool:
        """It has no outcome yet."""
        return self.until is None


@dataclass(slots=True)
class Batch:
    """Steps of one name that run side by side; a step that runs alone is a batch of one."""

    name: str
    steps: list[StepStory]
    open: int = 0

    def count(self, status: str) -> int:
        """How many of its steps have this status."""
        return sum(step.status == status for step in self.steps)


@dataclass(slots=True)
class TimerStory:
    """One timer."""

    seq: int
    since: datetime
    due: datetime
    until: datetime | None = None


@dataclass(slots=True)
class RunStory:
    """One run, as far as it was heard of.

    Attributes:
      rows: batches and timers in the order in which they began.
      error: of a failed or blocked run: `type`, `message`, `traceback`.
      result: of a completed run, as it is stored.
    """

    run_id: str
    workflow_id: str = ""
    workflow: str = ""
    version: int = 0
    status: str = "PENDING"
    started_at: datetime | None = None
    closed_at: datetime | None = None
    result: Any = None
    error: dict[str, Any] | None = None
    rows: list[Batch | TimerStory] = field(default_factory=list["Batch | TimerStory"])
    steps: dict[int, StepStory] = field(default_factory=dict[int, StepStory])
    last_failed: StepStory | None = None
    _batches: dict[str, Batch] = field(default_factory=dict[str, Batch])
    _timers: dict[int, TimerStory] = field(default_factory=dict[int, TimerStory])

    def tell(self, event: Event) -> None:
        """Go on with an event."""
        if event.type in _CLOSING:
            self._close(event)
        elif event.type in _SETTLED:
            self._settle(event)
        else:
            tell = _TELL.get(event.type)
            if tell is not None:
                tell(self, event.data, event.time)

    def document(self) -> dict[str, Any]:
        """The run's outcome, for programs."""
        return {
            "run_id": self.run_id,
            "workflow_id": self.workflow_id or self.run_id,
            "workflow": self.workflow,
            "version": self.version,
            "status": self.status,
            "started_at": self.started_at,
            "closed_at": self.closed_at,
            "result": self.shown_result,
            "error": self.error,
        }

    @property
    def shown_status(self) -> str:
        """The status as lists have it: an open run without a step under way only waits."""
        is_waiting = self.status == "RUNNING" and not any(batch.open for batch in self._batches.values())
        return "WAITING" if is_waiting else self.status

    @property
    def shown_result(self) -> Any:
        """The result without the tags that tell its types."""
        return None if self.result is None else untagged(self.result)

    def start(self, data: Mapping[str, Any], time: datetime) -> None:
        self.status, self.started_at = "RUNNING", time
        self.workflow_id, self.workflow, self.version = data["workflow_id"], data["workflow"], data["version"]

    def block(self, data: Mapping[str, Any], _: datetime) -> None:
        self.status = "BLOCKED"
        self.error = {"type": data["reason"], "message": data["message"], "traceback": ""}

    def unblock(self, data: Mapping[str, Any], _: datetime) -> None:
        self.status, self.error = "RUNNING", None
        self.version = data.get("version") or self.version

    def fail_for_now(self, data: Mapping[str, Any], time: datetime) -> None:
        """It is tried again; what is under way counts no more."""
        self.error = data["error"]
        self._stop(time)

    def go_back(self, data: Mapping[str, Any], _: datetime) -> None:
        """It goes on from an earlier point, with the steps that were open there."""
        self.status, self.error, self.closed_at = "RUNNING", None, None
        for batch in self._batches.values():
            batch.open = 0
        for seq, attempt in data.get("again") or ():
            step = self.steps.get(seq)
            if step is not None:
                step.status, step.attempt, step.until, step.retry_at = "SCHEDULED", attempt, None, None
                self._batches[step.name].open += 1

    def schedule(self, data: Mapping[str, Any], time: datetime) -> None:
        step = self.steps[data["seq"]] = StepStory(data["seq"], data["name"], time)
        batch = self._batches.get(step.name)
        if batch is None or not batch.open:
            batch = self._batches[step.name] = Batch(step.name, [])
            self.rows.append(batch)
        batch.steps.append(step)
        batch.open += 1

    def begin(self, data: Mapping[str, Any], _: datetime) -> None:
        step = self.steps[data["seq"]]
        step.status, step.attempt, step.retry_at = "STARTED", data["attempt"], None

    def retry(self, data: Mapping[str, Any], _: datetime) -> None:
        step = self.steps[data["seq"]]
        step.status, step.retry_at = "RETRYING", moment_of(data["retry_at"]) if data["retry_at"] else None
        step.attempt = data["attempt"] + (1 if data.get("counts", True) else 0)
        step.error, step.traceback = error_text(data["error"]), data["error"].get("traceback", "")

    def set_timer(self, data: Mapping[str, Any], time: datetime) -> None:
        timer = self._timers[data["seq"]] = TimerStory(data["seq"], time, moment_of(data["due"]))
        self.rows.append(timer)

    def end_timer(self, data: Mapping[str, Any], time: datetime) -> None:
        self._timers[data["seq"]].until = time

    def _settle(self, event: Event) -> None:
        step = self.steps[event.data["seq"]]
        step.status, step.until, step.retry_at = _SETTLED[event.type], event.time, None
        step.attempt = event.data.get("attempt", step.attempt)
        self._batches[step.name].open -= 1
        error = event.data.get("error")
        if error is not None:
            step.error, step.traceback = error_text(error), error.get("traceback", "")
            self.last_failed = step
        elif step.status == "COMPLETED":
            step.error = ""

    def _close(self, event: Event) -> None:
        self.status, self.closed_at = _CLOSING[event.type], event.time
        self.result, self.error = event.data.get("result"), event.data.get("error")
        positions = event.data.get("positions") or ()
        if positions:
            self.last_failed = self.steps.get(positions[-1], self.last_failed)
        self._stop(event.time)

    def _stop(self, time: datetime) -> None:
        for row in self.rows:
            if isinstance(row, Batch):
                row.open = 0
            for each in row.steps if isinstance(row, Batch) else [row]:
                each.until = each.until or time


_TELL: Mapping[str, Callable[[RunStory, Mapping[str, Any], datetime], None]] = {
    "run.started": RunStory.start,
    "run.blocked": RunStory.block,
    "run.unblocked": RunStory.unblock,
    "run.retrying": RunStory.fail_for_now,
    "run.retried": RunStory.go_back,
    "run.reset": RunStory.go_back,
    "step.scheduled": RunStory.schedule,
    "step.started": RunStory.begin,
    "step.retrying": RunStory.retry,
    "timer.started": RunStory.set_timer,
    "timer.fired": RunStory.end_timer,
    "timer.cancelled": RunStory.end_timer,
}
