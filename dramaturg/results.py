"""Wait for the end of a run, or of the chain in which its code went on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dramaturg.orders import target_of
from dramaturg.outcomes import outcome_of
from dramaturg.views import next_of
from dramaturg_protocol.durations import Duration, parse_duration
from dramaturg_protocol.records import RunRecord

if TYPE_CHECKING:
    from dramaturg.client import Client
    from dramaturg.handle import Handle
    from dramaturg.links import Link


class Results:
    """Waits for a client.

    Parameters:
      now: the clock of those who wait, where it is not that of this machine.
    """

    def __init__(self, client: Client, link: Link, now: Callable[[], datetime] | None) -> None:
        self._client = client
        self._link = link
        self._seconds = time.monotonic if now is None else lambda: now().timestamp()

    def wait(self, handle: Handle[Any], timeout: Duration | None) -> Any:
        """Wait for the result; see `Handle.result`."""
        run_id, deadline = handle.run_id, self._deadline(timeout)
        while True:
            record = self._link.notices.wait_for(run_id, self._look(run_id), self._left(deadline))
            following = None if record is None else next_of(record)
            if following is None:
                return self._outcome_of(handle, run_id, record, timeout)
            run_id = following

    async def wait_async(self, handle: Handle[Any], timeout: Duration | None) -> Any:  # noqa: ASYNC109
        """As `wait`, in a coroutine."""
        run_id, deadline = await asyncio.to_thread(lambda: handle.run_id), self._deadline(timeout)
        while True:
            record = await self._link.notices.wait_for_async(run_id, self._look(run_id), self._left(deadline))
            following = None if record is None else next_of(record)
            if following is None:
                return await asyncio.to_thread(self._outcome_of, handle, run_id, record, timeout)
            run_id = following

    def _look(self, run_id: str) -> Callable[[], RunRecord | None]:
        return lambda: self._client.closed(run_id)

    def _deadline(self, timeout: Duration | None) -> float | None:
        return None if timeout is None else self._seconds() + parse_duration(timeout).total_seconds()

    def _left(self, deadline: float | None) -> float | None:
        return None if deadline is None else max(deadline - self._seconds(), 0.0)

    def _outcome_of(self, handle: Handle[Any], run_id: str, record: RunRecord | None, timeout: Duration | None) -> Any:
        if record is None:
            waits = self._client.describe(run_id).waiting_for or "nothing more: it has just ended"
            raise TimeoutError(f"run {run_id} is still open after {timeout}: it waits for {waits}")
        return outcome_of(record, handle.target or target_of(record.workflow, record.version))
