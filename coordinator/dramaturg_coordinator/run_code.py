"""The code of the run that a turn advances: begun, replayed from the history, or left to a coordinator that has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from dramaturg_coordinator.core.commands import Command
from dramaturg_coordinator.live import Builder, LiveRun
from dramaturg_coordinator.parking import Parking
from dramaturg_protocol import events as e
from dramaturg_protocol.payloads import Payload

ReadHistory: TypeAlias = Callable[[str], Sequence[e.HistoryEvent]]


class RunCode:
    """The code of one run, for one turn.

    Parameters:
      parking: whether a run is left to other code.
      read_history: the stored history of a run, for one whose code is needed and not in memory.
      recorded: what this turn appended to that history, as it grows.
    """

    def __init__(
        self,
        run: LiveRun,
        builder: Builder,
        parking: Parking,
        read_history: ReadHistory,
        recorded: Sequence[e.HistoryEvent],
    ) -> None:
        self._run = run
        self._builder = builder
        self._parking = parking
        self._read_history = read_history
        self._recorded = recorded

    def history(self) -> Sequence[e.HistoryEvent]:
        """The whole history, up to now."""
        stored = self._run.history
        if stored is None:
            stored = self._read_history(self._run.state.run_id)
        return (*stored, *self._recorded)

    def history_of(self, run_id: str) -> Sequence[e.HistoryEvent]:
        """The stored history of another run.

        Raises:
          ValueError: it cannot be read.
        """
        return self._read_history(run_id)

    def build(self) -> e.RunBlocked | None:
        """Have the code in memory, replayed up to here; or why it cannot be.

        Raises:
          Parked: the run is left to other code.
        """
        run = self._run
        if run.execution is None:
            self._parking.refuse_known(run.state.run_id)
            built = self.rebuild(self.history())
            if isinstance(built, e.RunBlocked):
                self._parking.refuse(built)
                return built
        return None

    def rebuild(self, history: Sequence[e.HistoryEvent]) -> Sequence[Command] | e.RunBlocked:
        """Replay a history: what the code asked for beyond it, or why it cannot be replayed."""
        built = self._builder.rebuild(self._run, history)
        if isinstance(built, e.RunBlocked):
            return built
        self._run.execution, self._run.history = built[0], None
        return built[1]

    def tell(self, event: e.HistoryEvent) -> Sequence[Command] | e.RunBlocked | None:
        """Hand an event to the code, which begins with the first one; ``None`` where there is none to be told.

        Raises:
          Parked: the run is left to other code.
        """
        run = self._run
        if run.execution is None and isinstance(event.body, e.RunStarted):
            begun = self._builder.begin(run.state, event)
            if isinstance(begun, e.RunBlocked):
                self._parking.refuse(begun)
                return begun
            run.execution = begun
        return None if run.execution is None else self._builder.tell(run.execution, event)

    def check(self, seq: int, payload: Payload) -> e.RunBlocked | None:
        """Have the code, where it is in memory, look at what it would be given at a position.

        Returns:
          Why the run is blocked, where the code does not come back.

        Raises:
          PayloadError: it does not take that.
        """
        execution = self._run.execution
        return None if execution is None else self._builder.check(execution, seq, payload)
