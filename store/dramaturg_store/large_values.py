"""Large values of histories: each is stored once, however many events and runs have it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final

from sqlalchemy import Connection, bindparam, delete, exists, select, update

from dramaturg_protocol.sealing import CannotOpen, digest_of, seal, unseal
from dramaturg_store.dialects import MYSQL_NAMES, insert_ignore
from dramaturg_store.packets import check_packet, packet_of
from dramaturg_store.schema import value_uses, values
from dramaturg_store.slices import slices

#: A value that no run has is deleted so long after a run had it last: one that is being written may have it again.
OUTLIVES = timedelta(hours=1)

NO_VALUES: Final[Mapping[str, str]] = {}

_USED = (
    select(value_uses.c.run_id, values.c.hash, values.c.text)
    .join(values, values.c.hash == value_uses.c.hash)
    .where(value_uses.c.run_id.in_(bindparam("run_ids", expanding=True)))
)
_TOUCH = update(values).where(values.c.hash == bindparam("known")).values(used_at=bindparam("now"))
_UNUSED = delete(values).where(
    values.c.used_at < bindparam("before"), ~exists().where(value_uses.c.hash == values.c.hash)
)


@dataclass(slots=True)
class KeptValues:
    """The large values of one turn.

    Attributes:
      texts: by their hash.
      uses: which run has which.
    """

    namespace: str
    texts: dict[str, str] = field(default_factory=dict[str, str])
    uses: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    def keep(self, run_id: str, text: str) -> str:
        """Note a value of a run; its hash."""
        # Of another namespace, or under other keys, it is another one.
        name = blake2b(f"{self.namespace}\0{digest_of(text)}".encode(), digest_size=20).hexdigest()
        self.texts[name] = text
        self.uses.add((run_id, name))
        return name


def write_values(connection: Connection, kept: KeptValues, now: datetime) -> None:
    """Write the values of a turn, in its transaction."""
    dialect = connection.dialect.name
    # In the same order for all who write: two turns must not wait for each other.
    for name in sorted(kept.texts):
        # The row is locked by this, so that nobody prunes it meanwhile.
        if not connection.execute(_TOUCH, {"known": name, "now": now}).rowcount:
            text = seal(kept.texts[name])
            if dialect in MYSQL_NAMES:
                check_packet([text], packet_of(connection))
            connection.execute(insert_ignore(dialect, values), [{"hash": name, "text": text, "used_at": now}])
    uses = [{"run_id": run_id, "hash": name} for run_id, name in sorted(kept.uses)]
    if uses:
        connection.execute(insert_ignore(dialect, value_uses), uses)


def values_of(connection: Connection, run_ids: Collection[str]) -> Mapping[str, Mapping[str, str]]:
    """The large values of runs, by run and hash; one that cannot be opened here is absent."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for part in slices(list(run_ids)):
        for run_id, name, text in connection.execute(_USED, {"run_ids": part}):
            try:
                found[run_id][name] = unseal(text)
            except CannotOpen:
                continue
    return found


def prune_values(connection: Connection, now: datetime) -> None:
    """Delete the values that no run has any more."""
    connection.execute(_UNUSED, {"before": now - OUTLIVES})
