"""The eleven invariants, as functions: each says what is wrong after an operation, if anything.

They are asked after every operation of a coordinator, and of a worker where that matters. The numbers are those of the
page on guarantees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dramaturg.testing.simulation import happenings as h
from dramaturg.testing.simulation.books import OUTCOMES, Books, Position
from dramaturg.testing.simulation.limit_invariants import LIMIT_INVARIANTS
from dramaturg.testing.simulation.schedule_invariants import SCHEDULE_INVARIANTS
from dramaturg.testing.simulation.talk_invariants import TALK_INVARIANTS
from dramaturg_coordinator.core.run_state import RunState
from dramaturg_coordinator.core.states import RunPhase, StepPhase
from dramaturg_coordinator.live import LiveRun
from dramaturg_coordinator.run_record import record_of
from dramaturg_protocol import events as e
from dramaturg_protocol.ids import attempt_id
from dramaturg_protocol.messages import ReportKind, StepReport, decode_task
from dramaturg_protocol.records import STEP_LETTERS, DeadLetter, RunWrites, WorkKind

Problems = Iterator[str]
Invariant = Callable[[Books, h.Happening], Problems]


_BEGUN = (WorkKind.STEP, WorkKind.LOCAL, WorkKind.LIMITED)
_OF_STEPS = (WorkKind.STEP, WorkKind.WAITING, WorkKind.LIMITED, WorkKind.LOCAL, WorkKind.LEFT_OPEN, WorkKind.RETRY)
_OF_ALL = (e.RunPaused, e.RunResumed, e.RunRetrying, e.Cut)


def invariant_1_an_outcome_counts_once(books: Books, happening: h.Happening) -> Problems:
    """One outcome for each run, generation and position; each request's message id once."""
    if not isinstance(happening, h.Committed):
        return
    seen: set[object] = set()
    for run_id, event in books.events():
        body, position = event.body, books.position_of(run_id, event)
        if isinstance(body, OUTCOMES):
            if position in books.outcomes or position in seen:
                yield f"{position} ended twice: {books.outcomes.get(position)}, and event {event.number}"
            seen.add(position)
        yield from _made_up(books, position, event)
        yield from _undone_twice(books, run_id, event)
        if isinstance(body, e.Cut) and body.generation in books.generations[run_id]:
            yield f"event {event.number} of run {run_id} begins generation {body.generation}, which there was before"
        message_id = getattr(body, "message_id", None)
        if isinstance(body, e.UpdateCompleted) or books.talk.is_carried_to(run_id, body):
            continue
        if message_id is not None and not _is_part_of_a_cancel(books, run_id, event):
            if message_id in books.counted or message_id in seen:
                yield f"message {message_id} counts twice: {books.counted.get(message_id)}, and event {event.number}"
            seen.add(message_id)


def invariant_2_commit_then_publish_then_acknowledge(books: Books, happening: h.Happening) -> Problems:
    """What is published was committed; what is acknowledged is recorded, and what follows from it was published."""
    if isinstance(happening, h.Published):
        for item in happening.work:
            if item.message not in books.committed:
                yield f"{item.key}, attempt {item.attempt}, is published and was never committed as sent"
    if isinstance(happening, h.Acknowledged):
        owed = books.owed.get(happening.process)
        if owed:
            yield f"reports are acknowledged before {sorted(map(_name, owed))} was published"
        for report in happening.reports:
            if isinstance(report, StepReport) and _is_news(books, report):
                yield f"a report is acknowledged and not recorded: {report.kind} of {_attempt_of(report)}"


def invariant_3_a_recorded_success_never_runs_again(books: Books, happening: h.Happening) -> Problems:
    """No message of a step that succeeded enters the broker, no worker begins one."""
    if isinstance(happening, h.Entered | h.Began):
        task = happening.task
        if (task.run_id, task.generation, task.seq) in books.succeeded:
            what = "is published" if isinstance(happening, h.Entered) else "runs"
            yield f"step {task.message_id} {what} again, and its success is recorded"


def invariant_4_one_coordinator_advances_a_run(books: Books, happening: h.Happening) -> Problems:
    """Nothing is written under an epoch that is not the last, nor published after a higher one was announced."""
    if isinstance(happening, h.Committed):
        for write in happening.writes:
            partition = _partition_of(books, write)
            if partition is not None and happening.lease.epochs.get(partition) != books.epochs.get(partition):
                yield (
                    f"{happening.process} writes run {write.run_id} under epoch "
                    f"{happening.lease.epochs.get(partition)}; the lease is at {books.epochs.get(partition)}"
                )
    if isinstance(happening, h.Published) and not _was_given(books, happening):
        yield f"{happening.process} publishes under a lease that it was not given: {happening.lease}"
    if isinstance(happening, h.Entered):
        announced = books.announced.get(happening.task.partition, 0)
        if happening.epoch < announced:
            yield f"{happening.task.message_id} is published under epoch {happening.epoch}, after {announced} took over"


def invariant_5_replay_asks_for_the_same(books: Books, happening: h.Happening) -> Problems:
    """No run is blocked, and every open one that was touched can be rebuilt from what is stored."""
    if not isinstance(happening, h.Committed):
        return
    for run_id, event in books.events():
        if isinstance(event.body, e.RunBlocked):
            yield f"run {run_id} is blocked: {event.body.message}"
    if books.builder is None or books.broken:
        return
    for run_id in books.new:
        state = books.state(run_id)
        if state.phase is RunPhase.OPEN:
            history = books.histories[run_id]
            built = books.builder.rebuild(LiveRun(state, history), history)
            if isinstance(built, e.RunBlocked):
                yield f"run {run_id} cannot be rebuilt: {built.message}"
            else:
                built[0].drop()


def invariant_6_one_bad_message_stops_no_other(books: Books, happening: h.Happening) -> Problems:
    """Only what nobody can read is put aside. That all others go on is seen by their end."""
    if isinstance(happening, h.Committed | h.Operated):
        for letter in books.tables.letters:
            if letter.source in STEP_LETTERS or _came_too_late(books, letter):
                continue
            if letter.body not in books.foreign:
                yield f"a {letter.source} of run {letter.run_id} was put aside: {letter.reason}"


def invariant_7_a_step_costs_the_same(books: Books, happening: h.Happening) -> Problems:
    """A commit writes rows of what it has events for; a run in memory is not read again."""
    if isinstance(happening, h.Loaded) and not books.forgets_often and books.is_owner(happening.process):
        for run_id in happening.run_ids:
            is_there = run_id in books.loaded[happening.process] and not books.state(run_id).is_closed
            if is_there and not books.is_asked_for_its_past(run_id):
                yield f"{happening.process} reads run {run_id} again, which it has in memory"
    if isinstance(happening, h.Committed):
        for write in happening.writes:
            # What holds a run, lets it go on or cuts its history speaks of all that is open.
            if write.is_closed or any(isinstance(event.body, _OF_ALL) for event in write.events):
                continue
            spoken = {getattr(event.body, "seq", None) for event in write.events}
            silent = [item for item in write.work if item.seq not in spoken and item.kind not in _BEGUN]
            silent_ends = [key for key in write.settled if key[1] not in spoken]
            if silent or silent_ends:
                yield f"run {write.run_id}: rows are written without an event: {silent} {silent_ends}"


def invariant_8_every_open_run_has_a_next_cause(books: Books, happening: h.Happening) -> Problems:
    """A step, a timer, an approval, a hook, somebody outside, or a request that waits."""
    if not isinstance(happening, h.Committed):
        return
    for write in happening.writes:
        state = books.state(write.run_id)
        if state.phase is not RunPhase.OPEN or state.open_keys:
            continue
        if books.tables.runs[write.run_id].waits is not None:
            continue
        if not any(request.run_id == write.run_id for request in books.tables.inbox.values()):
            yield f"run {write.run_id} is open and waits for nothing"


def invariant_9_closed_is_final_and_nothing_early(books: Books, happening: h.Happening) -> Problems:
    """No event after the end, no gap, no timer and no attempt before its time."""
    if isinstance(happening, h.Entered):
        task = happening.task
        due = books.due.get((task.run_id, task.generation, task.seq, task.attempt))
        if due is not None and due > books.now():
            yield f"{task.message_id} is published at {books.now()}, before {due}"
    if not isinstance(happening, h.Committed):
        return
    yield from books.broken
    for run_id, event in books.events():
        is_timed_out = isinstance(event.body, e.ApprovalDecided) and event.body.timed_out
        if isinstance(event.body, e.TimerFired | e.HookExpired) or is_timed_out:
            due = books.due.get((*books.position_of(run_id, event), 0))
            if due is None or due > min(event.time, books.now()):
                yield f"run {run_id}: {e.type_of(event.body)} at {event.time}, before {due}"
    for run_id in books.new:
        numbers = sorted(books.tables.events[run_id])
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"run {run_id}: its events are numbered {numbers}"


def invariant_10_counts_are_counts_of_rows(books: Books, happening: h.Happening) -> Problems:
    """There is a row of open work for all that is open by the history, and no other."""
    if isinstance(happening, h.Committed):
        for write in happening.writes:
            state = books.state(write.run_id)
            rows = books.tables.work.get(write.run_id, {})
            if rows.keys() != state.open_keys:
                yield f"run {write.run_id}: rows {sorted(rows)} for {sorted(state.open_keys)}"


def invariant_11_what_is_stored_is_the_fold(books: Books, happening: h.Happening) -> Problems:
    """A run's row and its open work say what its events say; nobody is told of what is not committed."""
    if isinstance(happening, h.Observed):
        for write in happening.writes:
            stored = books.tables.events.get(write.run_id, {})
            missing = [event.number for event in write.events if event.number not in stored]
            if missing:
                yield f"an observer is told of events {missing} of run {write.run_id}, which are not stored"
    if isinstance(happening, h.Committed):
        for run_id in dict.fromkeys(write.run_id for write in happening.writes):
            yield from _differences(books, books.state(run_id))


INVARIANTS: tuple[Invariant, ...] = (
    invariant_1_an_outcome_counts_once,
    invariant_2_commit_then_publish_then_acknowledge,
    invariant_3_a_recorded_success_never_runs_again,
    invariant_4_one_coordinator_advances_a_run,
    invariant_5_replay_asks_for_the_same,
    invariant_6_one_bad_message_stops_no_other,
    invariant_7_a_step_costs_the_same,
    invariant_8_every_open_run_has_a_next_cause,
    invariant_9_closed_is_final_and_nothing_early,
    invariant_10_counts_are_counts_of_rows,
    *LIMIT_INVARIANTS,
    *SCHEDULE_INVARIANTS,
    *TALK_INVARIANTS,
    invariant_11_what_is_stored_is_the_fold,
)


def _differences(books: Books, state: RunState) -> Problems:
    record = books.tables.runs.get(state.run_id)
    if record is None:
        if state.number:
            yield f"run {state.run_id} has events and no row"
        return
    # What the code waits for is no matter of the events.
    limited = books.tables.steps_of(state.run_id, (WorkKind.LIMITED,))
    folded = record_of(state, record.namespace, record.updated_at, record.waits, limited)
    if record != folded:
        yield f"run {state.run_id}: its row says {record}, its events {folded}"
    rows = books.tables.work.get(state.run_id, {})
    for (_, seq), row in rows.items():
        if row.kind in (WorkKind.TIMER, WorkKind.APPROVAL, WorkKind.HOOK):
            timer = state.timers.get(seq) or state.asked.get(seq)
            if timer is None or timer.due != row.due:
                yield f"run {state.run_id}: a row of {row.kind} {seq} is due {row.due}, its events say {timer}"
        elif row.kind is WorkKind.LIMITED and state.queued is not None and state.queued.seq == seq:
            continue
        elif row.kind in _OF_STEPS:
            step = state.steps.get(seq)
            is_waiting = row.kind is WorkKind.RETRY
            if step is None or step.attempt != row.attempt or (is_waiting and step.phase is not StepPhase.RETRYING):
                yield f"run {state.run_id}: a row of step {seq} is {row.kind}, attempt {row.attempt}; events: {step}"


def _was_given(books: Books, published: h.Published) -> bool:
    """Whether the database gave a process what it publishes under: its lease, or a part of it."""
    given = books.leases.get(published.process)
    return (
        given is not None
        and given.owner == published.lease.owner
        and published.lease.epochs.items() <= given.epochs.items()
    )


def _made_up(books: Books, position: Position, event: e.HistoryEvent) -> Problems:
    """Outcomes that nobody has reported, and results that nobody has kept."""
    body = event.body
    if isinstance(body, e.StepCompleted) and body.cached:
        if all(kept.result != body.result for kept in books.tables.kept.values()):
            yield f"{position} is given a result that nobody has kept, event {event.number}"
    elif isinstance(body, e.StepCompleted | e.StepFailed | e.StepRetrying) and not _is_of_the_coordinator(body):
        attempt = attempt_id(*position, body.attempt)
        if attempt not in books.reported:
            yield f"{e.type_of(body)} of {attempt} is recorded, of which nobody has reported an end"


def _undone_twice(books: Books, run_id: str, event: e.HistoryEvent) -> Problems:
    body = event.body
    if isinstance(body, e.StepScheduled) and body.undoes:
        _, generation, _ = books.position_of(run_id, event)
        if ((run_id, generation, body.undoes), body.name) in books.undone:
            yield f"step {body.undoes} of run {run_id} is undone twice by {body.name}, event {event.number}"


def _is_of_the_coordinator(body: e.EventBody) -> bool:
    """Whether it ends an attempt without a report: by the coordinator's own limit, or since it cannot begin."""
    return isinstance(body, e.StepRetrying) and body.reason == "timeout"


def _is_part_of_a_cancel(books: Books, run_id: str, event: e.HistoryEvent) -> bool:
    """Whether a paused run is resumed only to be cancelled, by the same message."""
    return isinstance(event.body, e.RunResumed) and any(
        isinstance(after.body, e.RunCancelRequested) and after.body.message_id == event.body.message_id
        for after in books.new[run_id]
    )


def _is_news(books: Books, report: StepReport) -> bool:
    """Whether an outcome would still count: it was not recorded."""
    state = books.states.get(report.run_id)
    step = state.steps.get(report.seq) if state is not None else None
    return (
        step is not None
        and report.kind is not ReportKind.STARTED
        and step.phase is not StepPhase.RETRYING
        and (step.generation, step.attempt, step.releases) == (report.generation, report.attempt, report.release)
    )


def _came_too_late(books: Books, letter: DeadLetter) -> bool:
    """Whether one run told another something that had ended: nobody waits for the answer."""
    run_id = letter.run_id or ""
    return '"kind":"signal"' in letter.body and (run_id in books.ended or books.state(run_id).is_closed)


def _attempt_of(report: StepReport) -> str:
    return f"{report.run_id}:{report.generation}:{report.seq}:{report.attempt}"


def _name(message: str) -> str:
    return decode_task(message).message_id


def _partition_of(books: Books, write: RunWrites) -> int | None:
    record = books.tables.runs.get(write.run_id)
    return None if record is None else record.partition
