"""A run's place under the limit of its workflow: its code asks for it before anything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dramaturg_coordinator.loop import WorkflowLoop
from dramaturg_protocol import events as e


def ask_for_place(
    loop: WorkflowLoop,
    seq: int,
    emit: Callable[[e.EventBody], None],
    hearers: dict[type[e.EventBody], Callable[[e.RunAdmitted], None]],
) -> asyncio.Future[None]:
    """Ask for it; the future is done once the run has it."""
    future: asyncio.Future[None] = loop.create_future()

    def admitted(_: e.RunAdmitted) -> None:
        if not future.done():
            future.set_result(None)

    hearers[e.RunAdmitted] = admitted
    emit(e.RunQueued(seq))
    return future
