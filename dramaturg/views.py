"""What people are shown of a run: rows, events, and one sentence about what it waits for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic_core import from_json

from dramaturg.run_progress import EndedSteps, items_of, steps_of
from dramaturg_coordinator.core.evolve import fold
from dramaturg_coordinator.core.run_state import DELAY_SEQ, OpenApproval, OpenHook, OpenStep, RunState
from dramaturg_coordinator.core.states import RunPhase, StepPhase
from dramaturg_protocol.definitions import effective_options, registry
from dramaturg_protocol.durations import format_duration
from dramaturg_protocol.error_info import decode_error
from dramaturg_protocol.event_codec import decode_body
from dramaturg_protocol.events import HistoryEvent
from dramaturg_protocol.ids import run_id_of_next
from dramaturg_protocol.limits import words_of
from dramaturg_protocol.options import options_from_json
from dramaturg_protocol.records import RunRecord, WorkItem, WorkKind
from dramaturg_protocol.sealing import CannotOpen
from dramaturg_protocol.shown import shown_json
from dramaturg_protocol.signs import Progress, Sign, decode_sign
from dramaturg_protocol.waits import Wait, WaitKind, decode_waits
from dramaturg_store.reads import EventRow


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a run's history.

    Attributes:
      number: from 1, without gaps.
      type: like ``step.completed``.
      time: aware, UTC.
      data: what belongs to its type.
    """

    number: int
    type: str
    time: datetime
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The last heartbeat of a step.

    Attributes:
      at: when the coordinator heard of it; ``None`` for one of an attempt before.
      details: what it told.
    """

    at: datetime | None
    details: list[Any]


@dataclass(frozen=True, slots=True)
class OpenItem:
    """A step, timer, approval or hook under way.

    Attributes:
      kind: ``step``, ``timer``, ``child``, ``approval``, ``hook``, or ``try``: the next one of the run as a whole.
      due: when it fires, times out, is tried again or is given up, if ever.
      started_at: when the attempt that is under way was picked up, as far as its worker told; of an approval or a hook,
        when it was asked for.
      progress: how far it says that it is: `done`, `total`, `note`.
      heartbeat: its last one.
      run_id: of a child.
    """

    kind: str
    seq: int
    name: str
    status: str
    attempt: int = 0
    worker: str = ""
    due: datetime | None = None
    error: str = ""
    started_at: datetime | None = None
    progress: Progress | None = None
    heartbeat: Heartbeat | None = None
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run as lists show it.

    Attributes:
      parent: the run that started it, if one did.
      continued_from: the run that it continues, if it does.
    """

    run_id: str
    workflow_id: str
    workflow: str
    version: int
    status: str
    tags: dict[str, str | int | bool]
    started_at: datetime
    closed_at: datetime | None
    parent: str | None = None
    continued_from: str | None = None


@dataclass(frozen=True, slots=True)
class RunTree:
    """A run with all that it started, and what those started.

    Attributes:
      run: itself.
      children: in the order in which they began.
    """

    run: RunSummary
    children: list[RunTree] = field(default_factory=list["RunTree"])


@dataclass(frozen=True, slots=True)
class RunDescription:
    """All about a run.

    Attributes:
      waiting_for: one sentence; empty for a closed run.
      result: of a completed run.
      error: of a failed or blocked one: `type`, `message`, `traceback`.
      progress: steps that were `scheduled` and that are `completed`; of fan-outs, items that are `done` and that `failed`,
        and how many there are in all (`total`).
      parent: the run that started it, if one did.
      children: the runs that it started and that have begun.
      continued_from, continued_to: the runs before and after it in a chain of `continue_as_new`.
    """

    run_id: str
    workflow_id: str
    workflow: str
    version: int
    status: str
    tags: dict[str, str | int | bool]
    started_at: datetime | None
    closed_at: datetime | None
    waiting_for: str
    result: Any = None
    error: dict[str, Any] | None = None
    custom_status: Any = None
    parent: str | None = None
    progress: dict[str, int] = field(default_factory=dict[str, int])
    open: list[OpenItem] = field(default_factory=list[OpenItem])
    children: list[RunSummary] = field(default_factory=list[RunSummary])
    continued_from: str | None = None
    continued_to: str | None = None


def event_of(row: EventRow) -> Event:
    """A stored event; one that is damaged says so in its data."""
    data = {**row.data, "damage": row.damage} if row.damage else row.data
    return Event(row.number, row.type, row.time, data)


def summary_of(record: RunRecord) -> RunSummary:
    """A run's row, as lists show it."""
    return RunSummary(
        record.run_id,
        record.workflow_id,
        record.workflow,
        record.version,
        record.status,
        from_json(record.tags),
        record.started_at,
        record.closed_at,
        record.parent,
        record.continued_from,
    )


def next_of(record: RunRecord) -> str | None:
    """The run that continues another one, where that ended as CONTINUED."""
    return run_id_of_next(record.run_id, record.generation) if record.status == RunPhase.CONTINUED else None


def pending(run_id: str, workflow_id: str, workflow: str, *, parked: str = "") -> RunDescription:
    """A run that no coordinator has taken yet."""
    waits = parked or "a coordinator that takes its start message"
    return RunDescription(run_id, workflow_id, workflow, 0, "PENDING", {}, None, None, waits)


def describe(
    record: RunRecord,
    rows: Sequence[EventRow],
    now: datetime,
    *,
    parked: str = "",
    work: Sequence[WorkItem] = (),
    children: Sequence[RunRecord] = (),
    ended_steps: EndedSteps = lambda _: {},
) -> RunDescription:
    """All about a run, from its row and its history.

    Parameters:
      work: its rows of open work.
      parked: why it is left to a coordinator with other code, where it is.
      children: rows of the runs that it started.
      ended_steps: of runs, how many steps are completed and how many failed.
    """
    history: list[HistoryEvent] = []
    try:
        history = [HistoryEvent(row.number, row.time, decode_body(row.type, row.raw)) for row in rows]
        state = fold(record.run_id, record.partition, history)
    except CannotOpen as error:
        state = RunState(record.run_id, record.partition)
        waits = "" if record.closed_at is not None else f"something that cannot be told here: {error}"
    except Exception as error:  # noqa: BLE001 - a history that no code of ours wrote
        state, waits = RunState(record.run_id, record.partition), f"its history to be repaired: {error}"
    else:
        waits = parked if parked and not state.is_closed else waiting_for(state, now, work, decode_waits(record.waits))
    return RunDescription(
        run_id=record.run_id,
        workflow_id=record.workflow_id,
        workflow=record.workflow,
        version=record.version,
        status=record.status,
        tags=from_json(record.tags),
        started_at=record.started_at,
        closed_at=record.closed_at,
        waiting_for=waits,
        result=shown_json(record.result) if record.result is not None else None,
        error=asdict(decode_error(record.error)) if record.error is not None else None,
        custom_status=shown_json(state.custom_status) if state.custom_status is not None else None,
        progress={**steps_of(row.type for row in rows), **items_of(history, ended_steps)},
        open=list(open_items(state, work)),
        parent=record.parent,
        children=[summary_of(each) for each in children],
        continued_from=record.continued_from,
        continued_to=next_of(record),
    )


def open_items(state: RunState, work: Sequence[WorkItem] = ()) -> Iterator[OpenItem]:
    """What is under way, in the order in which it was asked for."""
    rows = {(item.generation, item.seq): item for item in work}
    if state.next_try is not None and state.started is not None:
        failed = state.next_try
        words = f"{failed.error.type}: {failed.error.message}"
        name = state.started.workflow
        yield OpenItem("try", 0, name, "RETRYING", failed.attempt + 1, due=failed.retry_at, error=words)
    for seq in sorted([*state.steps, *state.timers, *state.children, *state.asked]):
        child = state.children.get(seq)
        if child is not None:
            status = "CANCELLING" if child.is_cancelled else "STARTED"
            yield OpenItem("child", seq, child.asked.workflow, status, run_id=child.run_id)
            continue
        step = state.steps.get(seq)
        asked = state.asked.get(seq)
        if asked is not None:
            kind = "approval" if isinstance(asked, OpenApproval) else "hook"
            yield OpenItem(kind, seq, asked.name, "WAITING", due=asked.due, started_at=asked.since)
            continue
        if step is None:
            name = "start" if state.is_put_off and seq == DELAY_SEQ else "sleep"
            yield OpenItem("timer", seq, name, "WAITING", due=state.timers[seq].due)
            continue
        error = f"{step.error.type}: {step.error.message}" if step.error is not None else ""
        row = rows.get((step.generation, seq))
        due = row.due if row is not None else step.retry_at
        item = OpenItem(
            "step", seq, step.name, step.phase.value, step.attempt, step.worker, due, error, step.started_at
        )
        yield item if row is None or row.sign is None else _with_sign(item, decode_sign(row.sign))


def _with_sign(item: OpenItem, sign: Sign) -> OpenItem:
    is_its = sign.attempt == item.attempt
    details: list[Any] = _details_of(sign.details) if sign.details is not None else []
    beat = Heartbeat(sign.beat_at if is_its else None, details) if details or sign.beat_at is not None else None
    return replace(item, progress=sign.progress if is_its else None, heartbeat=beat)


def _details_of(payload: str) -> list[Any]:
    details: Any = shown_json(payload)
    # A placeholder where it cannot be opened here.
    return [details] if isinstance(details, str) else list(details)


def waiting_for(state: RunState, now: datetime, work: Sequence[WorkItem] = (), waits: Sequence[Wait] = ()) -> str:
    """One sentence on what a run waits for; empty where it is closed."""
    if state.is_closed:
        return ""
    if state.blocked is not None:
        what = _MENDED.get(state.blocked.reason, "its code to be mended")
        return f"{what}: {state.blocked.message}"
    if state.phase is RunPhase.PAUSED:
        held = [_held_words(step) for step in state.steps.values() if step.is_held]
        why = f": {state.paused.reason}" if state.paused is not None and state.paused.reason else ""
        return "; ".join(held) if held else f"somebody to resume it: it is paused{why}"
    if state.is_put_off:
        return f"its start, {_in(state.begins_at, now)}"
    if state.queued is not None:
        return f"its place under the limit of its workflow{_of_limit(state)} since {_ago(state.queued.since, now)}"
    if state.next_try is not None:
        error = state.next_try.error
        return f"the next try of the run, {_in(state.next_try.retry_at, now)}: {error.type}: {error.message}"
    rows = {(item.generation, item.seq): item for item in work}
    items = [_step_words(step, now, rows.get((step.generation, step.seq))) for step in state.steps.values()]
    items += [f"child {child.asked.workflow}, run {child.run_id}" for child in state.children.values()]
    items += [_wait_words(wait, state, now) for wait in waits if wait.kind is not WaitKind.UPDATE]
    items += [_asked_words(asked, now) for asked in state.asked.values()]
    limits = {wait.timer for wait in waits}
    timers = sorted((timer for timer in state.timers.values() if timer.seq not in limits), key=lambda t: t.due)
    items += [f"a timer, due {_in(timer.due, now)}" for timer in timers]
    items = items or [_wait_words(wait, state, now) for wait in waits]
    if not items:
        return "its own code"
    more = f", and {len(items) - 3} more" if len(items) > 3 else ""
    return "; ".join(items[:3]) + more


def _wait_words(wait: Wait, state: RunState, now: datetime) -> str:
    timer = state.timers.get(wait.timer)
    limit = "" if timer is None else f", times out {_in(timer.due, now)}"
    what = f"condition {wait.name}" if wait.kind is WaitKind.CONDITION else f"{wait.kind.value} {wait.name}"
    return f"{what} since {_ago(wait.since, now)}{limit}"


_MENDED = {
    "unknown_workflow": "a coordinator that has its code",
    "refused": "a restart of the coordinator, once its data fits the database",
}


def _step_words(step: OpenStep, now: datetime, row: WorkItem | None) -> str:
    sign = None if row is None or row.sign is None else decode_sign(row.sign)
    definition = registry.steps.get(step.name)
    layers = [options_from_json(step.options), definition.options if definition is not None else {}]
    options = effective_options(*layers)
    words = f"step {step.name}, attempt {step.attempt} of {options.retries.max_attempts}"
    if step.is_held:
        return _held_words(step)
    if row is not None and row.kind == WorkKind.LIMITED:
        limits = [f"{words_of(size)}{_for_key(step.limits.get(size.kind))}" for size in options.limits]
        since = _ago(step.retry_at or step.scheduled_at, now)
        return f"{words}, waits for its limit ({' and '.join(limits) or 'one it had'}) since {since}"
    if step.phase is StepPhase.RETRYING:
        error = f": {step.error.type}: {step.error.message}" if step.error is not None else ""
        is_due = step.retry_at is None or step.retry_at <= now
        return f"{words}, {'tried again now' if is_due else 'next try ' + _in(step.retry_at, now)}{error}"
    if step.phase is StepPhase.STARTED:
        far = _progress_words(sign.progress) if sign is not None and sign.attempt == step.attempt else ""
        return f"{words}, running on {step.worker or 'a worker'} since {_ago(step.started_at, now)}{far}"
    return f"{words}, waiting in queue {step.queue} or running since {_ago(step.scheduled_at, now)}"


def _asked_words(asked: OpenApproval | OpenHook, now: datetime) -> str:
    is_approval = isinstance(asked, OpenApproval)
    words = f"{'approval' if is_approval else 'hook'} {asked.name} since {_ago(asked.since, now)}"
    return words if asked.due is None else f"{words}, {'times out' if is_approval else 'expires'} {_in(asked.due, now)}"


def _of_limit(state: RunState) -> str:
    limit = None if state.started is None else state.started.limit
    return "" if limit is None else f" ({limit.most} at once{_for_key(limit.key or None)})"


def _for_key(key: str | None) -> str:
    return "" if key is None else f" for {key!r}"


def _held_words(step: OpenStep) -> str:
    error = f": {step.error.type}: {step.error.message}" if step.error is not None else ""
    return f"a person to retry the run, or to settle step {step.name} #{step.seq}, which gave up{error}"


def _progress_words(progress: Progress | None) -> str:
    if progress is None:
        return ""
    of = "" if progress.total is None else f" of {progress.total:g}"
    return f", {progress.done:g}{of} done" + (f" ({progress.note})" if progress.note else "")


def _in(moment: datetime | None, now: datetime) -> str:
    return "now" if moment is None or moment <= now else f"in {_roughly(moment - now)}"


def _ago(moment: datetime | None, now: datetime) -> str:
    return "just now" if moment is None or moment >= now else _roughly(now - moment)


def _roughly(duration: timedelta) -> str:
    """A duration as people say it: whole seconds, or a tenth below ten of them."""
    step = 0.1 if duration < timedelta(seconds=10) else 1.0
    rounded = timedelta(seconds=max(round(duration.total_seconds() / step), 1) * step)
    return format_duration(timedelta(milliseconds=round(rounded / timedelta(milliseconds=1))))
