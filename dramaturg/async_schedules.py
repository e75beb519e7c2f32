"""`AsyncClient.schedules`: the verbs of `Schedules`, awaited. Each runs in a thread."""

from __future__ import annotations

import asyncio
import builtins
from datetime import datetime
from typing import Any, Unpack

from dramaturg.async_client import AsyncHandle
from dramaturg.schedule_views import ScheduleDescription
from dramaturg.schedules import ScheduleOptions, Schedules


class AsyncSchedules:
    """As `Schedules`, awaited."""

    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules

    async def create(self, id: str, wf: Any, /, *args: Any, **options: Any) -> ScheduleDescription:  # noqa: A002
        """As `Schedules.create`."""
        return await asyncio.to_thread(self._schedules.create, id, wf, *args, **options)

    async def update(
        self,
        id: str,  # noqa: A002 - the contract's
        *,
        wf: Any = None,
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> ScheduleDescription:
        """As `Schedules.update`."""
        return await asyncio.to_thread(self._schedules.update, id, wf=wf, args=args, kwargs=kwargs, **options)

    async def pause(self, id: str, note: str = "") -> ScheduleDescription:  # noqa: A002 - the contract's
        """As `Schedules.pause`."""
        return await asyncio.to_thread(self._schedules.pause, id, note)

    async def resume(self, id: str, note: str = "") -> ScheduleDescription:  # noqa: A002 - the contract's
        """As `Schedules.resume`."""
        return await asyncio.to_thread(self._schedules.resume, id, note)

    async def trigger(self, id: str) -> AsyncHandle[Any]:  # noqa: A002 - the contract's
        """As `Schedules.trigger`."""
        return AsyncHandle(await asyncio.to_thread(self._schedules.trigger, id))

    async def backfill(
        self,
        id: str,  # noqa: A002 - the contract's
        start: datetime,
        end: datetime,
        overlap: str = "buffer_all",
    ) -> builtins.list[datetime]:
        """As `Schedules.backfill`."""
        return await asyncio.to_thread(self._schedules.backfill, id, start, end, overlap)

    async def delete(self, id: str) -> None:  # noqa: A002 - the contract's
        """As `Schedules.delete`."""
        await asyncio.to_thread(self._schedules.delete, id)

    async def get(self, id: str, firings: int = 20) -> ScheduleDescription:  # noqa: A002 - the contract's
        """As `Schedules.get`."""
        return await asyncio.to_thread(self._schedules.get, id, firings)

    async def list(
        self, workflow: str | None = None, paused: bool | None = None, limit: int = 50, after: str = ""
    ) -> builtins.list[ScheduleDescription]:
        """As `Schedules.list`."""
        return await asyncio.to_thread(self._schedules.list, workflow, paused, limit, after)

    async def next(self, id: str, n: int = 1) -> builtins.list[datetime]:  # noqa: A002 - the contract's
        """As `Schedules.next`."""
        return await asyncio.to_thread(self._schedules.next, id, n)
