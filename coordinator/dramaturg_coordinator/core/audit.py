"""Why a run will go on: every open run has a next cause. One that has none is a bug, and nobody else would notice.

A step in flight, a timer, an open approval or hook, a request that was not taken yet: each is a row. A run that waits for a person, a paused or a
blocked one, needs none. `gaps` holds what a history says against the rows that are there, after a turn was committed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dramaturg_coordinator.core.run_state import NEXT_TRY_KEY, OpenApproval, OpenHook, OpenStep, RunState
from dramaturg_coordinator.core.states import RunPhase, StepPhase
from dramaturg_protocol.records import WorkItem, WorkKind


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that was to happen to a run, and that nothing will bring about.

    Attributes:
      seq: position of the step or timer; 0 for the run as a whole.
      problem: in words.
    """

    seq: int
    problem: str


def gaps(state: RunState, work: Collection[WorkItem], *, has_requests: bool, is_waiting: bool = False) -> list[Gap]:
    """What is missing for a run to go on; empty where it has its next cause.

    Parameters:
      state: what the stored history of the run says.
      work: its rows of open work.
      has_requests: whether the inbox holds anything for it.
      is_waiting: whether its code waits for somebody: a signal, an update, a condition that one of these may change.
    """
    rows = {(item.generation, item.seq): item for item in work}
    if state.is_closed:
        return [Gap(item.seq, f"a row of open work of kind {item.kind} outlived the run") for item in work]
    if state.phase is RunPhase.NEW:
        return [] if has_requests else [Gap(0, "it has not begun, and no start waits in the inbox")]
    found = [_gap_of_step(step, rows.get((step.generation, step.seq)), state) for step in state.steps.values()]
    found += [_gap_of_timer(timer.seq, rows.get((timer.generation, timer.seq))) for timer in state.timers.values()]
    found += [_gap_of_child(seq, rows.get((each.generation, seq))) for seq, each in state.children.items()]
    found += [_gap_of_asked(asked, rows.get((asked.generation, asked.seq))) for asked in state.asked.values()]
    found += [
        Gap(item.seq, f"a row of open work of kind {item.kind} stands for nothing that is open")
        for key, item in rows.items()
        if key not in state.open_keys
    ]
    if state.queued is not None and (state.queued.generation, state.queued.seq) not in rows:
        found.append(Gap(state.queued.seq, "it waits for its place and has no row of open work"))
    if state.next_try is not None and NEXT_TRY_KEY not in rows:
        found.append(Gap(0, "it waits for its next try and has no row of open work: that never begins"))
    problems = [gap for gap in found if gap is not None]
    if state.phase is RunPhase.OPEN and not state.open_keys and not has_requests and not is_waiting:
        problems.append(Gap(0, "its code waits, and nothing is under way that could wake it"))
    return problems


def _gap_of_step(step: OpenStep, row: WorkItem | None, state: RunState) -> Gap | None:
    if row is None:
        return Gap(step.seq, f"step {step.name!r} is open and has no row of open work: nobody sends it again")
    if row.kind is WorkKind.TIMER:
        return Gap(step.seq, f"step {step.name!r} has the row of a timer")
    if row.attempt != step.attempt:
        return Gap(step.seq, f"step {step.name!r} is at attempt {step.attempt}, and its row at attempt {row.attempt}")
    is_to_be_sent = row.kind is WorkKind.RETRY
    if is_to_be_sent and step.phase is not StepPhase.RETRYING:
        return Gap(step.seq, f"step {step.name!r} is {step.phase}, and its row waits for its next attempt")
    if is_to_be_sent and row.due is None and not (state.begins_nothing or step.is_held):
        return Gap(step.seq, f"the next attempt of step {step.name!r} has no time at which it is due")
    return None


def _gap_of_timer(seq: int, row: WorkItem | None) -> Gap | None:
    if row is None:
        return Gap(seq, "a timer runs and has no row of open work: it never fires")
    return None if row.kind is WorkKind.TIMER and row.due is not None else Gap(seq, "the row of a timer cannot fire")


def _gap_of_child(seq: int, row: WorkItem | None) -> Gap | None:
    if row is None:
        return Gap(seq, "a child is open and has no row of open work: nobody would see that it has ended")
    return None if row.kind is WorkKind.CHILD else Gap(seq, f"a child has a row of kind {row.kind}")


def _gap_of_asked(asked: OpenApproval | OpenHook, row: WorkItem | None) -> Gap | None:
    is_approval = isinstance(asked, OpenApproval)
    what = f"{'approval' if is_approval else 'hook'} {asked.name!r}"
    if row is None:
        return Gap(asked.seq, f"{what} is open and has no row of open work: no list shows it, and it never times out")
    if row.kind is not (WorkKind.APPROVAL if is_approval else WorkKind.HOOK) or row.due != asked.due:
        return Gap(asked.seq, f"{what} is due {asked.due}, and its row is of kind {row.kind}, due {row.due}")
    return None
