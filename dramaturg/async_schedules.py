"""`AsyncClient.schedules`: the verbs of `Schedules`, awaited. Each runs in a thread."""

from __future__ import annotations

import asyncio
import builtins
from datetime import datetime
from typing import Any, TypeVar, TypeVarTuple, Unpack, overload

from dramaturg.async_client import AsyncHandle
from dramaturg.graphs.authoring import Graph
from dramaturg.handle import Positional, PositionalStep
from dramaturg.schedule_options import NewScheduleOptions, ScheduleOptions
from dramaturg.schedule_views import ScheduleDescription
from dramaturg.schedules import Schedules
from dramaturg.workflows import BoundWorkflow
from dramaturg_protocol.schedule_specs import OverlapName

A = TypeVar("A")
B = TypeVar("B")
Ts = TypeVarTuple("Ts")


class AsyncSchedules:
    """As `Schedules`, awaited."""

    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules

    @overload
    async def create(
        self,
        id: str,
        wf: Positional[Any],
        /,
        **options: Unpack[NewScheduleOptions],
    ) -> ScheduleDescription: ...
    @overload
    async def create(
        self,
        id: str,
        wf: Positional[A, Any],
        a: A,
        /,
        **options: Unpack[NewScheduleOptions],
    ) -> ScheduleDescription: ...
    @overload
    async def create(
        self,
        id: str,
        wf: Positional[A, B, Any],
        a: A,
        b: B,
        /,
        **options: Unpack[NewScheduleOptions],
    ) -> ScheduleDescription: ...
    @overload
    async def create(
        self,
        id: str,
        wf: PositionalStep[*Ts, Any],
        /,
        *args: *Ts,
        **options: Unpack[NewScheduleOptions],
    ) -> ScheduleDescription: ...
    @overload
    async def create(
        self,
        id: str,
        wf: Positional[*Ts, Any],
        /,
        *args: *Ts,
        **options: Unpack[NewScheduleOptions],
    ) -> ScheduleDescription: ...
    @overload
    async def create(
        self,
        id: str,
        wf: BoundWorkflow[..., Any] | Graph | str,
        /,
        *args: Any,
        **options_and_arguments: Any,
    ) -> ScheduleDescription: ...
    async def create(self, id: str, wf: Any, /, *args: Any, **given: Any) -> ScheduleDescription:  # type: ignore[misc]  # noqa: A002
        """As `Schedules.create`."""
        return await asyncio.to_thread(lambda: self._schedules.create(id, wf, *args, **given))

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
        overlap: OverlapName = "buffer_all",
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
