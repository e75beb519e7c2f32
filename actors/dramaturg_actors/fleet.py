"""A parent and its children: fresh interpreters of one command, replaced when they die, ended together.

    parent ── stdin of the child, closed when the parent is gone ──► child: ends by itself
    child  ── a pipe: "ready"; closed when the child is gone ──────► parent: replaces it

A child is never forked from this process: the command is run anew. It has a process group of its own, so that Ctrl-C in
a terminal reaches the parent alone, which passes it on once, as SIGTERM.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dramaturg_protocol.errors import Unavailable

#: How much longer than its time to stop a child may live.
KILL_GRACE_SECONDS: Final = 5.0
#: The environment variable in which a child finds the descriptor to say that it is ready on.
READY_FD: Final = "_DRAMATURG_READY_FD"

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.5

_logger = logging.getLogger("dramaturg.worker")


@dataclass(slots=True, eq=False)
class _Place:
    """One of the places in a fleet, and the process that has it now.

    Attributes:
      due: when the next process starts, by the monotonic clock.
      pause: before the process after that.
      was_ready: whether any process in this place ever was.
    """

    number: int
    process: subprocess.Popen[bytes] | None = None
    status: int = -1
    started: float = 0.0
    due: float = 0.0
    pause: float = _FIRST_PAUSE_SECONDS
    was_ready: bool = False


class Fleet:
    """Keeps a number of processes running until it is told to stop.

    Parameters:
      command: of a child. It calls `enlist` first and what that gives once it works, ends at SIGTERM, and when it is
        alone. One that ends with an exit code above 0 before its place was ever ready ends the fleet: it said
        what is wrong, and the next would say the same.
      shutdown_seconds: what a child may take from SIGTERM to its end, before a grace; then it is killed.
      on_end: told the pid of each child that is gone.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        processes: int,
        shutdown_seconds: float,
        on_end: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._command = list(command)
        self._places = [_Place(number) for number in range(1, processes + 1)]
        self._shutdown_seconds = shutdown_seconds
        self._on_end = on_end
        self._selector = selectors.DefaultSelector()
        self._awake, self._waker = socket.socketpair()
        for end in (self._awake, self._waker):
            end.setblocking(False)
        self._selector.register(self._awake, selectors.EVENT_READ)
        self._stops_asked = 0
        self._is_stopping = False
        self._is_killing = False
        self._kill_due = float("inf")
        self._code = 0

    def stop(self) -> None:
        """Tell the children to end; a second time: kill them. Fit for a signal handler, and for any thread."""
        self._stops_asked += 1
        with contextlib.suppress(BlockingIOError, OSError):
            self._waker.send(b"!")

    def run(self) -> int:
        """Keep the processes running until `stop`.

        Returns:
          The exit code: 0, or what the child said that could not start, or 1 where one had to be killed.
        """
        try:
            while not self._is_over():
                self._start_due()
                self._wait()
                self._reap()
                self._obey()
        finally:
            self._end_all()
        return self._code

    def check(self) -> str:
        """Whether every place has a process.

        Raises:
          Unavailable: one has none: it died, and another is to start.
        """
        missing = [str(place.number) for place in self._places if place.process is None]
        if missing:
            raise Unavailable(f"no process in place {', '.join(missing)}")
        return f"{len(self._places)} alive"

    # -- one look after another

    def _is_over(self) -> bool:
        return self._is_stopping and all(place.process is None for place in self._places)

    def _start_due(self) -> None:
        now = time.monotonic()
        for place in self._places:
            if place.process is None and place.due <= now and not self._is_stopping:
                self._start(place)

    def _start(self, place: _Place) -> None:
        status, child_end = os.pipe()
        try:
            place.process = subprocess.Popen(  # noqa: S603 - our own command
                self._command,
                stdin=subprocess.PIPE,
                pass_fds=[child_end],
                env={**os.environ, READY_FD: str(child_end)},
                process_group=0,
            )
        finally:
            os.close(child_end)
        os.set_blocking(status, False)
        place.status = status
        place.started = time.monotonic()
        self._selector.register(status, selectors.EVENT_READ, place)

    def _wait(self) -> None:
        now = time.monotonic()
        due = [place.due for place in self._places if place.process is None and not self._is_stopping]
        seconds = max(0.0, min([now + _LOOK_SECONDS, self._kill_due, *due]) - now)
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._awake.recv(64)
            else:
                self._read_status(key.data)

    def _read_status(self, place: _Place) -> None:
        said = os.read(place.status, 64)
        if said:
            place.was_ready = True
            _logger.info("process %d (pid %s) is ready", place.number, place.process and place.process.pid)
            return
        # The child's end is closed: it is as good as gone.
        self._selector.unregister(place.status)
        if place.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                place.process.wait(_LOOK_SECONDS)

    def _reap(self) -> None:
        for place in self._places:
            if place.process is not None and place.process.poll() is not None:
                self._ended(place, place.process)

    def _ended(self, place: _Place, process: subprocess.Popen[bytes]) -> None:
        self._let_go(place, process)
        code = process.returncode
        if self._is_stopping or self._stops_asked:
            return
        if code > 0 and not place.was_ready:
            _logger.error("process %d did not start: the worker ends", place.number)
            self._code = code
            self._tell_to_end()
        else:
            self._replace_later(place, process)

    def _replace_later(self, place: _Place, process: subprocess.Popen[bytes]) -> None:
        now = time.monotonic()
        if now - place.started > _LONGEST_PAUSE_SECONDS:
            place.pause = _FIRST_PAUSE_SECONDS
        place.due = now + place.pause
        how = _how_it_ended(process.returncode)
        _logger.error("process %d (pid %d) %s; another starts in %g s", place.number, process.pid, how, place.pause)
        place.pause = min(place.pause * 2, _LONGEST_PAUSE_SECONDS)

    def _obey(self) -> None:
        if self._stops_asked and not self._is_stopping:
            self._tell_to_end()
        is_late = time.monotonic() >= self._kill_due
        if (is_late or self._stops_asked > 1) and not self._is_killing:
            self._kill()

    def _tell_to_end(self) -> None:
        self._is_stopping = True
        self._kill_due = time.monotonic() + self._shutdown_seconds + KILL_GRACE_SECONDS
        for process in self._alive():
            process.send_signal(signal.SIGTERM)

    def _kill(self) -> None:
        self._is_killing = True
        self._kill_due = float("inf")
        for process in self._alive():
            _logger.error("the process with pid %d did not end in time, and is killed", process.pid)
            self._code = self._code or 1
            _kill_group(process)

    # -- the end

    def _alive(self) -> list[subprocess.Popen[bytes]]:
        return [place.process for place in self._places if place.process is not None]

    def _let_go(self, place: _Place, process: subprocess.Popen[bytes]) -> None:
        place.process = None
        with contextlib.suppress(KeyError):
            self._selector.unregister(place.status)
        os.close(place.status)
        assert process.stdin is not None
        process.stdin.close()
        self._on_end(process.pid)

    def _end_all(self) -> None:
        for place in self._places:
            if place.process is not None:
                _kill_group(place.process)
                place.process.wait()
                self._let_go(place, place.process)
        self._selector.close()
        self._awake.close()
        self._waker.close()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


# -- in a child


def enlist(when_alone: Callable[[], object]) -> Callable[[], object]:
    """Join the fleet of the parent: first thing in a child. From here on it has an empty stdin.

    Parameters:
      when_alone: called in a thread once the parent is gone.

    Returns:
      What tells the parent that this process works.
    """
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_watch, args=(lifeline, when_alone), name="dramaturg-lifeline", daemon=True).start()
    status = int(os.environ.pop(READY_FD))
    # It stays open here, and out of what this process starts: the parent sees by it when we are gone.
    os.set_inheritable(status, False)
    return lambda: os.write(status, b"ready\n")


def _watch(lifeline: int, when_alone: Callable[[], object]) -> None:
    while os.read(lifeline, 64):
        pass
    when_alone()


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module in an interpreter like this one."""
    return [sys.executable, "-m", module, *arguments]
