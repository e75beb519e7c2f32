"""Runs with their histories, read so that a damaged one does not stop the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, bindparam, or_, select

from dramaturg_protocol.event_codec import decode_body
from dramaturg_protocol.events import HistoryEvent
from dramaturg_protocol.records import SENT_KINDS, RunRecord, StoredRun, Unreadable, WorkKind
from dramaturg_protocol.sealing import CannotOpen
from dramaturg_store.dialects import UNREADABLE_MOMENT
from dramaturg_store.large_values import NO_VALUES, values_of
from dramaturg_store.rows import StoredRow, run_record
from dramaturg_store.schema import events, open_work, runs
from dramaturg_store.slices import slices

_RUNS = select(runs).where(runs.c.run_id.in_(bindparam("run_ids", expanding=True)))
_EVENTS = (
    select(events.c.run_id, events.c.number, events.c.type, events.c.time, events.c.data)
    .where(events.c.run_id.in_(bindparam("run_ids", expanding=True)))
    .order_by(events.c.run_id, events.c.number)
)
_STEPS = select(open_work.c.run_id, open_work.c.generation, open_work.c.seq, open_work.c.kind, open_work.c.sign).where(
    open_work.c.run_id.in_(bindparam("run_ids", expanding=True)),
    or_(
        open_work.c.sign.is_not(None),
        open_work.c.kind.in_(kind.value for kind in (WorkKind.LIMITED, *sorted(SENT_KINDS))),
    ),
)

_Signs = dict[tuple[int, int], str]


class _Damaged(ValueError):
    """A row of a history does not say what it should."""


def load_runs(connection: Connection, run_ids: Collection[str]) -> Mapping[str, StoredRun | Unreadable]:
    """The runs with their histories; an unknown id is absent."""
    found: dict[str, StoredRun | Unreadable] = {}
    for part in slices(list(run_ids)):
        records = [run_record(row) for row in connection.execute(_RUNS, {"run_ids": part}).all()]
        if not records:
            # Runs that just begin: each turn of starts asks for them.
            continue
        histories: dict[str, list[StoredRow]] = defaultdict(list)
        for row in connection.execute(_EVENTS, {"run_ids": [record.run_id for record in records]}).all():
            histories[row.run_id].append(row)
        signs: dict[str, _Signs] = defaultdict(dict)
        limited: dict[str, set[tuple[int, int]]] = defaultdict(set)
        sent: dict[str, set[tuple[int, int]]] = defaultdict(set)
        for run_id, generation, seq, kind, sign in connection.execute(_STEPS, {"run_ids": list(histories)}).all():
            if sign is not None:
                signs[run_id][generation, seq] = sign
            if kind == WorkKind.LIMITED:
                limited[run_id].add((generation, seq))
            elif kind in SENT_KINDS:
                sent[run_id].add((generation, seq))
        values = values_of(connection, histories.keys())
        for record in records:
            run_id = record.run_id
            found[run_id] = stored_run(
                record,
                histories.get(run_id, []),
                signs.get(run_id, {}),
                limited.get(run_id, frozenset()),
                sent.get(run_id, frozenset()),
                values.get(run_id, {}),
            )
    return found


def stored_run(
    record: RunRecord,
    rows: Sequence[StoredRow],
    signs: Mapping[tuple[int, int], str],
    limited: Collection[tuple[int, int]] = frozenset(),
    sent: Collection[tuple[int, int]] = frozenset(),
    values: Mapping[str, str] = NO_VALUES,
) -> StoredRun | Unreadable:
    """A run and the rows of its events, `(run_id, number, type, time, data)` in order, decoded.

    Parameters:
      values: its large values, by their hash.
    """
    try:
        history = [_event(number, row, values) for number, row in enumerate(rows, start=1)]
        _check_record(record, len(history))
        return StoredRun(record, history, signs, limited, sent)
    except _Damaged as error:
        return Unreadable(record, f"run {record.run_id}: {error}")


def _check_record(record: RunRecord, stored: int) -> None:
    if UNREADABLE_MOMENT in (record.started_at, record.updated_at, record.closed_at):
        raise _Damaged("a time in its row cannot be read")
    if stored != record.last_event:
        raise _Damaged(f"its row says {record.last_event} events, and there are {stored}")


def _event(expected: int, row: StoredRow, values: Mapping[str, str]) -> HistoryEvent:
    _, number, name, time, data = row
    if number != expected:
        raise _Damaged(f"event {expected} is missing")
    if time == UNREADABLE_MOMENT:
        raise _Damaged(f"event {number}: its time cannot be read")
    try:
        return HistoryEvent(number, time, decode_body(name, data, values))
    except KeyError:
        raise _Damaged(f"event {number}: this version knows no event {name!r}") from None
    except (ValueError, TypeError, CannotOpen) as error:
        raise _Damaged(f"event {number}, {name}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """What is wrong, in one line; pydantic takes several."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join(lines[1:3]) if len(lines) > 2 else " ".join(lines)
