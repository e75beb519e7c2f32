"""What a person asks of a run: to pause, to go on, to take a step into their hands. `(state, request) → events`.

A request counts once: its id is kept in its event. One that does not fit the run as it is raises `Refusal`, which its
sender is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from dramaturg_coordinator.core.giving_up import go_on_without, try_again, try_held_again
from dramaturg_coordinator.core.refusal import Refusal
from dramaturg_coordinator.core.run_state import RunState
from dramaturg_coordinator.core.states import RunPhase, StepPhase
from dramaturg_protocol import events as e
from dramaturg_protocol.messages import Request
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.request_bodies import ControlBody, SettleBody, SettleVerb


def on_pause(state: RunState, request: Request, body: ControlBody) -> Sequence[e.EventBody]:
    """Begin nothing more of the run until it is resumed.

    Raises:
      Refusal: it is closed, blocked or paused already.
    """
    if state.phase is not RunPhase.OPEN:
        raise Refusal(f"the run is {state.status}: only one that is under way can be paused")
    return (e.RunPaused(request.message_id, body.by, body.reason),)


def on_resume(state: RunState, request: Request, body: ControlBody, now: datetime) -> Sequence[e.EventBody]:
    """Go on with a paused run; steps that were held are tried again.

    Raises:
      Refusal: it is not paused.
    """
    if state.status != RunPhase.PAUSED:
        raise Refusal(f"the run is {state.status}, not PAUSED")
    again = try_held_again(state, now)
    if state.phase is not RunPhase.PAUSED:
        return again
    return (*again, e.RunResumed(request.message_id, body.by, body.reason))


def on_settle(state: RunState, request: Request, body: SettleBody, now: datetime) -> Sequence[e.EventBody]:
    """A person has a step tried again now, or says what came of it.

    Raises:
      Refusal: there is no such step that is open; or it does not wait, so that it cannot be tried now.
    """
    step = state.steps.get(body.seq)
    if body.generation is not None and (step is None or step.generation != body.generation):
        raise Refusal(f"step {body.seq} is over, and its token with it: the run is {state.status}", "TokenExpired")
    if step is None:
        raise Refusal(f"step {body.seq} is not open: open are {_open_steps(state)}")
    settled = e.StepSettled(
        step.seq, step.name, step.attempt, request.message_id, body.verb.value, body.by, body.reason
    )
    goes_on = go_on_without(state, step, request.message_id, body.by, body.reason)
    worker = f"by {body.by}" if body.by else ""
    match body.verb:
        case SettleVerb.RETRY_NOW:
            if step.phase is not StepPhase.RETRYING:
                raise Refusal(f"step {step.name} #{step.seq} is {step.phase}: it does not wait for another try")
            return (settled, try_again(step, now), *goes_on)
        case SettleVerb.COMPLETE:
            value = body.value if body.value is not None else Payload("null")
            return (settled, e.StepCompleted(step.seq, step.name, step.attempt, value, worker), *goes_on)
        case SettleVerb.FAIL:
            error = e.ErrorInfo("Settled", body.message or "failed by hand")
            return (settled, e.StepFailed(step.seq, step.name, step.attempt, error, worker), *goes_on)


def _open_steps(state: RunState) -> str:
    return ", ".join(f"{step.name} #{step.seq}" for step in state.steps.values()) or "none"
