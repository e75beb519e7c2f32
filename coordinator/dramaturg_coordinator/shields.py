"""Clean-up that is not interrupted: inside a shield, a cancel of the task waits for the shield's end."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from dramaturg_coordinator.loop import WorkflowTask


class Shield:
    """Keeps cancels from the task that enters it. One that came meanwhile is raised where the block ends.

    It is left by the task that entered it, once; shields may be nested.
    """

    def __init__(self) -> None:
        self._task: WorkflowTask[Any] | None = None

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("a shield is entered once: write shield() again")
        task = asyncio.current_task()
        assert isinstance(task, WorkflowTask)
        self._task = task
        task.enter_shield()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        is_cancelled = self._task.leave_shield()
        if is_cancelled and kind is None:
            # Here, and not wherever the code waits next: it may not wait any more, and ends as cancelled then too.
            await asyncio.sleep(0)
