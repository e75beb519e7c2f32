"""Telling a running step to stop: in a thread by an exception raised from outside, on the event loop by cancelling.

The rule: an interrupt lands inside the step's own code or nowhere. One that landed in a hook of Dramatiq would report
twice or end a worker thread.

One that was sent and has not landed when the code ends is made to land there and then. Taking it back instead (CPython's
``PyThreadState_SetAsyncExc`` with no exception) would leave CPython 3.11 looking for it for ever: a little slower, and
hanging as soon as a debugger, a profiler or coverage traces the thread.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from dramaturg_actors.context import StepContext
from dramaturg_protocol.errors import StepInterrupt

R = TypeVar("R")


class Interruption(Protocol):
    """How one attempt is told to stop. The first reason counts, later ones are ignored."""

    def send(self, reason: StepInterrupt) -> None:
        """Interrupt the step if its code is running; from any thread."""
        ...


class ThreadInterruption:
    """Interrupts a step that runs in a thread. It cannot end a call into C that does not return."""

    def __init__(self, context: StepContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._thread_id: int | None = None

    def run(self, call: Callable[[], R]) -> R:
        """Call with interrupts on; when this returns or raises, none is pending and none can follow."""
        try:
            try:
                self._arm()
                return call()
            finally:
                if self._disarm():
                    _land_pending()
        except StepInterrupt:
            # It may have landed in _disarm itself, before the lock. Only one is ever sent, so this time it is through.
            self._disarm()
            raise

    def send(self, reason: StepInterrupt) -> None:
        """Raise the reason's class in the thread of the call."""
        with self._lock:
            if self._thread_id is None or self._context.interrupted is not None:
                return
            self._context.interrupted = reason
            _raise_in_thread(self._thread_id, type(reason))

    def _arm(self) -> None:
        with self._lock:
            self._thread_id = threading.get_ident()
        reason = self._context.cancel_reason
        if reason is not None:
            # It came before there was anything to interrupt.
            self.send(reason)

    def _disarm(self) -> bool:
        """Let nothing more be sent; whether something was."""
        with self._lock:
            was_armed, self._thread_id = self._thread_id is not None, None
            return was_armed and self._context.interrupted is not None


class _Landed(BaseException):
    """Takes the place of an interrupt that has not landed."""


def _raise_in_thread(thread_id: int, error: type[BaseException]) -> None:
    """Set what a thread raises at its next bytecode, in place of what was set before."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(error))


def _land_pending() -> None:
    try:
        _raise_in_thread(threading.get_ident(), _Landed)
        while True:
            pass
    except _Landed:
        return


class TaskInterruption:
    """Interrupts a step that runs on the event loop, by cancelling its task."""

    def __init__(self, context: StepContext, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop
        self.task: asyncio.Task[Any] | None = None

    def send(self, reason: StepInterrupt) -> None:
        """Cancel the task from another thread."""
        # RuntimeError: the loop was closed, and its tasks were cancelled then.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.cancel, reason)

    def cancel(self, reason: StepInterrupt) -> None:
        """Cancel the task; on the loop."""
        if self.task is not None and not self.task.done() and self._context.interrupted is None:
            self._context.interrupted = reason
            self.task.cancel()


class Deadlines:
    """One thread that acts when a deadline passes, and sleeps until the earliest."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[int, tuple[float, Callable[[], None]]] = {}
        self._keys = itertools.count()
        self._next_look = float("inf")
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def add(self, seconds: float, expire: Callable[[], None]) -> int:
        """Call `expire` after some seconds unless the key that this returns is removed before."""
        due = time.monotonic() + seconds
        with self._changed:
            key = next(self._keys)
            self._due[key] = (due, expire)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="dramaturg-deadlines", daemon=True)
                self._thread.start()
            elif due < self._next_look:
                self._changed.notify()
        return key

    def remove(self, key: int) -> None:
        """Forget a deadline."""
        with self._changed:
            self._due.pop(key, None)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _run(self) -> None:
        while not self._is_closed:
            for expire in self._expired():
                expire()

    def _expired(self) -> list[Callable[[], None]]:
        with self._changed:
            self._next_look = min((due for due, _ in self._due.values()), default=float("inf"))
            wait = self._next_look - time.monotonic()
            if wait > 0 and not self._is_closed:
                self._changed.wait(min(wait, threading.TIMEOUT_MAX))
            now = time.monotonic()
            passed = sorted(
                (key for key, (due, _) in self._due.items() if due <= now), key=lambda key: self._due[key][0]
            )
            return [self._due.pop(key)[1] for key in passed]
