"""A fork: a new run that begins with the recorded prefix of another one, and goes on from there by itself.

Its history is a copy of the other's, up to where a step was asked for, followed by a reset to that point under the new
run's own generation. Values that the code derives (`uuid4`, `random`) are those of the other run in what was copied,
and its own from there on; steps that were open there are run again, under the new run's idempotency keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from dramaturg_coordinator.core.cuts import reset_of
from dramaturg_coordinator.core.effective import effective
from dramaturg_coordinator.core.evolve import fold
from dramaturg_coordinator.core.refusal import Refusal
from dramaturg_protocol import events as e
from dramaturg_protocol.messages import Request
from dramaturg_protocol.request_bodies import ForkFrom, StartBody


def fork_of(
    source: Sequence[e.HistoryEvent], fork: ForkFrom, body: StartBody, request: Request, now: datetime
) -> Sequence[e.HistoryEvent]:
    """The history of a run that forks off another one.

    Parameters:
      source: all events of the other run.

    Raises:
      Refusal: it is not there, did not ask for that step, or waited for a call then that would reach it alone.
    """
    lines = effective(source)
    at = next((index for index, line in enumerate(lines) if _asks_for(line.body, fork.step)), 0)
    if not at:
        raise Refusal(f"run {fork.run_id} has no step {fork.step}: see dramaturg events {fork.run_id}", "NotFound")
    at = _before_own_hooks(lines, at, fork.run_id)
    begun = source[0].body
    assert isinstance(begun, e.RunStarted)
    first = replace(
        begun,
        message_id=request.message_id,
        workflow_id=body.workflow_id,
        tags=dict(body.tags),
        forked_from=fork.run_id,
        seeds=(*begun.seeds, (_generation_of(lines[:at]), fork.run_id)),
        by=fork.by,
        reason=fork.reason,
    )
    copied = [e.HistoryEvent(1, source[0].time, first), *source[1 : lines[at].number - 1]]
    asked = e.Cut(request.message_id, lines[at - 1].number, 0, by=fork.by, reason=fork.reason)
    reset = reset_of(fold(request.run_id, request.partition, copied), copied, asked, now, is_fork=True)
    return (*copied, e.HistoryEvent(len(copied) + 1, max(now, copied[-1].time), reset))


def _before_own_hooks(lines: Sequence[e.HistoryEvent], at: int, run_id: str) -> int:
    """Where the new run begins by itself: before the hooks that the code made on its way to the step.

    A hook's token leads to one run. The new run makes those anew, under tokens of its own.

    Raises:
      Refusal: a hook is open there that was made before.
    """
    open_seqs = fold("", 0, lines[:at]).asked.keys()
    told = max(index for index, line in enumerate(lines[:at]) if isinstance(line.body, e.WAKES))
    for index, line in enumerate(lines[:at]):
        if isinstance(line.body, e.HookCreated) and line.body.seq in open_seqs:
            if index > told:
                return index
            raise Refusal(
                f"run {run_id} waited for hook {line.body.name!r} there, whose token leads to that run alone: fork it "
                f"from a step before that hook"
            )
    return at


def _asks_for(body: e.EventBody, seq: int) -> bool:
    return isinstance(body, e.StepScheduled) and body.seq == seq


def _generation_of(lines: Sequence[e.HistoryEvent]) -> int:
    return max((line.body.generation for line in lines if isinstance(line.body, e.Cut)), default=1)
