"""Replay: the stored history is told to the code again, and the code must ask for the same again.

`replay` folds a history with `evolve`, the function that a live turn uses, and hands the same events to the code. What
the code asks for is held against the events that recorded it. The first difference ends the replay with a `Mismatch`:
the run is `BLOCKED`, nothing is half-advanced.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dramaturg_coordinator.core.commands import Command, SameCall, describe, is_same
from dramaturg_coordinator.core.effective import effective
from dramaturg_coordinator.core.evolve import evolve, is_void
from dramaturg_coordinator.core.onward import Onward
from dramaturg_coordinator.core.run_state import RunState
from dramaturg_protocol import events as e

#: How many lines before and after the first difference are shown.
CONTEXT = 3


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Where the code and its history part.

    Attributes:
      event: number of the first event that does not fit.
      expected: what that event says.
      recorded: what the history says around there, a line each.
      actual: what the code asks for instead, a line each.
      line: file and line of the workflow's code; empty where the code did not ask for anything.
    """

    event: int
    expected: str
    recorded: tuple[str, ...]
    actual: tuple[str, ...]
    line: str

    def as_event(self, where: str) -> e.RunBlocked:
        """The event that blocks the run.

        Parameters:
          where: file and line at which the code stands, for when it asked for nothing.
        """
        line = self.line or where
        actual = self.actual[0] if self.actual else "nothing more"
        return e.RunBlocked(
            reason="nondeterminism",
            message=(
                f"the code no longer fits the history: event {self.event} recorded «{self.expected}», "
                f"now the code asks for «{actual}» ({line}). Put the code back, give the change a patched() or a "
                f"version of its own, or make it ask for the same again; the run goes on by itself then"
            ),
            event=self.event,
            recorded=self.recorded,
            actual=self.actual,
            line=line,
        )


def replay(
    state: RunState,
    history: Sequence[e.HistoryEvent],
    tell: Callable[[e.HistoryEvent, Onward | None], Sequence[Command]],
    same_call: SameCall,
) -> Sequence[Command] | Mismatch:
    """Tell the code a history.

    Parameters:
      state: a new state; it is folded along.
      tell: hands one event to the code and gives what it asked for in consequence. With it goes where the code is to go
        on in another way than it did; ``None`` where it does not.

    Returns:
      What the code asked for and the history does not hold yet: only where it was interrupted after it was woken, and
      where the run was just retried or reset. Otherwise a difference is a `Mismatch`.
    """
    asked: deque[Command] = deque()
    history = effective(history)
    parted = max((index for index, event in enumerate(history) if _is_told_early(event.body)), default=-1)
    for index, event in enumerate(history):
        _skip_void(state, asked)
        # One that waits for its next try is ended without its code.
        if isinstance(event.body, e.COMMANDS) and state.next_try is None:
            if not asked or not is_same(event.body, asked[0].body, same_call):
                return _mismatch(history, index, asked)
            asked.popleft()
        told = evolve(state, event)
        is_told_late = isinstance(event.body, e.RESUMES) or event.number in state.kept
        if told and asked and not is_told_late:
            return _mismatch(history, index, asked)
        onward = Onward(history, index, same_call) if told and index < parted else None
        for each in told:
            if onward is not None:
                onward.is_last = each is told[-1]
            asked.extend(tell(each, onward))
    _skip_void(state, asked)
    is_open_ended = _ends_with_cut(state, history) or (state.blocked is not None and state.blocked.unrecorded)
    if asked and not is_open_ended:
        return _mismatch(history, len(history), asked)
    return tuple(asked)


def unrecorded_from(history: Sequence[e.HistoryEvent]) -> int | None:
    """The number of the event from which on what the code does in reply is not in the history yet."""
    last: int | None = None
    blocked: e.RunBlocked | None = None
    kept: tuple[int, ...] = ()
    is_cut = has_logged = False
    for event in effective(history):
        if isinstance(event.body, e.Cut):
            # What the code did in reply to the event that stays may be cut: it does that anew.
            last = event.number if last is None or has_logged else last
            blocked, kept, is_cut = None, event.body.kept, True
        elif event.number in kept:
            continue
        elif isinstance(event.body, e.RunBlocked):
            blocked = event.body
        elif isinstance(event.body, e.RunUnblocked):
            blocked = None
        elif isinstance(event.body, e.COMMANDS):
            last, is_cut = None, False
        elif isinstance(event.body, e.Logged):
            has_logged = True
        elif isinstance(event.body, e.WAKES) and blocked is None:
            last, has_logged = event.number, False
    return last if is_cut or (blocked is not None and blocked.unrecorded) else None


def _is_told_early(body: e.EventBody) -> bool:
    return isinstance(body, e.Cut) and body.early


def _ends_with_cut(state: RunState, history: Sequence[e.HistoryEvent]) -> bool:
    return bool(history) and (isinstance(history[-1].body, e.Cut) or history[-1].number in state.kept)


def _skip_void(state: RunState, asked: deque[Command]) -> None:
    while asked and is_void(state, asked[0].body):
        asked.popleft()


def _mismatch(history: Sequence[e.HistoryEvent], index: int, asked: deque[Command]) -> Mismatch:
    number = history[index].number if index < len(history) else len(history) + 1
    around = history[max(index - CONTEXT, 0) : index + CONTEXT + 1]
    return Mismatch(
        event=number,
        expected=describe(history[index].body) if index < len(history) else "nothing more",
        recorded=tuple(f"{event.number}: {describe(event.body)}" for event in around),
        actual=tuple(describe(command.body) for command in list(asked)[: CONTEXT + 1]),
        line=asked[0].line if asked else "",
    )
