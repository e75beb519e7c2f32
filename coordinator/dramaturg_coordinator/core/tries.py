"""A run that fails of its own is tried again, where its workflow has ``retries``.

    code raises ──► (what it did is undone) ──► run.retrying ──► its pause, a row of open work ──► run.retried
                                                                                         └─ a cut in the history

Where the error stems from steps, the next try is what a person's retry is: what succeeded stays, the steps that failed
are tried again with all of their attempts. An error of the code's own would come again from the same history, so the
code begins anew, at its first line, and nothing of what it did counts. A run that is cancelled, terminated or out of
time is not tried again, nor one whose steps could not be undone: that is for a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from dramaturg_coordinator.core import cuts
from dramaturg_coordinator.core.retry import GiveUp, decide_retry
from dramaturg_coordinator.core.run_state import NEXT_TRY_KEY, RunState
from dramaturg_protocol import events as e
from dramaturg_protocol.records import WorkItem, WorkKind
from dramaturg_protocol.retries import RetryPolicy


@dataclass(frozen=True, slots=True)
class Cause:
    """What a policy looks at in the error of a run.

    Attributes:
      names: qualified names of its type and of all its bases, and of the types of errors of steps that it stems from.
      retry_after: seconds that it asks for itself.
    """

    names: frozenset[str]
    is_fatal: bool = False
    retry_after: float | None = None


def after(
    state: RunState, end: e.RunFailed, cause: Cause | None, policy: RetryPolicy | None, now: datetime
) -> e.RunFailed | e.RunRetrying:
    """What becomes of a run whose code has failed, and whose steps are undone where they are to be."""
    if policy is None or cause is None or state.is_cancel_requested or state.undo_failures:
        return end
    decision = decide_retry(
        policy,
        attempts=state.tries + 1,
        error_names=cause.names,
        is_fatal=cause.is_fatal,
        retry_after=cause.retry_after,
        now=now,
        seed=f"{state.run_id}:try:{state.attempt}",
    )
    if not isinstance(decision, GiveUp):
        return e.RunRetrying(end.error, end.positions, state.attempt, decision.at)
    if not decision.problem:
        return end
    message = f"{end.error.message} (not tried again: {decision.problem})"
    return replace(end, error=replace(end.error, message=message))


def is_due(state: RunState, now: datetime) -> bool:
    """Whether a run's next try begins now."""
    return state.next_try is not None and not state.begins_nothing and state.next_try.retry_at <= now


def again(state: RunState, history: Sequence[e.HistoryEvent], now: datetime) -> e.RunRetried:
    """The next try of a run that failed, as its policy has it."""
    failed = state.next_try
    assert failed is not None
    request = e.Cut(f"{state.run_id}:try:{state.number}", 0, 0, reason=f"retries: {failed.error.type}")
    plan = cuts.retry_of if failed.positions else cuts.begin_anew
    return replace(plan(state, history, request, now), tries=state.tries + 1, deadline=state.deadline)


def work_of(state: RunState) -> WorkItem | None:
    """The row of open work for a run's next try."""
    if state.next_try is None:
        return None
    due = None if state.begins_nothing else state.next_try.retry_at
    return WorkItem(state.run_id, *NEXT_TRY_KEY, state.partition, WorkKind.NEXT_TRY, due)
