"""Waiting for somebody, perhaps for so long only: a future, and the durable timer that ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from datetime import datetime
from typing import Any, Protocol

from dramaturg_protocol.dialogue import TimeLimit
from dramaturg_protocol.waits import Wait, WaitKind


class Waits(Protocol):
    """What a run's scope gives to those who wait."""

    @property
    def is_muted(self) -> bool:
        """Nothing that the code does counts any more."""
        ...

    def now(self) -> datetime:
        """The time of the event that is being applied."""
        ...

    def create_future(self) -> asyncio.Future[Any]:
        """A future of the run."""
        ...

    def start_timer(self, due: datetime) -> asyncio.Future[None]:
        """Ask to be woken."""
        ...


class LimitedWait:
    """One who waits.

    Parameters:
      name: of what is waited for.

    Attributes:
      future: gets what is waited for.
    """

    def __init__(self, scope: Waits, kind: WaitKind, name: str) -> None:
        self._scope = scope
        self._kind = kind
        self._timer: asyncio.Future[None] | None = None
        self._since = scope.now()
        self.name = name
        self.future: asyncio.Future[Any] = scope.create_future()

    def wait(self, limit: TimeLimit | None, what: str) -> Generator[asyncio.Future[Any], None, Any]:
        """What the future gets.

        Parameters:
          what: did not come, for the error.

        Raises:
          TimeoutError: time is over.
        """
        if limit is None:
            return (yield from self.future)
        message = f"{what} within {limit.words}"

        def end(timer: asyncio.Future[None]) -> None:
            if not timer.cancelled() and not self.future.done():
                self.future.set_exception(TimeoutError(message))

        self._timer = self._scope.start_timer(limit.until)
        self._timer.add_done_callback(end)
        try:
            return (yield from self.future)
        finally:
            self._timer.cancel()

    def leave(self) -> Any:
        """Wait no longer; what the future has got already, and nobody took."""
        if not self.future.done():
            self.future.cancel()
        if self.future.cancelled() or self.future.exception() is not None:
            return None
        return self.future.result()

    def as_wait(self) -> Wait:
        """As people see it."""
        return Wait(self._kind, self.name, self._since, getattr(self._timer, "seq", 0))
