"""A history that grows without end: at a fifth of what it may have the run says so, at the limit it is paused.

Rebuilding a run costs its history; one of many thousand events is a loop that should continue as new. Nothing is lost by
the pause: what arrives is recorded, and whoever resumes the run lets it go on for as many events again.
"""

from __future__ import annotations

from collections.abc import Iterator

from dramaturg_coordinator.core.run_state import RunState
from dramaturg_coordinator.core.states import RunPhase
from dramaturg_protocol import events as e

_ADVICE = "have its code end with continue_as_new(), or spread the work over children or fan_out()"


def due(state: RunState, before: int, limit: int) -> Iterator[e.EventBody]:
    """What follows where a turn made the history longer than it should be.

    Parameters:
      before: the number of the last event before the turn.
      limit: ``MAX_HISTORY``.
    """
    number = state.number
    if state.phase is not RunPhase.OPEN or state.is_ending or state.next_try is not None:
        return
    if before < limit // 5 <= number:
        yield e.Logged("WARNING", f"the history has {number} events; at {limit} the run is paused: {_ADVICE}")
    if before // limit < number // limit:
        words = f"its history has {number} events, and MAX_HISTORY is {limit}: {_ADVICE}; resumed it goes on for {limit} more"
        yield e.RunPaused(f"{state.run_id}:max_history:{number}", None, words)
