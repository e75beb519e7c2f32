"""What the steps of a process share: its event loop, its deadlines, what its lifespans gave."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from typing import Any, Final, Protocol

from dramaturg_actors.event_loop import EventLoopThread
from dramaturg_actors.execution import Execution
from dramaturg_actors.interrupts import Deadlines
from dramaturg_actors.lifespans import Lifespans
from dramaturg_actors.processes import ProcessPool
from dramaturg_protocol.definitions import Registry

_EXIT_SECONDS: Final = 5.0

_logger = logging.getLogger("dramaturg.actors")


class Surroundings(Protocol):
    """What local steps find around them."""

    @property
    def registry(self) -> Registry: ...
    @property
    def execution(self) -> Execution: ...
    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of all steps of the process; once it was entered."""
        ...

    def enter(self) -> Mapping[str, Any]:
        """Enter the lifespans, unless they are; what they gave. Raises whatever a lifespan raised."""
        ...

    def leave(self) -> None:
        """Exit what was entered here."""
        ...


class OwnSurroundings:
    """Those of a process without a worker, entered when the first local step asks for them.

    A coordinator that runs no local step enters no lifespan. One that raises fails the attempt that asked, and is tried
    again by the next.
    """

    def __init__(self, registry: Registry, max_payload: int) -> None:
        self.registry = registry
        self._deadlines = Deadlines()
        self._processes = ProcessPool(registry, max_payload)
        self.execution = Execution(registry, self._deadlines, max_payload, self._processes)
        self._loop = EventLoopThread()
        self._lifespans: Lifespans | None = None
        self._state: Mapping[str, Any] | None = None
        self._entering = threading.Lock()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop, once it was entered."""
        return self._loop.loop

    def enter(self) -> Mapping[str, Any]:
        """Enter the lifespans, unless they are; what they gave."""
        with self._entering:
            if self._state is None:
                if not self._loop.is_started:
                    self._loop.start()
                lifespans = Lifespans(self.registry.lifespans, self._loop)
                self._state = lifespans.start()
                self._lifespans = lifespans
            return self._state

    def leave(self) -> None:
        """Exit the lifespans, end the loop and the processes."""
        self._processes.close(_EXIT_SECONDS)
        if self._lifespans is not None and not self._lifespans.stop(_EXIT_SECONDS):
            _logger.error("a lifespan does not end; it is left alone")
        if self._loop.is_started and not self._loop.stop(_EXIT_SECONDS):
            _logger.error("code on the event loop does not let go of it; it is left alone")
        self._deadlines.close()
