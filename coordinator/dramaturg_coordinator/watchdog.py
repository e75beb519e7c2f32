"""Workflow code that does not come back: a watchdog notices, takes its stack, and interrupts it.

The interrupt is an asynchronous exception (CPython's ``PyThreadState_SetAsyncExc``): it lands between two byte codes,
so it ends a loop in Python and not a call into C. It may only land while the code is watched: the lock sees to it that
none is sent later, and one that was sent and has not landed yet is made to land before the watch ends. Taking it back
instead (the same function, with no exception) would leave CPython 3.11 looking for it for ever: a little slower, and
hanging as soon as a debugger, a profiler or coverage traces the thread.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager

from dramaturg_coordinator.loop import WorkflowLoop
from dramaturg_coordinator.run_note import RunNote


class CodeInterrupted(BaseException):
    """Thrown into workflow code that computes for too long without awaiting."""


class Watchdog:
    """Watches one thread.

    Parameters:
      limit: seconds that code may run without awaiting.
      note: tells a supervisor whose code runs, for what cannot be interrupted; ``None`` where nobody supervises.
    """

    def __init__(self, limit: float, note: RunNote | None = None) -> None:
        self._limit = limit
        self._note = note
        self._condition = threading.Condition()
        self._deadline: float | None = None
        self._loop: WorkflowLoop | None = None
        self._thread_id = 0
        self._is_stopping = False
        self._thread: threading.Thread | None = None
        self.stack = ""

    @contextmanager
    def watch(self, loop: WorkflowLoop) -> Generator[None, None, None]:
        """Watch the block; afterwards `loop.is_interrupted` says whether it was cut short, `stack` where."""
        try:
            try:
                self._arm(loop)
                yield
            finally:
                self._disarm()
                if loop.is_interrupted:
                    _interrupt_thread(threading.get_ident())
                    _wait_for_interrupt()
        except CodeInterrupted:
            # It may have landed in `_disarm` itself; only one is ever under way, so this time it is through.
            self._disarm()

    def stop(self) -> None:
        """End the watchdog's own thread."""
        with self._condition:
            self._is_stopping = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _arm(self, loop: WorkflowLoop) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="dramaturg-watchdog", daemon=True)
            self._thread.start()
        self._thread_id = threading.get_ident()
        self._loop = loop
        if self._note is not None:
            self._note.begin(loop.run_id)
        # No notify: the watchdog looks once a period, which costs the turn nothing.
        self._deadline = time.monotonic() + self._limit

    def _disarm(self) -> None:
        with self._condition:
            self._deadline = None
            self._loop = None
            if self._note is not None:
                self._note.end()

    def _run(self) -> None:
        period = min(max(self._limit / 10, 0.02), 0.5)
        with self._condition:
            while not self._is_stopping:
                self._condition.wait(period)
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    self._interrupt()

    def _interrupt(self) -> None:
        loop, self._loop, self._deadline = self._loop, None, None
        if loop is None:
            return
        frame = sys._current_frames().get(self._thread_id)  # pyright: ignore[reportPrivateUsage]
        self.stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        loop.is_interrupted = True
        _interrupt_thread(self._thread_id)


def _interrupt_thread(thread_id: int) -> None:
    """Raise `CodeInterrupted` in a thread; one that is under way to it is replaced."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(CodeInterrupted))


def _wait_for_interrupt() -> None:
    while True:
        pass
