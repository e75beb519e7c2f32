"""Going on from an earlier point: where a retry or a reset cuts, and what stays open there.

Positions that stay keep their generation, and with it their idempotency key; an attempt number is never used twice, so
that a late report of an attempt that was cut is nobody's. Timers go on with the time that they had left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from dramaturg_coordinator.core.children import again_after
from dramaturg_coordinator.core.effective import effective, index_of
from dramaturg_coordinator.core.evolve import fold
from dramaturg_coordinator.core.refusal import Refusal
from dramaturg_coordinator.core.run_state import DELAY_SEQ, OpenHook, RunState
from dramaturg_coordinator.core.states import RunPhase
from dramaturg_protocol import events as e

CutT = TypeVar("CutT", e.RunRetried, e.RunReset)


def retry_of(
    state: RunState, history: Sequence[e.HistoryEvent], request: e.Cut, now: datetime, *, takes_stopped: bool = False
) -> e.RunRetried:
    """Where a failed run goes on: before the first final outcome that its error stems from.

    One that waits for its next try begins it now.
    One that timed out goes on where its code was cancelled, with a new time-out.
    An error of the workflow's own code cuts nothing but the end itself: the run goes on with the code of now. Where
    compensations were run, it goes on before the first of the steps that were undone: they are done anew. Signals and
    updates that came later stay.

    Parameters:
      request: who asks, and why.
      takes_stopped: one that was cancelled or terminated goes on too, where it was.

    Raises:
      Refusal: the run did not fail.
    """
    end = state.end or state.next_try
    retried = (e.RunFailed, e.RunTimedOut, *((e.RunCancelled, e.RunTerminated) if takes_stopped else ()))
    if end is None or not isinstance(end, (*retried, e.RunRetrying)):
        raise Refusal(
            f"the run is {state.status}: only a run that FAILED or TIMED_OUT can be retried; reset and fork take any"
        )
    lines = effective(history)
    at = min(_cause_of(end, lines), _first_undone(lines))
    before = fold(state.run_id, state.partition, lines[:at])
    open_seqs = before.steps.keys() | before.timers.keys() | before.children.keys() | before.asked.keys()
    kept = [line for line in lines[at:] if isinstance(line.body, e.MESSAGES) or _succeeded(line.body) in open_seqs]
    how = "closed" if state.is_closed else "open"
    cut = _cut(e.RunRetried, request, lines, at, kept, before, history, now, how)
    return replace(cut, attempt=state.attempt + 1)


def begin_anew(state: RunState, history: Sequence[e.HistoryEvent], request: e.Cut, now: datetime) -> e.RunRetried:
    """A run that failed begins at its first line, and a fork where it parted; nothing of what it did counts.

    What others said to it stays.
    """
    lines = effective(history)
    parted = (index for index, line in enumerate(lines) if _is_parting(line.body, state))
    at = next(parted, 0) + 1
    is_anew = at == 1
    # Which version it is was said there, where nobody knew it at the start.
    while isinstance(lines[at].body, e.RunBlocked | e.RunUnblocked):
        at += 1
    if is_anew and state.begins_at is not None:
        # What puts off its start did that for once.
        at = max(at, 1 + next((index for index, line in enumerate(lines) if line.body == e.TimerFired(DELAY_SEQ)), 0))
    before = fold(state.run_id, state.partition, lines[:at])
    cut = _cut(e.RunRetried, request, lines, at, _said(lines[at:]), before, history, now, "open")
    return replace(cut, attempt=state.attempt + 1, anew=is_anew)


def _is_parting(body: e.EventBody, state: RunState) -> bool:
    return isinstance(body, e.Cut) and state.started is not None and body.message_id == state.started.message_id


def reset_of(
    state: RunState, history: Sequence[e.HistoryEvent], request: e.Cut, now: datetime, *, is_fork: bool = False
) -> e.RunReset:
    """A run is set back to the event `request.keep`; what came after it is done again.

    Parameters:
      is_fork: what is set back is a copy of another run, whose children are not its own.
    What people and other runs said to it since stays: its code is told of that anew, at once.

    Raises:
      Refusal: there is no such event, or it was cut before.
    """
    if isinstance(state.end, e.RunContinued):
        raise Refusal(f"the run went on as run {state.end.run_id}: reset that one, or fork this one")
    lines = effective(history)
    try:
        at = index_of(lines, request.keep) + 1
    except ValueError:
        raise Refusal(
            f"the run has no event {request.keep} to go back to: see dramaturg events {state.run_id}"
        ) from None
    if _first_undone(lines) < at < _undoing_from(lines):
        raise Refusal(
            f"what was done before event {request.keep} was undone since: reset to an event before "
            f"{lines[_first_undone(lines)].number}, or retry"
        )
    before = fold(state.run_id, state.partition, lines[:at])
    how = "fork" if is_fork else "closed" if state.is_closed else "open"
    return _cut(e.RunReset, request, lines, at, _said(lines[at:]), before, history, now, how)


def _said(lines: Sequence[e.HistoryEvent]) -> Sequence[e.HistoryEvent]:
    """What people and other runs said."""
    return [line for line in lines if isinstance(line.body, e.MESSAGES)]


def _succeeded(body: e.EventBody) -> int | None:
    """The position whose success this is."""
    if isinstance(body, e.ChildClosed):
        return body.seq if body.status == RunPhase.COMPLETED else None
    return body.seq if isinstance(body, e.SUCCESSES) else None


def _failed(body: e.EventBody) -> int | None:
    """The position whose failure this is."""
    if isinstance(body, e.ChildClosed):
        return body.seq if body.status != RunPhase.COMPLETED else None
    return body.seq if isinstance(body, (*e.FAILURES, e.HookExpired)) else None


def _cause_of(end: e.EventBody, lines: Sequence[e.HistoryEvent]) -> int:
    """The place of the first event that led to this end."""
    for index, line in enumerate(lines):
        body = line.body
        if isinstance(end, e.RunTimedOut | e.RunCancelled):
            if isinstance(body, e.RunCancelRequested) and body.timed_out == isinstance(end, e.RunTimedOut):
                return index
        elif (isinstance(end, e.RunFailed | e.RunRetrying) and _failed(body) in end.positions) or isinstance(
            body, e.RunRetrying
        ):
            return index
    return len(lines) - 1


def _undoing_from(lines: Sequence[e.HistoryEvent]) -> int:
    """Where the code's end began to be undone; beyond the last line where it was not."""
    return next(
        (
            index
            for index, line in enumerate(lines)
            if isinstance(line.body, e.CompensationStarted) and line.body.why != e.COMPENSATION_ASKED
        ),
        len(lines),
    )


def _first_undone(lines: Sequence[e.HistoryEvent]) -> int:
    """Where the first of the steps was asked for that were undone; where undoing began if none was."""
    began = _undoing_from(lines)
    undone = {
        line.body.undoes
        for line in lines[began:]
        if isinstance(line.body, e.StepScheduled) and line.body.undoes is not None
    }
    asked = (
        index
        for index, line in enumerate(lines[:began])
        if isinstance(line.body, e.StepScheduled) and line.body.seq in undone
    )
    return next(asked, began)


def _cut(
    kind: type[CutT],
    request: e.Cut,
    lines: Sequence[e.HistoryEvent],
    at: int,
    kept: Sequence[e.HistoryEvent],
    before: RunState,
    history: Sequence[e.HistoryEvent],
    now: datetime,
    how: str,
) -> CutT:
    numbers = tuple(line.number for line in kept)
    settled = {getattr(line.body, "seq", 0) for line in kept}
    used = _attempts_used(history)
    stopped_at = lines[at].time if at < len(lines) else now
    generation = max(getattr(line.body, "generation", 1) for line in history) + 1
    again = again_after(before, lines[at:], settled, generation, is_retry=kind is e.RunRetried, how=how)
    return kind(
        message_id=request.message_id,
        keep=lines[at - 1].number,
        generation=generation,
        kept=numbers,
        again=tuple((seq, used[seq] + 1) for seq in before.steps if seq not in settled),
        timers=tuple(
            (seq, now + left) for seq, left in _times_left(before, lines, at, stopped_at) if seq not in settled
        ),
        children=tuple(again),
        messages=_messages(line for line in lines[at:] if line.number not in numbers),
        by=request.by,
        reason=request.reason,
        early=True,
    )


def _times_left(
    before: RunState, lines: Sequence[e.HistoryEvent], at: int, stopped_at: datetime
) -> Iterator[tuple[int, timedelta]]:
    """What is left to all that has a time; a hook that the run failed of, since it expired, has all of it again."""
    expired = lines[at].body if at < len(lines) else None
    for seq, each in (*before.timers.items(), *before.asked.items()):
        if isinstance(each, OpenHook) and isinstance(expired, e.HookExpired) and expired.seq == seq:
            yield seq, each.time or timedelta(0)
        elif each.due is not None:
            yield seq, max(each.due - stopped_at, timedelta(0))


def _attempts_used(history: Iterable[e.HistoryEvent]) -> dict[int, int]:
    """By position, the highest attempt that a worker may know of."""
    used: dict[int, int] = {}
    for line in history:
        body = line.body
        if isinstance(body, e.StepScheduled):
            number = 1
        elif isinstance(body, e.StepRetrying):
            number = body.attempt + body.counts
        elif isinstance(body, e.StepStarted | e.StepCompleted | e.StepFailed | e.StepTimedOut):
            number = body.attempt
        else:
            continue
        used[body.seq] = max(used.get(body.seq, 0), number)
    for line in history:
        if isinstance(line.body, e.Cut):
            for seq, attempt in line.body.again:
                used[seq] = max(used.get(seq, 0), attempt)
    return used


def _messages(lines: Iterable[e.HistoryEvent]) -> tuple[str, ...]:
    return tuple(found for line in lines if (found := getattr(line.body, "message_id", "")))
