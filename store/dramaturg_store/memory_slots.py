"""Slots of limits in memory: the twin of the table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from dramaturg_protocol.limits import RUN_SEQ, Slot, Ticket
from dramaturg_protocol.records import KeptResult, RunRecord, RunWrites, WorkItem, WorkKind

#: The rows of open work under which an attempt may have a limit's grant, or wait for it.
HOLDING = (WorkKind.STEP, WorkKind.WAITING, WorkKind.LIMITED, WorkKind.LOCAL, WorkKind.LEFT_OPEN)


class SlotTable:
    """All slots, by execution and limit."""

    def __init__(self) -> None:
        self._rows: dict[tuple[Ticket, str], Slot] = {}

    def write(self, write: RunWrites) -> None:
        """What a turn wrote for a run or a limit."""
        if write.freed:
            gone = set(write.freed)
            self._rows = {key: slot for key, slot in self._rows.items() if slot.until or key[0] not in gone}
        self._rows.update(((slot.ticket, slot.limit_id), slot) for slot in write.slots)

    def of(self, partitions: Collection[int], now: datetime) -> Sequence[Slot]:
        """What counts, or waits, in order of arrival."""
        found = [
            slot
            for slot in self._rows.values()
            if slot.partition in partitions and (slot.until is None or slot.until > now)
        ]
        return sorted(found, key=lambda slot: (slot.limit_id, slot.arrival))

    def all(self) -> Sequence[Slot]:
        """Every row."""
        return list(self._rows.values())

    def lasting(self, partition: int) -> Sequence[Slot]:
        """Those that count until their execution ends, or wait."""
        return [slot for slot in self._rows.values() if slot.partition == partition and slot.until is None]

    def forget(self, partitions: Collection[int], before: datetime) -> None:
        """Drop what no longer counts."""
        self._rows = {
            key: slot
            for key, slot in self._rows.items()
            if slot.partition not in partitions or slot.until is None or slot.until > before
        }


class SlotReads:
    """What the port `Store` says of slots, and of results that are kept."""

    _tables: Any

    def kept_results(self, keys: Collection[str]) -> Mapping[str, KeptResult]:
        """Results of steps that a later call with the same arguments may have; others are absent."""
        with self._tables.lock:
            kept: dict[str, KeptResult] = self._tables.kept
            return {key: kept[key] for key in keys if key in kept}

    def slots(self, partitions: Collection[int], now: datetime) -> Sequence[Slot]:
        """What counts for limits, or waits for them, in order of arrival."""
        with self._tables.lock:
            table: SlotTable = self._tables.slots
            return table.of(partitions, now)

    def leaked_slots(self, partition: int, limit: int) -> Sequence[Slot]:
        """Grants and waiters whose execution is over: there should be none."""
        tables = self._tables
        with tables.lock:
            table: SlotTable = tables.slots
            lasting = table.lasting(partition)
            return [slot for slot in lasting if not is_under_way(slot, tables.work, tables.runs)][:limit]

    def forgotten_waiters(self, partition: int, limit: int) -> Sequence[str]:
        """Ids of runs with a row that waits for a limit, of which no limit knows that it waits."""
        tables = self._tables
        with tables.lock:
            table: SlotTable = tables.slots
            tickets = {slot.ticket for slot in table.all() if slot.granted_at is None}
            waiting = {(each.run_id, each.generation, each.seq, each.attempt) for each in tickets}
            places = {each.run_id for each in tickets if each.seq == RUN_SEQ}
            found: set[str] = {
                item.run_id
                for item in tables.work_in([partition])
                if item.kind is WorkKind.LIMITED
                and (*item.key, item.attempt) not in waiting
                and not (item.attempt == 0 and item.run_id in places)
            }
        return sorted(found)[:limit]

    def forget_spent(self, partitions: Collection[int], before: datetime) -> None:
        """What was spent of a rate and counts no more goes."""
        with self._tables.lock:
            self._tables.slots.forget(partitions, before)


def is_under_way(
    slot: Slot, work: Mapping[str, Mapping[tuple[int, int], WorkItem]], runs: Mapping[str, RunRecord]
) -> bool:
    """Whether the execution of a slot is open."""
    if slot.seq == RUN_SEQ:
        run = runs.get(slot.run_id)
        return run is not None and run.closed_at is None
    item = work.get(slot.run_id, {}).get((slot.generation, slot.seq))
    return item is not None and item.attempt == slot.attempt and item.kind in HOLDING
