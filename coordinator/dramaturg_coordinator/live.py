"""Runs in memory: state and code of each, rebuilt from history when needed, dropped without a trace when not.

A run is rebuilt by `replay`; there is no other way to have one. It is dropped when memory asks for it, when a turn's
transaction failed (the store alone knows then what is true), or after every turn where the tests want that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from dramaturg_coordinator.core.commands import Command
from dramaturg_coordinator.core.effective import effective
from dramaturg_coordinator.core.evolve import fold
from dramaturg_coordinator.core.onward import Onward
from dramaturg_coordinator.core.replay import Mismatch, replay, unrecorded_from
from dramaturg_coordinator.core.run_state import OpenStep, RunState
from dramaturg_coordinator.core.states import StepPhase
from dramaturg_coordinator.execution import Execution
from dramaturg_coordinator.quarantine import Quarantine
from dramaturg_coordinator.rules import Rules
from dramaturg_coordinator.watchdog import Watchdog
from dramaturg_protocol import events as e
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.signs import Sign, decode_sign


class LiveRun:
    """One run in memory.

    Attributes:
      history: as it was stored when the run was loaded, until the code is built from it or something is recorded after it;
        ``None`` where it must be read again.
      execution: the code; ``None`` before it is needed, and while it cannot be run.
      signs: the latest that its open steps said of themselves, by generation and position.
      waits: what its code waited for besides open work, when it was in memory last.
      limited: its open steps that wait for a limit, by generation and position.
      begun: those whose next attempt has begun, or waits for room, although the history still says RETRYING.
    """

    __slots__ = ("begun", "execution", "history", "limited", "signs", "state", "waits")

    def __init__(
        self,
        state: RunState,
        history: Sequence[e.HistoryEvent] | None,
        signs: dict[tuple[int, int], Sign] | None = None,
        waits: str | None = None,
        limited: Collection[tuple[int, int]] = (),
        sent: Collection[tuple[int, int]] = (),
    ) -> None:
        self.waits = waits
        self.state = state
        self.history = history
        self.signs = signs if signs is not None else {}
        self.limited = set(limited)
        retrying = ((step.generation, seq) for seq, step in state.steps.items() if step.phase is StepPhase.RETRYING)
        self.begun = {key for key in retrying if key in sent}
        self.execution: Execution | None = None

    def has_begun(self, step: OpenStep) -> bool:
        """Whether the next attempt of a step was sent, although the history still says that it is tried again."""
        return (step.generation, step.seq) in self.begun

    def drop_code(self) -> None:
        """Forget the code without a trace."""
        if self.execution is not None:
            self.execution.drop()
            self.execution = None


class Builder:
    """Builds the code of runs: begins it, or replays it."""

    def __init__(self, rules: Rules, watchdog: Watchdog, quarantine: Quarantine | None = None) -> None:
        self._rules = rules
        self._watchdog = watchdog
        self._quarantine = quarantine or Quarantine(None)

    def deadly(self, run_id: str) -> e.RunBlocked | None:
        """Why neither code nor local steps of a run may be run here; ``None`` where they may."""
        return self._quarantine.of(run_id)

    def begin(self, state: RunState, event: e.HistoryEvent) -> Execution | e.RunBlocked:
        """The code of a run that begins, told nothing yet; or why there is none."""
        return self._new(state, (event,))

    def _new(self, state: RunState, history: Sequence[e.HistoryEvent]) -> Execution | e.RunBlocked:
        deadly = self._quarantine.of(state.run_id)
        if deadly is not None:
            return deadly
        started = history[0].body
        assert isinstance(started, e.RunStarted)
        definition = self._rules.registry.workflow(started.workflow, state.version or None)
        if definition is None:
            return unknown_workflow(started, state.version)
        return Execution(
            state.run_id,
            definition,
            history,
            max_payload=self._rules.max_payload,
            default_queue=self._rules.default_queue,
            history_log_level=self._rules.history_log_level,
            watch=self._watchdog.watch,
            steps=self._rules.registry.steps,
            secret=self._rules.secret,
            public_url=self._rules.public_url,
        )

    def tell(self, execution: Execution, event: e.HistoryEvent) -> list[Command] | e.RunBlocked:
        """Hand an event to the code; what it asked for, or why the run is blocked."""
        loop = execution.scope.loop
        commands: list[Command] = []
        with self._watchdog.watch(loop):
            commands = execution.tell(event)
        return self._stuck(execution) if loop.is_interrupted else commands

    def call(self, execution: Execution, call: Callable[[], Payload | None]) -> Payload | None:
        """Call a function of the code's that may only look.

        Raises:
          TimeoutError: it does not come back.
          Exception: what it raises.
        """
        loop = execution.scope.loop
        outcome: list[Payload | None] = []
        with self._watchdog.watch(loop):
            outcome.append(loop.call(call))
        if loop.is_interrupted or not outcome:
            raise TimeoutError(f"it ran for more than {self._rules.code_limit:g} s and was interrupted")
        return outcome[0]

    def check(self, execution: Execution, seq: int, payload: Payload) -> e.RunBlocked | None:
        """Have the code look at what it would be given at a position; why the run is blocked, where it gets stuck.

        Raises:
          PayloadError: it does not take that.
        """
        loop = execution.scope.loop
        with self._watchdog.watch(loop):
            execution.scope.asking.check(seq, payload)
        return self._stuck(execution) if loop.is_interrupted else None

    def rebuild(
        self, run: LiveRun, history: Sequence[e.HistoryEvent]
    ) -> tuple[Execution, Sequence[Command]] | e.RunBlocked:
        """Replay a history: the code as it stands now with what it asked for beyond it, or why it cannot."""
        history = effective(history)
        execution = self._new(run.state, history)
        if isinstance(execution, e.RunBlocked):
            return execution
        state = RunState(run.state.run_id, run.state.partition)
        scope = execution.scope
        new_from = unrecorded_from(history)

        scope.is_replaying = True

        def tell(event: e.HistoryEvent, onward: Onward | None) -> Sequence[Command]:
            if event.number == new_from:
                scope.is_replaying = False
            return execution.tell(event, onward)

        outcome: Sequence[Command] | Mismatch = ()
        with self._watchdog.watch(scope.loop):
            outcome = replay(state, history, tell, self._rules.same_call)
        scope.is_replaying = False
        if not scope.loop.is_interrupted and not isinstance(outcome, Mismatch):
            return execution, outcome
        blocked = self._stuck(execution) if scope.loop.is_interrupted else None
        if isinstance(outcome, Mismatch) and blocked is None:
            blocked = outcome.as_event(execution.where())
        execution.drop()
        assert blocked is not None
        return blocked

    def _stuck(self, execution: Execution) -> e.RunBlocked:
        return e.RunBlocked(
            reason="stuck",
            message=(
                f"the workflow's code ran for more than {self._rules.code_limit:g} s without awaiting and was "
                f"interrupted: put the work into a step; the run goes on when the code is mended. "
                f"It was here:\n{self._watchdog.stack[-4096:]}"
            ),
            line=execution.where(),
        )


def unknown_workflow(started: e.RunStarted, version: int) -> e.RunBlocked:
    """Why a run is blocked whose workflow nobody registered."""
    what = f"workflow {started.workflow!r}" + (f", version {version}," if version else "")
    return e.RunBlocked(
        reason="unknown_workflow",
        message=f"{what} is not registered in this coordinator: start it with the module that defines it",
    )


class LiveRuns:
    """The runs in memory, the least recently used first.

    Parameters:
      limit: how many stay in memory after a turn.
    """

    def __init__(self, limit: int = 2000) -> None:
        self._limit = limit
        self._runs: OrderedDict[str, LiveRun] = OrderedDict()

    def get(self, run_id: str) -> LiveRun | None:
        """A run, if it is in memory."""
        run = self._runs.get(run_id)
        if run is not None:
            self._runs.move_to_end(run_id)
        return run

    def add(
        self,
        run_id: str,
        partition: int,
        history: Sequence[e.HistoryEvent],
        signs: Mapping[tuple[int, int], str] | None = None,
        waits: str | None = None,
        limited: Collection[tuple[int, int]] = (),
        sent: Collection[tuple[int, int]] = (),
    ) -> LiveRun:
        """Take a run into memory, from its history and what its steps and its code said of themselves."""
        read = {key: decode_sign(text) for key, text in (signs or {}).items()}
        run = self._runs[run_id] = LiveRun(fold(run_id, partition, history), history, read, waits, limited, sent)
        return run

    def drop(self, run_ids: Iterable[str]) -> None:
        """Forget runs."""
        for run_id in run_ids:
            run = self._runs.pop(run_id, None)
            if run is not None:
                run.drop_code()

    def drop_in(self, partitions: Collection[int]) -> None:
        """Forget the runs of some partitions."""
        self.drop([run_id for run_id, run in self._runs.items() if run.state.partition in partitions])

    def drop_all(self) -> None:
        """Forget every run."""
        self.drop(list(self._runs))

    def shrink(self) -> None:
        """Forget the least recently used ones beyond the limit."""
        excess = len(self._runs) - self._limit
        if excess > 0:
            self.drop([run_id for run_id, _ in zip(self._runs, range(excess), strict=False)])

    def __len__(self) -> int:
        return len(self._runs)
