"""What steps of a process share: entered once before its first step, exited in reverse order at its end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from dramaturg_actors.event_loop import EventLoopThread
from dramaturg_protocol.errors import ConfigurationError

_logger: Final = logging.getLogger("dramaturg.actors")


class Lifespans:
    """Enters and exits lifespans, in order, from one thread of its own.

    A ``def`` generator runs in that thread; an ``async def`` one is a single task of the event loop from its first
    line to its last, since task groups and cancel scopes must be left by the task that entered them.
    """

    def __init__(self, lifespans: Sequence[Callable[[], Any]], loop: EventLoopThread) -> None:
        self._lifespans = lifespans
        self._loop = loop
        self._entered: concurrent.futures.Future[Mapping[str, Any]] = concurrent.futures.Future()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dramaturg-lifespans", daemon=True)

    def start(self) -> Mapping[str, Any]:
        """Enter all; what they gave, merged.

        Raises:
          ConfigurationError: one gave something else than a dict, or a key that another gave.
          BaseException: whatever a lifespan raised; those before it were exited.
        """
        if not self._lifespans:
            return {}
        self._thread.start()
        return self._entered.result()

    def stop(self, timeout_seconds: float) -> bool:
        """Exit all; false where that takes longer."""
        self._leave.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with contextlib.ExitStack() as entered:
            try:
                state = self._enter_all(entered)
            except BaseException as error:  # noqa: BLE001 - it is start's to raise
                entered.close()
                self._entered.set_exception(error)
                return
            self._entered.set_result(MappingProxyType(state))
            self._leave.wait()

    def _enter_all(self, entered: contextlib.ExitStack) -> dict[str, Any]:
        state: dict[str, Any] = {}
        givers: dict[str, str] = {}
        for lifespan in self._lifespans:
            name = getattr(lifespan, "__qualname__", repr(lifespan))
            for key, value in self._enter(lifespan, name, entered).items():
                if key in givers:
                    raise ConfigurationError(f"lifespans {givers[key]!r} and {name!r} both give {key!r}: rename one")
                givers[key] = name
                state[key] = value
        return state

    def _enter(self, lifespan: Callable[[], Any], name: str, entered: contextlib.ExitStack) -> Mapping[str, Any]:
        host = self._host_of(lifespan(), name)
        given = host.enter()
        if given is _NOTHING:
            raise ConfigurationError(f"lifespan {name!r} ended without a `yield`")
        entered.callback(_log_errors, name, host.leave)
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            raise ConfigurationError(f"lifespan {name!r} must yield a dict, not {given!r}")
        return given  # pyright: ignore[reportUnknownVariableType]

    def _host_of(self, generator: Any, name: str) -> _ThreadHost | _TaskHost:
        if inspect.isgenerator(generator):
            return _ThreadHost(generator)
        if inspect.isasyncgen(generator):
            return _TaskHost(generator, self._loop)
        if inspect.iscoroutine(generator):
            generator.close()
        raise ConfigurationError(f"lifespan {name!r} must be a generator: it has no `yield`")


_NOTHING: Final = object()


class _ThreadHost:
    """Enters and exits a generator in the calling thread."""

    def __init__(self, generator: Generator[Any, Any, Any]) -> None:
        self._generator = generator

    def enter(self) -> Any:
        return next(self._generator, _NOTHING)

    def leave(self) -> None:
        if next(self._generator, _NOTHING) is not _NOTHING:
            self._generator.close()
            raise ConfigurationError("it yielded twice")


class _TaskHost:
    """One task on the loop that enters an async generator, waits, and exits it."""

    def __init__(self, generator: AsyncGenerator[Any, Any], loop: EventLoopThread) -> None:
        self._generator = generator
        self._loop = loop
        self._given: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._is_over = asyncio.Event()
        self._done: concurrent.futures.Future[None] | None = None

    def enter(self) -> Any:
        self._done = self._loop.submit(self._host())
        return self._given.result()

    def leave(self) -> None:
        self._loop.loop.call_soon_threadsafe(self._is_over.set)
        if self._done is not None:
            self._done.result()

    async def _host(self) -> None:
        try:
            given = await anext(self._generator, _NOTHING)
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits in enter
            self._given.set_exception(error)
            return
        self._given.set_result(given)
        if given is _NOTHING:
            return
        await self._is_over.wait()
        if await anext(self._generator, _NOTHING) is not _NOTHING:
            await self._generator.aclose()
            raise ConfigurationError("it yielded twice")


def _log_errors(name: str, leave: Callable[[], None]) -> None:
    try:
        leave()
    except BaseException:
        _logger.exception("lifespan %r failed at its end", name)
