"""The one event loop of a worker process, in a thread of its own: all async steps and lifespans live there."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from dramaturg_protocol.errors import InternalError

R = TypeVar("R")

_CANCEL_SECONDS: Final = 1.0

_logger = logging.getLogger("dramaturg.actors")


class EventLoopThread:
    """An event loop that lives from `start` to `stop`, whatever the code on it raises."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="dramaturg-loop", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    @property
    def is_started(self) -> bool:
        """Whether there is a loop."""
        return self._loop is not None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, from `start` on."""
        if self._loop is None:
            raise InternalError("the event loop was not started")
        return self._loop

    def submit(self, coroutine: Coroutine[Any, Any, R]) -> concurrent.futures.Future[R]:
        """Run a coroutine on the loop, from another thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def stop(self, timeout_seconds: float) -> bool:
        """Cancel what still runs, close the loop; false where code on the loop does not let go of it in time."""
        if not self._thread.is_alive():
            return True
        self.loop.call_soon_threadsafe(self._stop)
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _stop(self) -> None:
        self._is_stopping = True
        self.loop.stop()

    def _run(self) -> None:
        while not self._is_stopping:
            try:
                self.loop.run_forever()
            except BaseException:
                # SystemExit and KeyboardInterrupt of a task pass through the loop: the others must go on.
                _logger.exception("code on the event loop tried to end it")
        try:
            self._close()
        finally:
            self.loop.close()

    def _close(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=_CANCEL_SECONDS))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
