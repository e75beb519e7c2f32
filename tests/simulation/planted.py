"""Bugs that the simulation must find: each a patch of a real function, put in place for a while."""

# A bug reaches into what is private.
# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from dramaturg.testing.simulation.broker import SimulatedBroker
from dramaturg.testing.simulation.experiments import Finding
from dramaturg_coordinator import advance
from dramaturg_coordinator.advance import Advance
from dramaturg_coordinator.batch import Held
from dramaturg_coordinator.core import asking, chains, cuts, decide, evolve, replay
from dramaturg_coordinator.execution import Execution
from dramaturg_coordinator.live import LiveRuns
from dramaturg_coordinator.outbox import Outbox
from dramaturg_coordinator.reception import Reception
from dramaturg_coordinator.reconcile import Reconciler
from dramaturg_coordinator.saga import Saga
from dramaturg_coordinator.signals import Signals
from dramaturg_coordinator.timers import Timers
from dramaturg_coordinator.turn import Turn
from dramaturg_protocol import events as e
from dramaturg_protocol.faults import Fault
from dramaturg_protocol.messages import ReportKind, RequestKind
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import Lease
from dramaturg_store.memory import MemoryInbox
from dramaturg_store.memory_leases import LeaseTable
from tests.simulation import planted_limits as limits
from tests.simulation import planted_schedules as schedules
from tests.simulation.programs import find
from tests.simulation.scheduled import find as find_scheduled


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug.

    Attributes:
      plant: puts it in place until the context ends.
      found_by: how the message of a finding may begin.
      within: how many seeds must find it.
      lately: the seed that found it last, which is tried first.
      finds: tries a seed.
    """

    name: str
    plant: Callable[[], AbstractContextManager[Any]]
    found_by: tuple[str, ...]
    within: int = 400
    lately: int = 0
    finds: Callable[[int], Finding | None] = find

    def __str__(self) -> str:
        return self.name.replace(" ", "_")


def _skip_the_fence() -> AbstractContextManager[Any]:
    return patch.object(LeaseTable, "check_fence", lambda *_: None)


def _publish_before_the_commit() -> AbstractContextManager[Any]:
    real = Turn.commit

    def commit(self: Turn, advances: Sequence[Advance], batch: Any, now: Any) -> None:
        items = [item for advance in advances for item in advance.publishes]
        if items:
            self.outbox._publisher.publish(items, self._lease)
        real(self, advances, batch, now)

    return patch.object(Turn, "commit", commit)


def _acknowledge_before_the_commit() -> AbstractContextManager[Any]:
    real = Turn.commit

    def commit(self: Turn, advances: Sequence[Advance], batch: Any, now: Any) -> None:
        if batch.reports:
            self._reports.acknowledge(batch.reports)
            batch.reports = 0
        real(self, advances, batch, now)

    return patch.object(Turn, "commit", commit)


def _take_a_late_report_for_a_new_one() -> AbstractContextManager[Any]:
    real = decide.on_report

    def on_report(state: Any, report: Any, options: Any, now: Any) -> Any:
        step = state.steps.get(report.seq)
        return real(state, report if step is None else replace(report, attempt=step.attempt), options, now)

    return patch.object(decide, "on_report", on_report)


def _record_an_outcome_of_what_is_closed() -> AbstractContextManager[Any]:
    def take(self: Advance, report: Any) -> None:
        if report.kind is ReportKind.COMPLETED and report.seq not in self._run.state.steps:
            self._append(e.StepCompleted(report.seq, "late", report.attempt, Payload("null")))
        real_take(self, report)

    real_take = Advance._take_report
    return patch.object(Advance, "_take_report", take)


def _fire_timers_early() -> AbstractContextManager[Any]:
    early = timedelta(seconds=20)
    real_take, real_due = Timers.take, decide.on_due

    def take(self: Timers, now: Any, limit: int) -> Any:
        return real_take(self, now + early, limit)

    def on_due(state: Any, item: Any, options: Any, now: Any, *rest: Any) -> Any:
        return real_due(state, item, options, now + early, *rest)

    return _both(patch.object(Timers, "take", take), patch.object(decide, "on_due", on_due))


def _try_again_early() -> AbstractContextManager[Any]:
    early = timedelta(seconds=20)
    real_take, real_due = Timers.take, decide.is_retry_due

    def take(self: Timers, now: Any, limit: int) -> Any:
        return real_take(self, now + early, limit)

    def is_retry_due(state: Any, item: Any, options: Any, now: Any) -> bool:
        return real_due(state, item, options, now + early)

    return _both(patch.object(Timers, "take", take), patch.object(decide, "is_retry_due", is_retry_due))


def _publish_under_a_forged_epoch() -> AbstractContextManager[Any]:
    real = Outbox.send

    def send(self: Outbox) -> None:
        own = self._lease
        self._lease = Lease(own.owner, {number: epoch + 1000 for number, epoch in own.epochs.items()})
        try:
            real(self)
        finally:
            self._lease = own

    return patch.object(Outbox, "send", send)


def _take_messages_of_an_old_epoch() -> AbstractContextManager[Any]:
    real = SimulatedBroker.publish

    def publish(self: SimulatedBroker, tasks: Any, epochs: Any, partitions: Any) -> None:
        self._epochs.clear()
        real(self, tasks, epochs, partitions)

    return patch.object(SimulatedBroker, "publish", publish)


def _take_rows_by_a_high_water_mark() -> AbstractContextManager[Any]:
    real = MemoryInbox.take
    marks: dict[int, int] = {}

    def take(self: MemoryInbox, *args: Any, **kwargs: Any) -> Any:
        mark = marks.get(id(self._tables), 0)
        found = [request for request in real(self, *args, **kwargs) if request.arrival > mark]
        marks[id(self._tables)] = max([mark, *(request.arrival for request in found)])
        return found

    return patch.object(MemoryInbox, "take", take)


def _evict_with_effects() -> AbstractContextManager[Any]:
    real_tell = Execution.tell
    left_behind: dict[str, list[Any]] = {}

    def drop(self: Execution) -> None:
        self.scope.loop.drop(100)
        left_behind.setdefault(self.scope.info().run_id, []).extend(self.scope.take_commands())

    def tell(self: Execution, *args: Any) -> Any:
        return [*left_behind.pop(self.scope.info().run_id, []), *real_tell(self, *args)]

    return _both(patch.object(Execution, "drop", drop), patch.object(Execution, "tell", tell))


def _lose_what_was_not_published() -> AbstractContextManager[Any]:
    real = Outbox.send

    def send(self: Outbox) -> None:
        try:
            real(self)
        except Fault:
            self.needs_sweep = False
            raise

    return patch.object(Outbox, "send", send)


def _publish_blindly_again() -> AbstractContextManager[Any]:
    real = Outbox.send

    def send(self: Outbox) -> None:
        unsent = list(self._unsent)
        try:
            real(self)
        except Fault:
            self._unsent = unsent
            self.needs_sweep = False
            raise

    return patch.object(Outbox, "send", send)


def _use_an_attempts_number_again() -> AbstractContextManager[Any]:
    real = evolve._APPLY[e.StepRetrying]

    def retrying(state: Any, body: e.StepRetrying, event: Any) -> None:
        real(state, replace(body, counts=False), event)

    return patch.dict(evolve._APPLY, {e.StepRetrying: retrying})


def _forget_held_messages() -> AbstractContextManager[Any]:
    return patch.object(Held, "release", lambda *_: None)


def _never_sweep() -> AbstractContextManager[Any]:
    return patch.object(Reconciler, "sweep", lambda *_, **__: 0)


def _keep_runs_whose_commit_failed() -> AbstractContextManager[Any]:
    real_undo = Turn._undo

    def undo(self: Turn, batch: Any) -> None:
        with patch.object(LiveRuns, "drop", lambda *_: None):
            real_undo(self, batch)

    return patch.object(Turn, "_undo", undo)


def _forget_doubts() -> AbstractContextManager[Any]:
    def resolve(self: Outbox, partitions: Any) -> None:
        self._doubtful.clear()

    return patch.object(Outbox, "resolve_doubts", resolve)


def _leave_rows_of_what_is_settled() -> AbstractContextManager[Any]:
    real = Advance.finish

    def finish(self: Advance) -> None:
        real(self)
        self.writes.settled.clear()

    return patch.object(Advance, "finish", finish)


def _use_a_generation_again() -> AbstractContextManager[Any]:
    real = Advance._cut

    def cut(self: Advance, body: Any) -> None:
        real(self, replace(body, generation=body.generation - 1))

    return patch.object(Advance, "_cut", cut)


def _use_attempts_again_after_a_retry() -> AbstractContextManager[Any]:
    return patch.object(cuts, "_attempts_used", lambda _: defaultdict[int, int](int))


def _cancel_what_has_its_outcome() -> AbstractContextManager[Any]:
    return _both(patch.object(advance, "is_void", lambda *_: False), patch.object(replay, "is_void", lambda *_: False))


def _undo_twice() -> AbstractContextManager[Any]:
    real = Saga._go_on
    undone: list[Any] = []

    def go_on(self: Saga) -> None:
        last, before = self._stack[-1:], len(self._stack)
        real(self)
        if len(self._stack) < before and not any(each is last[0] for each in undone):
            undone.extend(last)
            self._stack.extend(last)

    return patch.object(Saga, "_go_on", go_on)


def _forget_what_a_pause_holds() -> AbstractContextManager[Any]:
    real = evolve._APPLY[e.RunResumed]

    def resumed(state: Any, body: e.RunResumed, event: Any) -> None:
        real(state, body, event)
        state.held.clear()

    return patch.dict(evolve._APPLY, {e.RunResumed: resumed})


def _hear_a_signal_twice() -> AbstractContextManager[Any]:
    real = Signals.receive

    def receive(self: Signals, body: Any) -> None:
        real(self, body)
        if not self._kept.get(body.name):
            real(self, body)

    return patch.object(Signals, "receive", receive)


def _drop_signals_at_continue_as_new() -> AbstractContextManager[Any]:
    return patch.object(chains, "signals_of", lambda *_: ())


def _decide_the_next_approval() -> AbstractContextManager[Any]:
    return patch.object(asking, "_is_meant", lambda *_: True)


def _do_an_update_again() -> AbstractContextManager[Any]:
    real = Reception.take

    def take(self: Reception, request: Any, now: Any) -> None:
        if request.kind is RequestKind.UPDATE:
            self._run.state.messages.discard(request.message_id)
        real(self, request, now)

    return patch.object(Reception, "take", take)


def _both(*patches: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
    stack = ExitStack()
    for each in patches:
        stack.enter_context(each)
    return stack


BUGS: Sequence[Bug] = (
    Bug("skip the fence", _skip_the_fence, ("invariant_4",)),
    Bug("publish before the commit", _publish_before_the_commit, ("invariant_2",)),
    Bug("acknowledge before the commit", _acknowledge_before_the_commit, ("invariant_2",)),
    Bug("take a late report for a new one", _take_a_late_report_for_a_new_one, ("",)),
    Bug("record an outcome of what is closed", _record_an_outcome_of_what_is_closed, ("",)),
    Bug("fire timers early", _fire_timers_early, ("invariant_9",)),
    Bug("try again early", _try_again_early, ("invariant_9", "invariant_8")),
    Bug("publish under a forged epoch", _publish_under_a_forged_epoch, ("invariant_4",)),
    Bug("take messages of an old epoch", _take_messages_of_an_old_epoch, ("invariant_4", "invariant_3")),
    Bug("take rows by a high-water mark", _take_rows_by_a_high_water_mark, ("",)),
    Bug("evict with effects", _evict_with_effects, ("",)),
    Bug("lose what was not published", _lose_what_was_not_published, ("",)),
    Bug("publish blindly again", _publish_blindly_again, ("invariant_3",), within=2000, lately=112),
    Bug("use an attempt's number again", _use_an_attempts_number_again, ("",)),
    Bug("forget held messages", _forget_held_messages, ("",), within=3000, lately=626),
    Bug("never sweep", _never_sweep, ("invariant_2", "invariant_8")),
    Bug("keep runs whose commit failed", _keep_runs_whose_commit_failed, ("",)),
    Bug("forget doubts", _forget_doubts, ("",)),
    Bug("use a generation again", _use_a_generation_again, ("invariant_1",)),
    Bug("use attempts again after a retry", _use_attempts_again_after_a_retry, ("",)),
    Bug("cancel what has its outcome", _cancel_what_has_its_outcome, ("",), within=2000),
    Bug("undo twice", _undo_twice, ("invariant_1",)),
    Bug("forget what a pause holds", _forget_what_a_pause_holds, ("",)),
    Bug("leave rows of what is settled", _leave_rows_of_what_is_settled, ("",)),
    Bug("leak a place", limits.leak_a_place, ("invariant_10",)),
    Bug("leak the place of a run", limits.leak_the_place_of_a_run, ("invariant_10",)),
    Bug("grant one too many", limits.grant_one_too_many, ("invariant_10",)),
    Bug("forget what was spent", limits.forget_after_a_take_over_what_was_spent, ("invariant_10",), within=2000),
    Bug("use a place again", limits.use_a_place_again_after_a_retry, ("invariant_10",)),
    Bug("never call who waits", limits.never_call_who_waits, ("invariant_8",)),
    Bug("forget who waits", limits.forget_who_waits_when_a_commit_fails, ("",), within=3000, lately=326),
    Bug("begin a run without its place", limits.begin_a_run_without_its_place, ("invariant_10",)),
    Bug("keep what failed in the next try", limits.keep_what_failed_in_the_next_try, ("invariant_1",)),
    Bug("have the result of other arguments", limits.have_the_result_of_other_arguments, ("another outcome",)),
    Bug(
        "fire by what was read before",
        schedules.fire_by_what_was_read_before,
        ("invariant_",),
        within=1000,
        finds=find_scheduled,
    ),
    Bug(
        "take a lost answer for done",
        schedules.take_a_lost_answer_for_done,
        ("invariant_1",),
        within=1000,
        finds=find_scheduled,
    ),
    Bug("forget what was missed", schedules.forget_what_was_missed, ("invariant_1",), within=400, finds=find_scheduled),
    Bug(
        "begin beside the run before",
        schedules.begin_beside_the_run_before,
        ("invariant_9",),
        within=400,
        finds=find_scheduled,
    ),
    Bug("hear a signal twice", _hear_a_signal_twice, ("",)),
    Bug("drop signals at continue_as_new", _drop_signals_at_continue_as_new, ("invariant_2",)),
    Bug("decide the next approval", _decide_the_next_approval, ("invariant_1",)),
    Bug("do an update again", _do_an_update_again, ("",), within=2000),
)
