"""The books of a simulated world: what is committed, folded again by whoever watches, and who was told what.

They are kept from the stored text, not from what a coordinator believes, with the functions of the core.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TypeAlias

from dramaturg.testing.simulation import happenings as h
from dramaturg.testing.simulation.talk_books import TalkBooks
from dramaturg_coordinator.core.effective import effective
from dramaturg_coordinator.core.evolve import evolve, fold
from dramaturg_coordinator.core.run_state import OpenStep, RunState
from dramaturg_coordinator.core.states import RunPhase
from dramaturg_coordinator.live import Builder
from dramaturg_protocol import events as e
from dramaturg_protocol.definitions import EffectiveOptions
from dramaturg_protocol.errors import InternalError
from dramaturg_protocol.event_codec import decode_body
from dramaturg_protocol.limits import Ticket
from dramaturg_protocol.messages import RequestKind, encode_message
from dramaturg_protocol.records import Lease, WorkKind
from dramaturg_protocol.schedule_records import SCHEDULE_TAG, ScheduleRecord
from dramaturg_store.memory import Tables

Position: TypeAlias = tuple[str, int, int]

OUTCOMES = (
    e.StepCompleted,
    e.StepFailed,
    e.StepTimedOut,
    e.StepCancelled,
    e.TimerFired,
    e.TimerCancelled,
    e.ApprovalDecided,
    e.ApprovalWithdrawn,
    e.HookResolved,
    e.HookExpired,
    e.HookWithdrawn,
)

#: An update that was answered before is answered from the history.
_OF_THE_PAST = (RequestKind.RETRY, RequestKind.RESET, RequestKind.RESUME, RequestKind.UPDATE)


class Books:
    """What a watcher knows.

    Parameters:
      options_of: what holds for an open step.
      builder: replays the runs that a commit touched; ``None`` leaves that out.
      forgets_often: coordinators drop their runs after every turn.

    Attributes:
      states: of all runs, folded from what is stored.
      histories: the stored events, decoded.
      new: events that came with the last commit, by run.
      broken: what the fold refused.
      outcomes: how each position ended.
      generations: those that a run had before the last commit.
      undone: positions of steps, and by which step each is or was undone.
      succeeded: positions of steps whose success is recorded.
      counted: where each request's message id is recorded.
      due: when a timer may fire, or an attempt (the last number) may be published, not before.
      committed: texts of step messages that were committed as sent.
      entered: texts of step messages that came into the broker.
      reported: ids of attempts whose end a worker reported.
      owed: texts that a coordinator committed and did not publish yet, by process.
      leases: of each process, as the database gave it.
      epochs: the highest that was given, by partition.
      announced: the highest that the broker must know, by partition.
      loaded: runs that a process read, and need not read again.
      foreign: bodies of dead letters that are to be expected.
      schedules: as they stood before the last decision.
      grants: when a limit's id let an execution through.
      ended: runs that were closed at some time.
      talk: what was said to runs.
    """

    def __init__(
        self,
        tables: Tables,
        now: Callable[[], datetime],
        *,
        options_of: Callable[[OpenStep], EffectiveOptions],
        builder: Builder | None,
        forgets_often: bool,
    ) -> None:
        self.tables = tables
        self.now = now
        self.options_of = options_of
        self.builder = builder
        self.forgets_often = forgets_often
        self.states: dict[str, RunState] = {}
        self.histories: dict[str, list[e.HistoryEvent]] = defaultdict(list)
        self.new: dict[str, list[e.HistoryEvent]] = {}
        self.broken: list[str] = []
        self.outcomes: dict[Position, str] = {}
        self.undone: set[tuple[Position, str]] = set()
        self.generations: dict[str, set[int]] = defaultdict(lambda: {1})
        self._cut_out: set[tuple[str, int]] = set()
        self._generations: dict[tuple[str, int], int] = {}
        self.succeeded: set[Position] = set()
        self.counted: dict[str, str] = {}
        self.due: dict[tuple[str, int, int, int], datetime] = {}
        self.committed: set[str] = set()
        self.entered: set[str] = set()
        self.reported: set[str] = set()
        self.owed: dict[str, set[str]] = defaultdict(set)
        self.leases: dict[str, Lease] = {}
        self.epochs: dict[int, int] = {}
        self.announced: dict[int, int] = {}
        self.loaded: dict[str, set[str]] = defaultdict(set)
        self.foreign: set[str] = set()
        self.schedules: dict[str, ScheduleRecord] = {}
        self.grants: dict[str, dict[Ticket, datetime]] = defaultdict(dict)
        self.ended: set[str] = set()
        self.talk = TalkBooks(tables)

    def state(self, run_id: str) -> RunState:
        """What the stored history of a run says."""
        known = self.states.get(run_id)
        if known is None:
            record = self.tables.runs.get(run_id)
            known = self.states[run_id] = RunState(run_id, record.partition if record else 0)
        return known

    def is_owner(self, process: str) -> bool:
        """Whether a process owns anything, and does not only believe so: it was frozen, and others went on."""
        return process in self.tables.leases.owners.values()

    def is_asked_for_its_past(self, run_id: str) -> bool:
        """Whether somebody wants something of a run that only its whole history can answer, or its next try does."""
        if self.state(run_id).next_try is not None:
            return True
        return any(request.run_id == run_id and request.kind in _OF_THE_PAST for request in self.tables.inbox.values())

    @property
    def children(self) -> set[str]:
        """Runs that other runs have started."""
        return {
            run_id
            for run_id, state in self.states.items()
            if state.started is not None and state.started.parent is not None
        }

    @property
    def scheduled(self) -> dict[str, str]:
        """Runs that schedules have started, and which."""
        tags = {run_id: state.started.tags for run_id, state in self.states.items() if state.started is not None}
        return {run_id: str(each[SCHEDULE_TAG]) for run_id, each in tags.items() if SCHEDULE_TAG in each}

    def position_of(self, run_id: str, event: e.HistoryEvent) -> Position:
        """What an event of a step or timer is about; what was open at a retry keeps its generation."""
        return run_id, self._generations[run_id, event.number], getattr(event.body, "seq", 0)

    def note(self, happening: h.Happening) -> None:
        """Write down what happened, before anybody judges it; `settle` follows."""
        self.new = {}
        self.talk.read()
        match happening:
            case h.Acquired():
                self.leases[happening.process] = happening.lease
                self.epochs.update(happening.lease.epochs)
            case h.Committed():
                self._read_new_events(happening)
                self._read_grants(happening)
            case _:
                pass

    def settle(self, happening: h.Happening) -> None:
        """Write down what follows from it, after it was judged."""
        match happening:
            case h.Committed():
                self._settle_commit(happening)
            case h.Decided():
                self.schedules.update((fired.record.id, fired.record) for fired in happening.fired)
            case h.Published():
                self.owed[happening.process] -= {item.message for item in happening.work if item.message}
                self._announce(happening.lease)
            case h.Entered():
                self.entered.add(encode_message(happening.task))
            case h.Reported():
                self.reported.add(happening.task.message_id)
            case h.Loaded():
                # What a retry or reset reads is not kept.
                read = (run_id for run_id in happening.run_ids if not self.is_asked_for_its_past(run_id))
                self.loaded[happening.process].update(read)
            case h.Recovered():
                self._announce(self.leases[happening.process])
            case h.Failed() | h.Ended():
                # Its runs may have been dropped, and what it did not publish will be looked for.
                self.loaded.pop(happening.process, None)
                self.owed.pop(happening.process, None)
            case h.Emptied():
                self.announced.clear()
            case _:
                pass

    def _announce(self, lease: Lease) -> None:
        for partition, epoch in lease.epochs.items():
            self.announced[partition] = max(epoch, self.announced.get(partition, 0))

    def _read_new_events(self, commit: h.Committed) -> None:
        for run_id in dict.fromkeys(write.run_id for write in commit.writes):
            history = self.histories[run_id]
            stored = self.tables.events.get(run_id, {})
            texts = [stored[number] for number in sorted(stored) if number > len(history)]
            for _, number, name, time, text in texts:
                event = e.HistoryEvent(number, time, decode_body(name, text))
                self.new.setdefault(run_id, []).append(event)
                history.append(event)
                self._note_generation(run_id, event)
                try:
                    if isinstance(event.body, e.Cut):
                        self.states[run_id] = fold(run_id, self.state(run_id).partition, history)
                        self._cut(run_id, event.body)
                    else:
                        evolve(self.state(run_id), event)
                except InternalError as error:
                    self.broken.append(str(error))

    def _read_grants(self, commit: h.Committed) -> None:
        for write in commit.writes:
            for slot in write.slots:
                if slot.granted_at is not None:
                    self.grants[slot.limit_id].setdefault(slot.ticket, slot.granted_at)

    def _note_generation(self, run_id: str, event: e.HistoryEvent) -> None:
        state, seq = self.state(run_id), getattr(event.body, "seq", 0)
        is_open = state.steps.get(seq) or state.timers.get(seq) or state.asked.get(seq)
        self._generations[run_id, event.number] = is_open.generation if is_open else state.generation

    def _settle_commit(self, commit: h.Committed) -> None:
        for run_id, events in self.new.items():
            for event in events:
                if (run_id, event.number) not in self._cut_out:
                    self._settle_event(run_id, event)
        for write in commit.writes:
            if write.is_closed:
                self.ended.add(write.run_id)
            # Recorded without the code, which is built from the whole history when it is needed.
            is_told = any(isinstance(event.body, e.WAKES) for event in write.events)
            if not is_told or self.state(write.run_id).phase is not RunPhase.OPEN:
                self.loaded[commit.process].discard(write.run_id)
            for item in write.work:
                if item.kind is WorkKind.STEP and item.message and item.message not in self.committed:
                    self.committed.add(item.message)
                    self.owed[commit.process].add(item.message)

    def _settle_event(self, run_id: str, event: e.HistoryEvent) -> None:
        body = event.body
        _, generation, seq = position = self.position_of(run_id, event)
        message_id = getattr(body, "message_id", None)
        if isinstance(body, e.Cut):
            self.generations[run_id].add(body.generation)
        self.talk.settle(body)
        if message_id is not None:
            self.counted[message_id] = f"event {event.number} of run {run_id}"
        if isinstance(body, OUTCOMES):
            self.outcomes[position] = f"{e.type_of(body)}, event {event.number}"
        if isinstance(body, e.StepCompleted):
            self.succeeded.add(position)
        if isinstance(body, e.StepScheduled) and body.undoes:
            self.undone.add(((run_id, generation, body.undoes), body.name))
        if isinstance(body, e.StepRetrying) and body.retry_at is not None:
            attempt = body.attempt + (1 if body.counts else 0)
            self.due[run_id, generation, seq, attempt] = body.retry_at
        if isinstance(body, e.TimerStarted | e.ApprovalRequested | e.HookCreated) and body.due is not None:
            self.due[run_id, generation, seq, 0] = body.due

    def _cut(self, run_id: str, cut: e.Cut) -> None:
        """What was cut out may come again, at the same position where that stays."""
        state = self.state(run_id)
        for number, due in cut.timers:
            timer = state.timers.get(number) or state.asked[number]
            self.due[run_id, timer.generation, number, 0] = due
        left = {event.number for event in effective(self.histories[run_id])}
        for event in self.histories[run_id]:
            if event.number in left or (run_id, event.number) in self._cut_out:
                continue
            self._cut_out.add((run_id, event.number))
            position = self.position_of(run_id, event)
            if isinstance(event.body, OUTCOMES):
                self.outcomes.pop(position, None)
                self.succeeded.discard(position)
            if isinstance(event.body, e.StepScheduled) and event.body.undoes:
                self.undone.discard(((*position[:2], event.body.undoes), event.body.name))

    def events(self) -> Iterator[tuple[str, e.HistoryEvent]]:
        """The events of the last commit."""
        return ((run_id, event) for run_id, events in self.new.items() for event in events)
