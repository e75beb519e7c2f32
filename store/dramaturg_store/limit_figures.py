"""How many executions limits let through, and how many wait for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, func, or_, select

from dramaturg_store.schema import slots

_IDS: BindParameter[Any] = bindparam("partitions", expanding=True)
_COUNTS = (
    select(slots.c.name, func.count(slots.c.granted_at).label("granted"), func.count().label("rows"))
    .where(
        slots.c.partition.in_(_IDS),
        or_(slots.c.until.is_(None), slots.c.until > bindparam("now", type_=slots.c.until.type)),
    )
    .group_by(slots.c.name)
)


@dataclass(frozen=True, slots=True)
class LimitFigures:
    """What the limits of one step or workflow have granted, and how many executions wait for them."""

    name: str
    granted: int
    waiting: int


def limit_figures(connection: Connection, partitions: Sequence[int], now: datetime) -> Sequence[LimitFigures]:
    """Those of all steps and workflows that have any."""
    found = connection.execute(_COUNTS, {"partitions": partitions, "now": now})
    return [LimitFigures(name, granted, rows - granted) for name, granted, rows in found]
