"""What every database checks of a turn before it keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import bindparam, select

from dramaturg_protocol.faults import Fenced, Refused
from dramaturg_store.rows import StoredRow
from dramaturg_store.schema import partitions

#: The epochs of the partitions with these `numbers`, locked.
LOCKED_EPOCHS = (
    select(partitions.c.id, partitions.c.epoch)
    .where(partitions.c.id.in_(bindparam("numbers", expanding=True)))
    .order_by(partitions.c.id)
    .with_for_update()
)


def check_epochs(expected: Mapping[int, int], stored: Iterable[StoredRow]) -> None:
    """Compare the epochs of a lease with those of the partitions, `(id, epoch)`.

    Raises:
      Fenced: some have another owner.
    """
    found: dict[int, int] = {row[0]: row[1] for row in stored}
    lost = [number for number, epoch in expected.items() if found.get(number) != epoch]
    if lost:
        raise Fenced(lost)


def check_changed(expected: int, changed: int) -> None:
    """Every run that a turn changes has its row.

    Raises:
      Refused: some have none.
    """
    if changed != expected:
        raise Refused(f"{expected - changed} of the {expected} runs that a turn changes have no row")
