"""How far a run is: its steps, and the items of its fan-outs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from pydantic_core import from_json

from dramaturg_coordinator.core.effective import effective
from dramaturg_protocol import events as e

#: Of runs, how many steps are completed and how many failed, by run.
EndedSteps: TypeAlias = Callable[[Collection[str]], Mapping[str, tuple[int, int]]]


@dataclass(slots=True)
class _FanOut:
    """One fan-out.

    Attributes:
      done, failed: of its members.
    """

    items: int
    chunk: int
    done: int = 0
    failed: int = 0

    @property
    def items_failed(self) -> int:
        """The last member may have fewer items than the others."""
        return min(self.failed * self.chunk, self.items)

    @property
    def items_done(self) -> int:
        return min(self.done * self.chunk, self.items - self.items_failed)


@dataclass(slots=True)
class _FanOuts:
    """What became of the members of a run's fan-outs.

    Attributes:
      blocks: the child runs that are under way, each with the position of its fan-out.
    """

    blocks: dict[str, int] = field(default_factory=dict[str, int])
    _all: dict[int, _FanOut] = field(default_factory=dict[int, _FanOut])
    _members: dict[int, int] = field(default_factory=dict[int, int])
    _runs: dict[int, str] = field(default_factory=dict[int, str])

    def tell(self, history: Sequence[e.HistoryEvent]) -> None:
        """Hear what happened."""
        for event in effective(history):
            self._hear(event.body)

    def progress(self, ends: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        """Items that are done and that failed, and how many there are; empty where there is no fan-out.

        Parameters:
          ends: of the members in each block that is under way, how many are done and how many failed.
        """
        if not self._all:
            return {}
        for run_id, (done, failed) in ends.items():
            self._count(self.blocks[run_id], done, failed)
        every = self._all.values()
        return {
            "done": sum(each.items_done for each in every),
            "failed": sum(each.items_failed for each in every),
            "total": sum(each.items for each in every),
        }

    def _hear(self, body: e.EventBody) -> None:
        match body:
            case e.MarkerRecorded(kind=e.FAN_OUT_MARKER, value=value) if value is not None:
                about = from_json(value)
                self._all[body.seq] = _FanOut(about.get("items", 0), about.get("chunk", 1))
            case e.StepScheduled(group=int(group)):
                self._members[body.seq] = group
            case e.ChildStarted(group=int(group)):
                self._members[body.seq] = self.blocks[body.run_id] = group
                self._runs[body.seq] = body.run_id
            case e.StepCompleted() if body.seq in self._members:
                self._count(self._members[body.seq], 1, 0)
            case e.StepFailed() | e.StepTimedOut() if body.seq in self._members:
                self._count(self._members[body.seq], 0, 1)
            case e.ChildClosed() if body.seq in self._runs:
                self._close(body)
            case e.Cut():
                for seq, run_id in body.children:
                    self._go_on(seq, run_id)
            case _:
                pass

    def _close(self, body: e.ChildClosed) -> None:
        self.blocks.pop(self._runs[body.seq], None)
        if body.result is not None:
            said = from_json(body.result)
            failed = len(said.get("failed", ()))
            self._count(self._members[body.seq], len(said.get("results", ())) - failed, failed)

    def _go_on(self, seq: int, run_id: str) -> None:
        if seq in self._runs:
            self.blocks.pop(self._runs[seq], None)
            self._runs[seq] = run_id
            self.blocks[run_id] = self._members[seq]

    def _count(self, group: int, done: int, failed: int) -> None:
        fan_out = self._all.get(group)
        if fan_out is not None:
            fan_out.done += done
            fan_out.failed += failed


def items_of(history: Sequence[e.HistoryEvent], ended_steps: EndedSteps) -> dict[str, int]:
    """How many items of the run's fan-outs are done, failed, and are there; empty where there is none."""
    fan_outs = _FanOuts()
    fan_outs.tell(history)
    return fan_outs.progress(ended_steps(fan_outs.blocks) if fan_outs.blocks else {})


def steps_of(types: Iterable[str]) -> dict[str, int]:
    """How many steps were scheduled, and are completed."""
    counts = {"scheduled": 0, "completed": 0}
    for name in types:
        if name in ("step.scheduled", "step.completed"):
            counts[name.removeprefix("step.")] += 1
    return counts
