"""The clients of a simulated world: what they send, when, and what goes wrong on the way."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from dramaturg.testing.simulation.faults import FaultKind, FaultPlan
from dramaturg_protocol.errors import DramaturgError
from dramaturg_protocol.messages import Request, RequestKind
from dramaturg_protocol.records import StartOrder
from dramaturg_store.memory import MemoryDatabase, Tables

#: What a client has to say to what it sees stored; each request once, by its message id.
Finder: TypeAlias = Callable[[Tables], Iterable[Request]]

_FAULTS = (FaultKind.DOUBLED, FaultKind.FAIL_BEFORE, FaultKind.FAIL_AFTER, FaultKind.HIDDEN, FaultKind.HIDDEN)


@dataclass(frozen=True, slots=True)
class Call:
    """What a client sends, and when.

    Attributes:
      at: in seconds from the beginning; of what is found, at most so long after that.
      order: a start.
      request: anything else.
      finds: what follows from what is stored, looked for whenever something was stored.
    """

    at: float
    order: StartOrder | None = None
    request: Request | None = None
    finds: Finder | None = None


class Clients:
    """Sends calls.

    Parameters:
      now: the time.
      soon: a moment that is drawn, at most so many seconds from now.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        database: MemoryDatabase,
        faults: FaultPlan,
        now: Callable[[], datetime],
        soon: Callable[[float], datetime],
    ) -> None:
        self._database = database
        self._faults = faults
        self._now = now
        self._soon = soon
        beginning = now()
        self._calls = [
            (beginning + timedelta(seconds=call.at), number, call)
            for number, call in enumerate(calls)
            if call.finds is None
        ]
        heapq.heapify(self._calls)
        self._count = len(calls)
        self._finders = [(call.at, call.finds) for call in calls if call.finds is not None]
        self._found: set[str] = set()
        self._hidden: dict[str, datetime] = {}
        self._workflow_ids = {call.order.run_id: call.order.workflow_id for call in calls if call.order is not None}

    @property
    def next_at(self) -> datetime | None:
        """When somebody sends something next."""
        return self._calls[0][0] if self._calls else None

    def moments(self) -> list[datetime]:
        """When something is sent, or becomes visible."""
        now = self._now()
        return [at for at, _, _ in self._calls[:1]] + [until for until in self._hidden.values() if until > now]

    def is_hidden(self, request: Request) -> bool:
        """Whether an inbox row's transaction is not visible yet."""
        until = self._hidden.get(request.message_id)
        return until is not None and self._now() < until

    def look(self) -> None:
        """Something was stored: see what there is to say to it."""
        for within, finds in self._finders:
            for request in finds(self._database.tables):
                if request.message_id not in self._found:
                    self._found.add(request.message_id)
                    self._count += 1
                    heapq.heappush(self._calls, (self._soon(within), self._count, Call(within, request=request)))

    def call(self) -> None:
        """Send what is next."""
        _, number, call = heapq.heappop(self._calls)
        if call.request is not None and not self._may_send(call.request):
            heapq.heappush(self._calls, (self._soon(5.0), number, call))
            return
        fault = self._faults.draw("call", _FAULTS)
        if fault is FaultKind.HIDDEN:
            message_id = call.order.message_id if call.order else call.request.message_id if call.request else ""
            self._hidden[message_id] = self._soon(5.0)
        if fault is not FaultKind.FAIL_BEFORE:
            self._send(call)
        if fault in (FaultKind.DOUBLED, FaultKind.FAIL_BEFORE, FaultKind.FAIL_AFTER):
            heapq.heappush(self._calls, (self._soon(5.0), number, call))

    def _send(self, call: Call) -> None:
        # What a client is told instead of an outcome is told to it alone.
        with suppress(DramaturgError):
            if call.order is not None:
                self._database.starts.submit([call.order])
            if call.request is not None:
                self._database.inbox.put([self._addressed(call.request)])

    def _may_send(self, request: Request) -> bool:
        """Whether a client would: one that wants a run to go on looks for it first."""
        if request.kind not in (RequestKind.RETRY, RequestKind.RESET):
            return True
        return is_known(self._database.tables, request.run_id)

    def _addressed(self, request: Request) -> Request:
        record = self._database.tables.runs.get(request.run_id)
        if record is not None:
            return dataclasses.replace(request, partition=record.partition)
        workflow_id = self._workflow_ids.get(request.run_id, request.run_id)
        return dataclasses.replace(request, partition=self._database.partition_of(workflow_id))


def is_known(tables: Tables, run_id: str) -> bool:
    """Whether a client that looks for a run finds it, or its start."""
    starts = (each for each in tables.inbox.values() if each.kind is RequestKind.START)
    return run_id in tables.runs or any(each.run_id == run_id for each in starts)
