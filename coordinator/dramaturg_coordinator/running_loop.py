"""Which event loop is the one that runs in this thread."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from typing import Any


class Running:
    """A loop is the one that runs in this thread, for the time of a block; a class, since each event enters one.

    Parameters:
      finish_generator: what becomes of async generators that are left early.
    """

    __slots__ = ("_before", "_finish_generator", "_hooks", "_loop")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, finish_generator: Callable[[AsyncGenerator[Any, Any]], None]
    ) -> None:
        self._loop = loop
        self._finish_generator = finish_generator

    def __enter__(self) -> None:
        self._before, self._hooks = asyncio._get_running_loop(), sys.get_asyncgen_hooks()
        asyncio._set_running_loop(self._loop)
        sys.set_asyncgen_hooks(None, self._finish_generator)

    def __exit__(self, *_: object) -> None:
        sys.set_asyncgen_hooks(*self._hooks)
        asyncio._set_running_loop(self._before)
