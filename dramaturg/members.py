"""The members of a fan-out, so many at a time: what each gave, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from dramaturg_protocol.errors import StepFailed

#: What begins a member and waits for it; it raises `StepFailed` where that fails.
Begin = Callable[[int], Awaitable[Any]]


def size_of(index: int, items: int, chunk: int) -> int:
    """How many items a member has: the last one may have fewer."""
    return min(chunk, items - index * chunk)


class Members:
    """Members under way.

    Parameters:
      items: how many there are, so many in a member (`chunk`).
      at_once: how many members are under way at a time; ``None`` for all.
      tolerated: how many items may fail before the rest is given up.
    """

    def __init__(self, begin: Begin, items: int, chunk: int, at_once: int | None, tolerated: int) -> None:
        count = -(-items // chunk)
        self._begin = begin
        self._items = items
        self._chunk = chunk
        self._tolerated = tolerated
        self._failed = 0
        self._results: list[Any] = [None] * count
        self._at_once = min(at_once or count, count)

    async def run(self) -> list[Any]:
        """What each gave, or its `StepFailed`.

        Raises:
          StepFailed: of the one after which too many had failed; the others are cancelled then.
        """
        todo = iter(range(len(self._results)))
        lanes = [asyncio.ensure_future(self._run_lane(todo)) for _ in range(self._at_once)]
        try:
            await asyncio.gather(*lanes)
        except BaseException:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
            raise
        return self._results

    async def _run_lane(self, todo: Iterator[int]) -> None:
        for index in todo:
            try:
                self._results[index] = await self._begin(index)
            except StepFailed as failed:
                self._results[index] = failed
                self._failed += size_of(index, self._items, self._chunk)
                if self._failed > self._tolerated:
                    raise
