"""Runs that other runs started."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, func, select

from dramaturg_protocol.ids import run_id_of_next
from dramaturg_protocol.records import RunRecord
from dramaturg_store.rows import run_record
from dramaturg_store.schema import events, runs
from dramaturg_store.slices import slices
from dramaturg_store.transactions import Transactions

_CHILDREN = (
    select(runs)
    .where(runs.c.parent.in_(bindparam("run_ids", expanding=True)), runs.c.namespace == bindparam("namespace"))
    .order_by(runs.c.started_at, runs.c.run_id)
)
_RUNS = select(runs).where(
    runs.c.run_id.in_(bindparam("run_ids", expanding=True)), runs.c.namespace == bindparam("namespace")
)
_ENDED = (
    select(events.c.run_id, events.c.type, func.count())
    .where(
        events.c.run_id.in_(bindparam("run_ids", expanding=True)),
        events.c.type.in_(("step.completed", "step.failed", "step.timed_out")),
    )
    .group_by(events.c.run_id, events.c.type)
)


class Families:
    """Which runs of a namespace started which others. All methods raise `Unreachable`."""

    def __init__(self, transactions: Transactions, *, namespace: str) -> None:
        self._transactions = transactions
        self._namespace = namespace

    def children_of(self, run_ids: Collection[str]) -> Sequence[RunRecord]:
        """The runs that these started and that have begun, oldest first for each slice of them."""
        return self._records(_CHILDREN, run_ids)

    def below(self, run_id: str) -> Sequence[RunRecord]:
        """The runs that this one started, those that they started, and so on; and how each chain went on."""
        found: dict[str, RunRecord] = {}
        level = self._records(_RUNS, [run_id])
        while level:
            chains = [run_id_of_next(each.run_id, each.generation) for each in level if each.status == "CONTINUED"]
            known = [*self.children_of([each.run_id for each in level]), *self._records(_RUNS, chains)]
            level = [each for each in known if each.run_id not in found]
            found.update((each.run_id, each) for each in level)
        return list(found.values())

    def ended_steps(self, run_ids: Collection[str]) -> Mapping[str, tuple[int, int]]:
        """How many steps of these runs are completed, and how many failed, by run."""
        found: dict[str, tuple[int, int]] = {}
        for part in slices(list(run_ids)):
            with self._transactions.reading() as connection:
                for run_id, name, number in connection.execute(_ENDED, {"run_ids": part}):
                    done, failed = found.get(run_id, (0, 0))
                    is_done = name == "step.completed"
                    found[run_id] = (done + number * is_done, failed + number * (not is_done))
        return found

    def _records(self, statement: Any, run_ids: Collection[str]) -> list[RunRecord]:
        records: list[RunRecord] = []
        for part in slices(list(run_ids)):
            with self._transactions.reading() as connection:
                rows = connection.execute(statement, {"run_ids": part, "namespace": self._namespace})
                records += [run_record(row) for row in rows]
        return records
