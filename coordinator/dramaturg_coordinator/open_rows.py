"""The rows of open work that one turn writes for one run, and what goes out with them.

A row is written for every position that the turn touched and that is open at its end; one that is settled by then is
deleted, or was never there.
"""

from __future__ import annotations

from datetime import datetime

from dramaturg_coordinator.core import asking, decide, tries
from dramaturg_coordinator.core.run_state import DEADLINE_KEY, NEXT_TRY_KEY, OpenStep
from dramaturg_coordinator.core.states import CLOSING, StepPhase
from dramaturg_coordinator.live import LiveRun
from dramaturg_coordinator.rules import Rules
from dramaturg_coordinator.run_limits import RunLimits
from dramaturg_protocol import events as e
from dramaturg_protocol.definitions import EffectiveOptions
from dramaturg_protocol.messages import StepReport, StepTask
from dramaturg_protocol.records import RunWrites, WorkItem, WorkKind
from dramaturg_protocol.signs import Sign

#: These say when the time of the run is over, or that it does not count any more.
_TIMED = (e.RunStarted, e.RunUnblocked, e.RunCancelRequested)
#: After these no attempt is open.
_ENDS_ALL = e.kinds_of(*CLOSING, e.RunRetrying)
#: These are about a position that has, or may have, a row.
_ABOUT_ROW = frozenset(body for body in e.TYPES.values() if "seq" in body.__dataclass_fields__) - e.kinds_of(
    e.MarkerRecorded, e.CancelSent, e.SignalSent
)


class OpenRows:
    """What becomes of a run's open work in one turn.

    Parameters:
      limits: lets attempts through.
      begins_local: whether local steps may begin here; the rows of those that may not wait for another coordinator.

    Attributes:
      publishes: what is sent after the commit.
      begins: local steps that begin after it.
    """

    def __init__(self, run: LiveRun, rules: Rules, limits: RunLimits, *, begins_local: bool = True) -> None:
        self._run = run
        self._rules = rules
        self._limits = limits
        self._begins_local = begins_local
        self._options: dict[int, EffectiveOptions] = {}
        self._touched: set[tuple[int, int]] = set()
        self._new: set[tuple[int, int]] = set()
        self._due_again: set[int] = set()
        self._to_send: set[int] = set()
        self._to_begin: list[int] = []
        self._holds_value = False
        self.publishes: list[WorkItem] = []
        self.begins: list[StepTask] = []

    def options_of(self, seq: int) -> EffectiveOptions:
        """What holds for an open step."""
        options = self._options.get(seq)
        if options is None:
            options = self._options[seq] = self._rules.options_of(self._run.state.steps[seq])
        return options

    def keeps_result_of(self, seq: int) -> bool:
        """Whether what an open step gives is kept for later calls."""
        return seq in self._run.state.steps and self.options_of(seq).cache is not None

    def sign_of(self, seq: int) -> Sign | None:
        """The latest that an open step said of itself."""
        if not self._run.signs:
            return None
        step = self._run.state.steps.get(seq)
        return None if step is None else self._run.signs.get((step.generation, seq))

    # What happens.

    def hear(self, step: OpenStep, report: StepReport, now: datetime) -> None:
        """Keep what a step says of itself."""
        if not report.beat and report.heartbeat is None and report.progress is None:
            return
        before = self.sign_of(step.seq)
        sign = decide.sign_after(step, report, before, now)
        if sign is not None and sign is not before:
            self._run.signs[step.generation, step.seq] = sign
            self._touched.add((step.generation, step.seq))

    def touch(self, body: e.EventBody) -> None:
        """This is about to happen to the run."""
        if isinstance(body, _TIMED):
            self._touch_deadline(body)
        kind = type(body)
        if kind in _ENDS_ALL:
            if kind is e.RunRetrying:
                self.touch_all()
                self._touched.add(NEXT_TRY_KEY)
                self._new.add(NEXT_TRY_KEY)
            self.note_limits()
        if kind not in _ABOUT_ROW:
            return
        seq: int = getattr(body, "seq", 0)
        state = self._run.state
        step = state.steps.get(seq)
        if step is not None:
            self._limits.note(step, self.options_of(seq))
        known = step or state.timers.get(seq) or state.children.get(seq) or state.asked.get(seq)
        self._touched.add((known.generation if known is not None else state.generation, seq))
        # The attempt that was due has gone on since.
        self._due_again.discard(seq)
        if known is not None:
            self._run.begun.discard((known.generation, seq))

    def _touch_deadline(self, body: e.RunStarted | e.RunUnblocked | e.RunCancelRequested) -> None:
        if isinstance(body, e.RunStarted) and body.timeout is not None:
            self._new.add(DEADLINE_KEY)
        if self._run.state.deadline is not None or getattr(body, "timeout", None) is not None:
            self._touched.add(DEADLINE_KEY)

    def note_limits(self) -> None:
        """Something is about to happen to all open steps."""
        self._limits.note_run()
        for seq, step in self._run.state.steps.items():
            self._limits.note(step, self.options_of(seq))

    def touch_tries(self) -> None:
        """Whether anything is tried again has changed; what has begun goes on as it is."""
        begun = self._run.begun | self._run.limited
        retrying = (step for step in self._run.state.steps.values() if step.phase is StepPhase.RETRYING)
        self._touched.update(key for step in retrying if (key := (step.generation, step.seq)) not in begun)
        if self._run.state.next_try is not None:
            self._touched.add(NEXT_TRY_KEY)

    def touch_all(self) -> None:
        """What holds for every open position has changed."""
        self._touched |= self._run.state.open_keys

    def asked(self, body: e.EventBody) -> None:
        """The code asked for this just now."""
        match body:
            case e.StepScheduled(seq=seq):
                self._new.add((self._run.state.generation, seq))
                self.begin(seq)
            case (
                e.TimerStarted(seq=seq)
                | e.RunQueued(seq=seq)
                | e.ChildStarted(seq=seq)
                | e.ApprovalRequested(seq=seq)
                | e.HookCreated(seq=seq)
            ):
                self._new.add((self._run.state.generation, seq))
            case e.MarkerRecorded(kind="side_effect" | "side_effect.failed"):
                self._holds_value = True
            case _:
                pass

    def cut(self, before: set[tuple[int, int]]) -> None:
        """The run goes on from an earlier point; these positions were open before that."""
        self._touched |= before | self._run.state.open_keys
        self._options.clear()
        self._run.begun.clear()

    def begin(self, seq: int) -> None:
        """Have a step begin: by a message after the commit, or here where it is local."""
        self._to_send.add(seq)
        options = self.options_of(seq)
        if self._begins_local and not self._holds_value and options.local and not options.limits:
            self._to_begin.append(seq)

    def begin_attempt(self, generation: int, seq: int) -> None:
        """Have an attempt begin that is recorded already."""
        self._touched.add((generation, seq))
        self._due_again.add(seq)
        self._run.begun.add((generation, seq))
        self.begin(seq)

    def is_begun_again(self, seq: int) -> bool:
        """Whether its attempt was made to begin in this very turn."""
        return seq in self._due_again

    def mend(self) -> None:
        """Write the rows of all that is open, and send again what may have been sent: that repeats nothing."""
        self.touch_all()
        self._run.begun.clear()
        for step in self._run.state.steps.values():
            if step.phase is not StepPhase.RETRYING and not step.is_left_open:
                self.begin_attempt(step.generation, step.seq)

    # What follows from it.

    def take_local(self) -> list[StepTask]:
        """The local steps that may begin before the commit.

        None after a side effect: the value that it gave is not to reach the world before it is recorded.
        """
        seqs, self._to_begin = self._to_begin, []
        open_now = [seq for seq in seqs if seq in self._run.state.steps]
        self._to_send.difference_update(open_now)
        return [self._task_of(seq) for seq in open_now]

    def leave(self) -> None:
        """Nothing that happened counts."""
        self._to_begin.clear()

    def write(self, writes: RunWrites) -> None:
        """Put the rows among what the turn commits."""
        for generation, seq in sorted(self._touched):
            item = self._row_of(seq) if generation else self._row_of_run((generation, seq))
            if item is not None and item.generation == generation:
                if seq in self._run.state.steps:
                    item = self._limits.admitted(item, self.options_of(seq), begins=seq in self._to_send)
                writes.work.append(item)
                self._send(item)
                continue
            self._run.signs.pop((generation, seq), None)
            if (generation, seq) not in self._new:
                writes.settled.append((generation, seq))
        self._limits.write()

    def _row_of_run(self, key: tuple[int, int]) -> WorkItem | None:
        row_of = decide.work_of_run if key == DEADLINE_KEY else tries.work_of
        return row_of(self._run.state)

    def _send(self, item: WorkItem) -> None:
        if item.seq not in self._to_send:
            return
        if item.kind is WorkKind.STEP:
            self.publishes.append(item)
        elif item.kind is WorkKind.LOCAL and self._begins_local:
            self.begins.append(self._task_of(item.seq))

    def _task_of(self, seq: int) -> StepTask:
        state = self._run.state
        return decide.task_of(state, state.steps[seq], self.options_of(seq), self.sign_of(seq), seal=self._seal_of(seq))

    def _seal_of(self, seq: int) -> str:
        state = self._run.state
        return self._rules.seal_of(state.run_id, state.steps[seq].generation, seq)

    def _row_of(self, seq: int) -> WorkItem | None:
        """The row of a position as it is now; ``None`` where it is settled."""
        state = self._run.state
        step = state.steps.get(seq)
        if step is not None:
            key = (step.generation, seq)
            has_begun = step.phase is StepPhase.RETRYING and key in self._run.begun
            is_sent = has_begun or seq in self._due_again or key in self._run.limited
            return decide.work_of_step(
                state, step, self.options_of(seq), self.sign_of(seq), is_sent=is_sent, seal=self._seal_of(seq)
            )
        if state.queued is not None and seq == state.queued.seq:
            return decide.work_of_place(state)
        if seq in state.children:
            return decide.work_of_child(state, seq)
        if seq in state.asked:
            return asking.work_of(state, state.asked[seq])
        return decide.work_of_timer(state, seq) if seq in state.timers else None
