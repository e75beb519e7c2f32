"""What becomes of a step after its last attempt: it fails, or it is held for a person (``on_give_up="pause"``).

A held step stays open, without a next attempt, and its run is paused: siblings under way end and are recorded, the
code is told of nothing until no step is held any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from dramaturg_coordinator.core.run_state import OpenStep, RunState
from dramaturg_coordinator.core.states import RunPhase
from dramaturg_protocol import events as e
from dramaturg_protocol.definitions import EffectiveOptions

HELD = "held"


def give_up(
    state: RunState, step: OpenStep, end: e.StepFailed | e.StepTimedOut, options: EffectiveOptions
) -> Sequence[e.EventBody]:
    """How a step ends that is not tried again by itself.

    Parameters:
      end: its end, unless it is held.
    """
    if not options.is_held or state.only_awaits(step):
        return (end,)
    held = e.StepRetrying(step.seq, step.name, step.attempt, end.error, None, HELD)
    if state.phase is not RunPhase.OPEN:
        return (held,)
    times = step.attempt - step.first_attempt + 1
    reason = (
        f"step {step.name} #{step.seq} gave up after {times} attempt{'s' if times > 1 else ''}: "
        f"{end.error.type}: {end.error.message}"
    )
    return (held, e.RunPaused("", None, reason[:1000]))


def try_held_again(state: RunState, now: datetime) -> Sequence[e.EventBody]:
    """Give every held step all of its attempts again, from now on."""
    return tuple(try_again(step, now) for step in state.steps.values() if step.is_held)


def try_again(step: OpenStep, now: datetime) -> e.StepRetrying:
    """The attempt that waits is made now. It does not count: no attempt was made since."""
    error = step.error or e.ErrorInfo("", "")
    return e.StepRetrying(step.seq, step.name, step.attempt, error, now, "by hand", counts=False)


def go_on_without(
    state: RunState, step: OpenStep, message_id: str, by: str | None, reason: str | None
) -> Sequence[e.EventBody]:
    """The run goes on, where this was the last step that it was paused for."""
    is_last = step.is_held and not any(other.is_held for other in state.steps.values() if other is not step)
    if not is_last or not state.is_waiting_for_person:
        return ()
    return (e.RunResumed(message_id, by, reason or f"step {step.name} #{step.seq} was the last one that was held"),)
