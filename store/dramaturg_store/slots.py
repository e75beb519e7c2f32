"""Slots of limits: what counts for them, who waits, and rows that nobody needs any more."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, delete, exists, or_, select

from dramaturg_protocol.limits import RUN_SEQ, Slot
from dramaturg_protocol.records import WorkKind
from dramaturg_store.memory_slots import HOLDING
from dramaturg_store.schema import open_work, runs, slots

_PARTITIONS: BindParameter[Any] = bindparam("partitions", expanding=True)
_OF = (
    select(slots)
    .where(
        slots.c.partition.in_(_PARTITIONS),
        or_(slots.c.until.is_(None), slots.c.until > bindparam("now", type_=slots.c.until.type)),
    )
    .order_by(slots.c.limit_id, slots.c.arrival)
)
_SPENT = delete(slots).where(
    slots.c.partition.in_(_PARTITIONS), slots.c.until <= bindparam("before", type_=slots.c.until.type)
)
_IS_OPEN_STEP = exists().where(
    open_work.c.run_id == slots.c.run_id,
    open_work.c.generation == slots.c.generation,
    open_work.c.seq == slots.c.seq,
    open_work.c.attempt == slots.c.attempt,
    open_work.c.kind.in_([kind.value for kind in HOLDING]),
)
_IS_OPEN_RUN = exists().where(runs.c.run_id == slots.c.run_id, runs.c.closed_at.is_(None))
_LEAKED = (
    select(slots)
    .where(
        slots.c.partition == bindparam("partition"),
        slots.c.until.is_(None),
        or_((slots.c.seq != RUN_SEQ) & ~_IS_OPEN_STEP, (slots.c.seq == RUN_SEQ) & ~_IS_OPEN_RUN),
    )
    .limit(bindparam("limit"))
)

_IS_KNOWN_TO_WAIT = exists().where(
    slots.c.run_id == open_work.c.run_id,
    slots.c.granted_at.is_(None),
    or_(
        (slots.c.generation == open_work.c.generation)
        & (slots.c.seq == open_work.c.seq)
        & (slots.c.attempt == open_work.c.attempt),
        # The place of a run as a whole.
        (open_work.c.attempt == 0) & (slots.c.seq == RUN_SEQ),
    ),
)
_FORGOTTEN = (
    select(open_work.c.run_id)
    .distinct()
    .where(
        open_work.c.partition == bindparam("partition"),
        open_work.c.kind == WorkKind.LIMITED.value,
        ~_IS_KNOWN_TO_WAIT,
    )
    .order_by(open_work.c.run_id)
    .limit(bindparam("limit"))
)


def slots_of(connection: Connection, partitions: Collection[int], now: datetime) -> Sequence[Slot]:
    """What counts for the limits of these partitions, or waits for them, in order of arrival."""
    found = connection.execute(_OF, {"partitions": list(partitions), "now": now})
    return [Slot(*row) for row in found]


def leaked_slots(connection: Connection, partition: int, limit: int) -> Sequence[Slot]:
    """Grants and waiters whose execution is over."""
    return [Slot(*row) for row in connection.execute(_LEAKED, {"partition": partition, "limit": limit})]


def forgotten_waiters(connection: Connection, partition: int, limit: int) -> Sequence[str]:
    """Runs with a row that waits for a limit, of which no limit knows that it waits."""
    return connection.scalars(_FORGOTTEN, {"partition": partition, "limit": limit}).all()


def forget_spent(connection: Connection, partitions: Collection[int], before: datetime) -> None:
    """Delete what was spent of a rate and counts no more."""
    connection.execute(_SPENT, {"partitions": list(partitions), "before": before})
