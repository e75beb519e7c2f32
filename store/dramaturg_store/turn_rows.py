"""What a turn writes, table by table: plain tuples, each in the order of its table's columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any, TypeAlias

from sqlalchemy import Table

from dramaturg_protocol.event_codec import encode_body
from dramaturg_protocol.events import type_of
from dramaturg_protocol.faults import Fenced, Refused
from dramaturg_protocol.limits import Slot
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import Lease, RunRecord, RunWrites, WorkItem
from dramaturg_protocol.sealing import seal, seal_words
from dramaturg_store.dialects import Moment
from dramaturg_store.large_values import KeptValues
from dramaturg_store.rows import letter_values, request_values
from dramaturg_store.schema import dead_letters, inbox, open_work, replies, runs, slots

Row: TypeAlias = tuple[Any, ...]

#: What a later turn may change in a run's row.
CHANGING = (
    "version",
    "status",
    "generation",
    "last_event",
    "tags",
    "updated_at",
    "closed_at",
    "result",
    "error",
    "waits",
)
#: The columns of a dead letter but for its id, which the database counts.
LETTER = tuple(column.name for column in dead_letters.columns if column.name != "id")
#: What tells the rows of one execution from all others.
TICKET = ("run_id", "generation", "seq", "attempt", "release")
REPLY = tuple(column.name for column in replies.columns)
#: The columns of an inbox row but for its arrival, which the database counts.
REQUEST = tuple(column.name for column in inbox.columns if column.name != "arrival")

_run_row: Callable[[RunRecord], Row] = attrgetter(*(column.name for column in runs.columns))
_change_row: Callable[[RunRecord], Row] = attrgetter(*CHANGING, "run_id")
_slot_row: Callable[[Slot], Row] = attrgetter(*(column.name for column in slots.columns))
_work_row: Callable[[WorkItem], Row] = attrgetter(*(column.name for column in open_work.columns))


@dataclass(slots=True)
class TurnRows:
    """The rows of one turn.

    Attributes:
      epochs: what the lease says of the partitions that the turn writes to.
      new_runs: rows of `runs`.
      changed: the runs whose rows change.
      settled: keys of open work.
      closed: ids of runs whose open work goes.
      arrivals: of the inbox.
      freed: executions that have nothing of a limit any more, as `TICKET`.
      is_all: whether the transaction writes nothing after these.
    """

    epochs: Mapping[int, int]
    new_runs: list[Row] = field(default_factory=list[Row])
    changed: list[RunRecord] = field(default_factory=list[RunRecord])
    events: list[Row] = field(default_factory=list[Row])
    settled: list[Row] = field(default_factory=list[Row])
    closed: list[str] = field(default_factory=list[str])
    work: list[Row] = field(default_factory=list[Row])
    arrivals: list[int] = field(default_factory=list[int])
    replies: list[Row] = field(default_factory=list[Row])
    sends: list[Row] = field(default_factory=list[Row])
    letters: list[Row] = field(default_factory=list[Row])
    freed: list[Row] = field(default_factory=list[Row])
    slots: list[Row] = field(default_factory=list[Row])
    kept: list[Row] = field(default_factory=list[Row])
    values: KeptValues = field(default_factory=lambda: KeptValues(""))
    is_all: bool = False

    def changes(self) -> list[Row]:
        """Of the runs that change: `CHANGING`, then the run id."""
        return [_change_row(record) for record in self.changed]

    def changed_runs(self) -> list[Row]:
        """The whole rows of the runs that change."""
        return [_run_row(record) for record in self.changed]


def rows_of(writes: Sequence[RunWrites], lease: Lease, namespace: str, now: datetime) -> TurnRows:
    """The rows of a turn.

    Raises:
      Refused: events without the row of their run, which says how many there are.
    """
    rows = TurnRows(touched(writes, lease), values=KeptValues(namespace))
    for write in writes:
        _add_run(rows, write)
        keep = partial(rows.values.keep, write.run_id)
        rows.events += [
            (write.run_id, event.number, type_of(event.body), event.time, encode_body(event.body, keep))
            for event in write.events
        ]
        if write.is_closed:
            rows.closed.append(write.run_id)
        else:
            rows.settled += [(write.run_id, *key) for key in write.settled]
            rows.work += [_work_row(item) for item in write.work]
        rows.arrivals += write.arrivals
        rows.freed += write.freed
        rows.slots += [_slot_row(slot) for slot in write.slots]
        rows.replies += [
            (reply.message_id, reply.error, seal_words(reply.message), now, _sealed(reply.value))
            for reply in write.replies
        ]
        for request in write.sends:
            values = {**request_values(request), "sent_at": now}
            rows.sends.append(tuple(values[name] for name in REQUEST))
        for letter in write.dead_letters:
            values = letter_values(letter, namespace, now)
            rows.letters.append(tuple(values[name] for name in LETTER))
    # Each key once, and in the same order for all who write: two turns must not wait for each other.
    kept = {each.key: each for write in writes for each in write.kept}
    rows.is_all = not rows.values.texts and all(write.next_of_id is None for write in writes)
    rows.kept = [(key, seal(kept[key].result), kept[key].stored_at, kept[key].expires_at) for key in sorted(kept)]
    return rows


def _sealed(value: Payload | None) -> str | None:
    return None if value is None else seal(value)


def moments_in(table: Table, names: Iterable[str]) -> tuple[int, ...]:
    """The places of those columns that are times."""
    return tuple(place for place, name in enumerate(names) if isinstance(table.columns[name].type, Moment))


def _add_run(rows: TurnRows, write: RunWrites) -> None:
    record = write.record
    if record is None:
        if write.events:
            raise Refused(f"run {write.run_id}: events without its row")
    elif write.is_new:
        rows.new_runs.append(_run_row(record))
    else:
        rows.changed.append(record)


def touched(writes: Sequence[RunWrites], lease: Lease) -> Mapping[int, int]:
    """The epochs of the partitions that a turn writes to; of all where that cannot be told.

    Raises:
      Fenced: it writes to one that the lease is not about.
    """
    numbers: set[int | None] = set()
    for write in writes:
        numbers |= write.fences
        if write.record is not None:
            numbers.add(write.record.partition)
        elif not write.fences:
            numbers.add(None)
    epochs = {number: epoch for number, epoch in lease.epochs.items() if number in numbers}
    others = [number for number in numbers if number is not None and number not in epochs]
    if others:
        raise Fenced(others)
    return lease.epochs if None in numbers else epochs
