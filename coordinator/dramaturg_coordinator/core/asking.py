"""What a run asks of people and of the world outside: `(state, answer) → events`, and the rows that wait for answers.

An approval and a hook are positions of the run like a step: each has one outcome, whichever comes first of an answer,
its time-out and the code that no longer waits. The state keeps the last of these outcomes, so that whoever comes late is
told what happened, however often they come, without a look into the history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from pydantic_core import to_json

from dramaturg_coordinator.core.refusal import Refusal
from dramaturg_coordinator.core.run_state import Answer, OpenApproval, OpenHook, RunState
from dramaturg_coordinator.core.states import next_asked_phase
from dramaturg_protocol import events as e
from dramaturg_protocol.errors import PayloadError
from dramaturg_protocol.messages import Request
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import WorkItem, WorkKind
from dramaturg_protocol.request_bodies import DecideBody, ResolveBody
from dramaturg_protocol.sealing import seal

KINDS = (WorkKind.APPROVAL, WorkKind.HOOK)

#: A state's size does not follow the length of its history.
_ANSWERS_KEPT = 1000


# The fold.


def approval_requested(state: RunState, body: e.ApprovalRequested, event: e.HistoryEvent) -> None:
    """It is open from now on."""
    next_asked_phase(body.seq in state.asked, body)
    state.asked[body.seq] = OpenApproval(
        body.seq, body.name, body.approvers, body.prompt, body.details, state.generation, event.time, body.due
    )


def hook_created(state: RunState, body: e.HookCreated, event: e.HistoryEvent) -> None:
    """It is open from now on."""
    next_asked_phase(body.seq in state.asked, body)
    time = None if body.due is None else body.due - event.time
    state.asked[body.seq] = OpenHook(body.seq, body.name, state.generation, event.time, body.due, time)


def settled(state: RunState, body: Answer, event: e.HistoryEvent) -> None:
    """It has its outcome."""
    next_asked_phase(body.seq in state.asked, body)
    asked = state.asked.pop(body.seq)
    state.answers[asked.generation, body.seq] = (body, event.time)
    if len(state.answers) > _ANSWERS_KEPT:
        del state.answers[next(iter(state.answers))]
    if isinstance(body, e.ApprovalDecided | e.HookResolved) and body.message_id is not None:
        state.messages.add(body.message_id)


# Answers.


def on_decide(state: RunState, request: Request, body: DecideBody, now: datetime) -> Sequence[e.EventBody]:
    """Somebody decides an approval: the one at a position, or the oldest open one of a name that is theirs to decide.

    Raises:
      Refusal: none is open, it is decided already, or it is not theirs to decide.
    """
    found = [each for each in state.asked.values() if isinstance(each, OpenApproval) and _is_meant(each, body)]
    if not found:
        raise _not_open(state, body)
    theirs = [each for each in found if not each.approvers or body.by in each.approvers]
    if not theirs:
        raise Refusal(
            f"{body.by!r} may not decide approval {found[0].name!r} of run {state.run_id}: it is for "
            f"{' or '.join(found[0].approvers)}",
            "NotAnApprover",
        )
    approval = min(theirs, key=lambda each: each.seq)
    return (
        e.ApprovalDecided(
            approval.seq,
            approval.name,
            body.approved,
            now,
            body.by,
            body.comment,
            message_id=request.message_id,
        ),
    )


def on_resolve(
    state: RunState, request: Request, body: ResolveBody, check: Callable[[int, Payload], None]
) -> Sequence[e.EventBody]:
    """Whoever has a hook's token uses it.

    Parameters:
      check: raises `PayloadError` where the code that waits does not take the payload.

    Raises:
      Refusal: it was used, expired, nobody waits for it any more, or the payload does not fit.
    """
    hook = state.asked.get(body.seq)
    if not isinstance(hook, OpenHook) or hook.generation != body.generation:
        raise _over(state, body)
    try:
        check(hook.seq, body.payload)
    except PayloadError as problem:
        raise Refusal(str(problem), "PayloadError") from None
    return (e.HookResolved(hook.seq, hook.name, body.payload, request.message_id),)


def on_due(state: RunState, item: WorkItem, now: datetime) -> Sequence[e.EventBody]:
    """The time of an approval or a hook is over; nothing where it is settled or not due yet."""
    asked = state.asked.get(item.seq)
    if asked is None or asked.due is None or asked.due > now:
        return ()
    if isinstance(asked, OpenHook):
        return (e.HookExpired(asked.seq, asked.name),)
    return (e.ApprovalDecided(asked.seq, asked.name, approved=False, at=now, timed_out=True),)


# Rows.


def work_of(state: RunState, asked: OpenApproval | OpenHook) -> WorkItem:
    """The row of open work of an approval or a hook. It begins with the time, by which lists put it in order."""
    parts = {"since": _json(e.moment_text(asked.since)), "name": _json(asked.name)}
    kind = WorkKind.HOOK
    if isinstance(asked, OpenApproval):
        kind = WorkKind.APPROVAL
        parts |= {"approvers": _json(asked.approvers), "prompt": seal(_json(asked.prompt))}
        parts |= {"details": seal(asked.details)} if asked.details is not None else {}
    text = "{" + ",".join(f'"{name}":{part}' for name, part in parts.items()) + "}"
    return WorkItem(state.run_id, asked.generation, asked.seq, state.partition, kind, asked.due, message=text)


def _json(value: object) -> str:
    return to_json(value).decode()


# What is not open.


def _is_meant(approval: OpenApproval, body: DecideBody) -> bool:
    if body.seq is not None:
        return (approval.generation, approval.seq) == (body.generation, body.seq)
    return approval.name == body.name


def _not_open(state: RunState, body: DecideBody) -> Refusal:
    for place, (end, _) in reversed(state.answers.items()):
        is_meant = place == (body.generation, body.seq) if body.seq is not None else end.name == body.name
        if is_meant and isinstance(end, e.ApprovalDecided):
            return Refusal(_decided_words(state, end), "AlreadyDecided")
        if is_meant and isinstance(end, e.ApprovalWithdrawn):
            words = f"approval {end.name!r} of run {state.run_id} was withdrawn: its code waits for it no longer"
            return Refusal(words, "NoOpenApproval")
    if state.is_closed:
        return Refusal(f"run {state.run_id} is {state.status}: it waits for no approval", "NoOpenApproval")
    names = [repr(each.name) for each in state.asked.values() if isinstance(each, OpenApproval)]
    what = f" {body.name!r}" if body.name else ""
    words = f"run {state.run_id} has no open approval{what}: open are {', '.join(names) or 'none'}"
    return Refusal(words, "NoOpenApproval")


def _decided_words(state: RunState, end: e.ApprovalDecided) -> str:
    how = "timed out" if end.timed_out else f"was {'approved' if end.approved else 'rejected'} by {end.by}"
    why = f": {end.comment}" if end.comment else ""
    return f"approval {end.name!r} of run {state.run_id} {how} at {e.moment_text(end.at)}{why}"


def _over(state: RunState, body: ResolveBody) -> Refusal:
    end, time = state.answers.get((body.generation, body.seq), (None, None))
    at = "" if time is None else e.moment_text(time)
    if isinstance(end, e.HookResolved):
        return Refusal(f"hook {end.name!r} of run {state.run_id} was resolved already, at {at}", "AlreadyResolved")
    if isinstance(end, e.HookExpired):
        return Refusal(f"hook {end.name!r} of run {state.run_id} expired at {at}", "TokenExpired")
    return Refusal(
        f"nobody waits for this hook of run {state.run_id} any more: the run is {state.status}", "TokenExpired"
    )
