"""A large fan-out, from the side of the run that asked for it: its calls in blocks, each block a child."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from pydantic_core import from_json, to_json

from dramaturg.fan_out_blocks import BLOCK_PREFIX, block_definition, failed_of
from dramaturg.members import size_of
from dramaturg_protocol.ambient import ChildRequest, ChildTicket, StepRequest, WorkflowScope
from dramaturg_protocol.errors import ChildFailed, StepFailed, StepTimeout
from dramaturg_protocol.payloads import Payload

#: How many calls a block has at most.
BLOCK = 500
#: A block's calls are no more than that together, in bytes, unless one alone is.
BLOCK_BYTES = 1024 * 1024
#: How many blocks are under way at a time, and how many members each has at least to itself, where `concurrency` allows.
LANES, LEAST_IN_LANE = 8, 25

#: How a `StepFailed` reads.
_FAILED = re.compile(r"step '.*?' failed after (\d+) attempts?: (\S+): (.*)", re.DOTALL)


class Blocks:
    """A large fan-out, in blocks of calls that child runs make.

    Parameters:
      request_of: gives the call of a member.
      items: how many there are, so many in a member (`chunk`).
      tolerated: how many items may fail.
    """

    def __init__(
        self,
        scope: WorkflowScope,
        group: int,
        request_of: Callable[[int], StepRequest],
        items: int,
        chunk: int,
        tolerated: int,
    ) -> None:
        self._scope = scope
        self._group = group
        self._request_of = request_of
        self._items = items
        self._chunk = chunk
        self._tolerated = tolerated
        self._open: dict[int, ChildTicket] = {}
        self._decode: Callable[[Payload], Any] = str
        self._given: dict[int, list[Any]] = {}
        self._count = -(-items // chunk)
        self._todo = self._failed = 0

    async def run(self, at_once: int | None) -> list[Any]:
        """What each member gave."""
        lanes = min(LANES, max(1, (at_once or self._count) // LEAST_IN_LANE))
        shares = [BLOCK] * lanes
        if at_once is not None:
            shares = [at_once // lanes + (lane < at_once % lanes) for lane in range(lanes)]
        tasks = [asyncio.ensure_future(self._run_lane(share)) for share in shares]
        try:
            await asyncio.gather(*tasks)
        except BaseException as error:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if isinstance(error, StepFailed):
                await self._let_end()
            raise
        return [each for first in sorted(self._given) for each in self._given[first]]

    async def _run_lane(self, at_once: int) -> None:
        while self._todo < self._count:
            first = self._todo
            requests = self._next_requests()
            ticket = self._start(first, requests, at_once)
            self._open[first] = ticket
            try:
                told = await ticket.outcome()
            except ChildFailed as failed:
                self._open.pop(first)
                raise _step_failed(requests[0].name, failed) from failed
            self._open.pop(first)
            self._take(first, told, ticket.seq)

    def _next_requests(self) -> list[StepRequest]:
        requests: list[StepRequest] = []
        size = 0
        while self._todo < self._count and len(requests) < BLOCK and (not requests or size < BLOCK_BYTES):
            request = self._request_of(self._todo)
            requests.append(request)
            size += len(request.input)
            self._todo += 1
        return requests

    def _start(self, first: int, requests: Sequence[StepRequest], at_once: int) -> ChildTicket:
        like = requests[0]
        self._decode = like.decode
        about = {
            "step": like.name,
            "queue": like.queue,
            "options": like.options,
            "limits": [each.limits for each in requests] if any(each.limits for each in requests) else [],
            "at_once": at_once,
            "items": min(len(requests) * self._chunk, self._items - first * self._chunk),
            "chunk": self._chunk,
            "tolerated": self._tolerated,
        }
        calls = ",".join(each.input for each in requests)
        order = f'{to_json(about).decode()[:-1]},"calls":[{calls}]}}'
        name = BLOCK_PREFIX + like.name
        given = block_definition(name).schema.encode_call((order,), {}, limit=None)
        return self._scope.start_child(ChildRequest(name, given, str, group=self._group))

    def _take(self, first: int, told: str, seq: int) -> None:
        said = from_json(told)
        failed = {int(index): failed_of(failure, seq) for index, failure in said["failed"].items()}
        given: list[Any] = []
        for index, result in enumerate(said["results"]):
            value = failed.get(index)
            given.append(self._decode(Payload(to_json(result).decode())) if value is None else value)
        self._given[first] = given
        self._failed += sum(size_of(first + index, self._items, self._chunk) for index in failed)
        if self._failed > self._tolerated and failed:
            raise next(iter(failed.values()))

    async def _let_end(self) -> None:
        """Wait for the blocks that were cancelled: a retry goes on with each where it was."""
        for ticket in list(self._open.values()):
            with suppress(ChildFailed):
                await ticket.outcome()


def _step_failed(step: str, failed: ChildFailed) -> StepFailed:
    """What a member of a block failed with, told from how the block failed."""
    kind = StepTimeout if failed.error_type.endswith("StepTimeout") else StepFailed
    parts = _FAILED.fullmatch(failed.message)
    if parts is None:
        return StepFailed(step, 0, failed.error_type or failed.status, str(failed), failed.traceback, seq=failed.seq)
    return kind(step, int(parts[1]), parts[2], parts[3], failed.traceback, seq=failed.seq)
