"""Bring the runs of a batch into memory, and leave out of it what cannot be applied yet."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from dramaturg_coordinator.batch import ALWAYS, Batch, Held
from dramaturg_coordinator.live import LiveRun, LiveRuns
from dramaturg_coordinator.ports import Store
from dramaturg_protocol import events as e
from dramaturg_protocol.messages import Request, RequestKind, StepReport
from dramaturg_protocol.records import KeptResult, StoredRun, Unreadable

logger = logging.getLogger("dramaturg.coordinator")

#: How long a request for a run that is not known is kept before it is put aside.
PATIENCE = timedelta(days=1)


class Loader:
    """Reads runs from the store."""

    def __init__(self, store: Store, runs: LiveRuns, held: Held) -> None:
        self._store = store
        self._runs = runs
        self._held = held
        self._loaded = 0

    def load(self, batch: Batch, partitions: Collection[int], now: datetime) -> None:
        """Bring the batch's runs into memory; take out of it what cannot be applied yet, or not here.

        Parameters:
          partitions: those whose runs may be advanced.
        """
        missing = [run_id for run_id in batch.messages if self._runs.get(run_id) is None]
        stored: Mapping[str, StoredRun | Unreadable] = self._store.load(missing) if missing else {}
        self._loaded = len(stored)
        for run_id in missing:
            found = stored.get(run_id)
            problem = _stranger(found, partitions) or self._remember(run_id, found)
            if problem:
                logger.error("run %s cannot be read and is left as it is: %s", run_id, problem)
                self._leave_unreadable(batch, run_id, problem)
            elif found is None and batch.begins(run_id):
                self._runs.add(run_id, batch.partitions[run_id], ())
                self._release(batch, run_id)
            elif found is None:
                self._leave_unknown(batch, run_id, now)

    def addressed(self, requests: Sequence[Request]) -> Sequence[Request]:
        """The same requests; those that name a workflow id name the run that has it, as far as there is one."""
        named = {request.run_id for request in requests if _may_name_workflow_id(request)}
        if not named:
            return requests
        holders = self._store.holders(named)
        return [
            replace(request, run_id=holders.get(request.run_id, request.run_id))
            if _may_name_workflow_id(request)
            else request
            for request in requests
        ]

    def take_count(self) -> int:
        """How many runs were found in the store and not in memory since this was asked last."""
        count, self._loaded = self._loaded, 0
        return count

    def reload(self, run_id: str, partition: int) -> LiveRun:
        """Read a run anew; one that is not stored, or cannot be read, is as if it had not begun."""
        self._runs.drop([run_id])
        if self._remember(run_id, self._store.load([run_id]).get(run_id)) or self._runs.get(run_id) is None:
            self._runs.add(run_id, partition, ())
        run = self._runs.get(run_id)
        assert run is not None
        return run

    def read_history(self, run_id: str) -> Sequence[e.HistoryEvent]:
        """A run's stored history.

        Raises:
          ValueError: it cannot be read.
        """
        found = self._store.load([run_id]).get(run_id)
        if isinstance(found, StoredRun):
            return found.history
        if isinstance(found, Unreadable):
            raise ValueError(found.reason)
        return ()

    def kept_results(self, keys: Collection[str]) -> Mapping[str, KeptResult]:
        """Results of steps that a later call with the same arguments may have."""
        return self._store.kept_results(keys)

    def claim_id(self, workflow_id: str, run_id: str) -> str | None:
        """Claim a workflow id for a run that is to begin or to go on; the open run that has it instead, if any does."""
        return self._store.claim_id(workflow_id, run_id)

    def _remember(self, run_id: str, found: StoredRun | Unreadable | None) -> str:
        """Take a stored run into memory; what is wrong with it, if anything."""
        if isinstance(found, Unreadable):
            return found.reason
        if found is None:
            return ""
        try:
            record = found.record
            self._runs.add(
                run_id, record.partition, found.history, found.signs, record.waits, found.limited, found.sent
            )
        except Exception as error:  # noqa: BLE001 - a history that no code of ours wrote
            return f"its events do not follow from each other: {error}"
        return ""

    def _release(self, batch: Batch, run_id: str) -> None:
        """A run begins: what waited for it under its id, or under its workflow id, is taken from now on."""
        self._held.release(run_id)
        if self._held:
            for workflow_id in batch.workflow_ids_of(run_id):
                self._held.release(workflow_id)

    def _leave_unknown(self, batch: Batch, run_id: str, now: datetime) -> None:
        for message in batch.messages.pop(run_id):
            if not isinstance(message, Request):
                logger.info("a report of run %s, which is not known, is ignored", run_id)
            elif self._held.is_over(message, now):
                batch.give_up(message, f"no run {run_id} became known within {PATIENCE.days} day")
            else:
                self._held.add(run_id, [message.arrival], now + PATIENCE)

    def _leave_unreadable(self, batch: Batch, run_id: str, problem: str) -> None:
        """Requests stay in the inbox and open work in its table until the run is read anew; reports are put aside."""
        for message in batch.messages.pop(run_id):
            if isinstance(message, Request):
                self._held.add(run_id, [message.arrival], ALWAYS)
            elif isinstance(message, StepReport):
                batch.give_up(message, f"run {run_id} cannot be read: {problem}")


def _may_name_workflow_id(request: Request) -> bool:
    """Whether another run may have sent it; one that waits for its answer looked the run up."""
    return not request.reply and request.kind in (RequestKind.SIGNAL, RequestKind.CANCEL)


def _stranger(found: StoredRun | Unreadable | None, partitions: Collection[int]) -> str:
    """What is wrong with a run that somebody else advances, whose message came here all the same."""
    if found is None or found.record.partition in partitions:
        return ""
    return f"it belongs to partition {found.record.partition}, which another coordinator holds"
