"""The parent of a coordinator's process: it ends one that hangs where nothing can be interrupted, and starts another.

    parent ── a pipe, closed when the parent is gone ──► child: ends at once
    child  ── a pipe: "ready", closed when it is gone ──► parent: starts another, with what the note says
    child  ── the note in shared memory: which run it advances, whose local steps it runs ──► parent

Workflow code that does not come back is interrupted by the watchdog within the child. A call into C, or a process that
the kernel ends, is not the watchdog's to mend. When the same piece of work is noted for longer than the watchdog takes
and `GRACE_SECONDS` more, the child is killed. Whenever a child dies while runs are noted, the next one hears of it and
has it counted in the database before it advances anything (``dramaturg_coordinator.quarantine``). Which of several it
was cannot be told, so each of them is counted; a hang is the noted run's alone.

Time in which the child was stopped, or in which nobody looked, does not count: a machine that froze is no hanging run.
The parent imports no code of the user's, opens no service and serves no port, so that nothing in it can hang.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

from dramaturg_coordinator.run_note import SIZE, Noted, RunNote

#: How much longer than the watchdog's limit a piece of work may take.
GRACE_SECONDS: Final = 10.0

_VARIABLE: Final = "_DRAMATURG_SUPERVISED"
_LOOK_SECONDS: Final = 0.5
_FIRST_PAUSE_SECONDS: Final = 0.1
# Short of a lease: whoever takes over is to find the death counted.
_LONGEST_PAUSE_SECONDS: Final = 5.0
_LONG_LIFE_SECONDS: Final = 30.0
_PR_SET_PDEATHSIG: Final = 1

logger = logging.getLogger("dramaturg.supervisor")


@dataclass(frozen=True, slots=True)
class Death:
    """A process died while it advanced a run, or ran a local step of it.

    Attributes:
      reason: how, in words.
      is_certain: it hung there: it was the run.
      doing: what it did of the run, in words.
    """

    run_id: str
    reason: str
    is_certain: bool
    doing: str = "advanced"


def deaths_of(note: RunNote, how: str, *, hung_seconds: float | None) -> list[Death]:
    """What a note says about the end of the process that wrote it.

    Parameters:
      how: it ended, in words.
      hung_seconds: how long it had hung when it was killed for that; ``None`` where it was not.
    """
    advanced = note.read().run_id
    if hung_seconds is not None:
        reason = f"a coordinator's process hung in this run for more than {hung_seconds:g} s and was killed"
        return [Death(advanced, reason, is_certain=True)] if advanced else []
    deaths = [Death(advanced, f"a coordinator's process {how} while it advanced this run", False)] if advanced else []
    local = f"a coordinator's process {how} while a local step of this run was under way"
    return deaths + [Death(each, local, False, "ran a local step of") for each in note.read_local() if each != advanced]


class Supervisor:
    """Keeps one child running until it is told to stop.

    Parameters:
      command: of a child; it calls `join` first.
      code_limit: seconds after which the child's own watchdog interrupts.
    """

    def __init__(self, command: Sequence[str], *, code_limit: float) -> None:
        self._command = list(command)
        self._limit = code_limit + GRACE_SECONDS
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this does
        self._file.truncate(SIZE)
        self._note = RunNote(mmap.mmap(self._file.fileno(), SIZE))
        self._awake, self._waker = socket.socketpair()
        for end in (self._awake, self._waker):
            end.setblocking(False)
        self._stops_asked = 0
        self._pause = _FIRST_PAUSE_SECONDS
        self._deaths: list[Death] = []

    def stop(self) -> None:
        """Tell the child to end; a second time: kill it. Fit for a signal handler."""
        self._stops_asked += 1
        with contextlib.suppress(OSError):
            self._waker.send(b"!")

    def run(self) -> int:
        """Keep a child running until `stop`; the exit code."""
        while True:
            self._note.clear()
            child = _Child(self._command, self._file.fileno(), self._deaths)
            code = self._watch(child)
            if self._stops_asked:
                return code if code >= 0 else 1
            if code > 0 and not child.was_ready:
                return code
            if child.was_ready:
                self._deaths.clear()
            self._account_for(child, code)
            if self._rest(child):
                return 0

    def _watch(self, child: _Child) -> int:
        """Wait until the child has ended."""
        hang = Hang(self._limit)
        asked = 0
        while child.is_there(self._awake, _LOOK_SECONDS):
            if self._stops_asked > asked:
                asked = self._stops_asked
                child.signal(signal.SIGTERM if asked == 1 else signal.SIGKILL)
            if hang.is_over(self._note.read(), time.monotonic(), is_stopped=child.is_stopped()):
                logger.error("process %d hangs in run %s and is killed", child.pid, self._note.read().run_id)
                child.hangs = True
                child.signal(signal.SIGKILL)
        return child.code()

    def _account_for(self, child: _Child, code: int) -> None:
        how = _how_it_ended(code)
        deaths = deaths_of(self._note, how, hung_seconds=self._limit if child.hangs else None)
        self._deaths.extend(deaths)
        where = ", ".join(f"{death.doing} run {death.run_id}" for death in deaths)
        logger.error(
            "process %d %s%s; another starts in %g s",
            child.pid,
            how,
            f" while it {where}" if where else "",
            self._pause,
        )

    def _rest(self, child: _Child) -> bool:
        """Wait before the next child; whether it was told to stop meanwhile."""
        if child.age() > _LONG_LIFE_SECONDS:
            self._pause = _FIRST_PAUSE_SECONDS
        until = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
        while not self._stops_asked and (left := until - time.monotonic()) > 0:
            select.select([self._awake], [], [], left)
        return bool(self._stops_asked)


class Hang:
    """Whether a piece of work takes too long, by the time in which it was watched.

    Parameters:
      limit: seconds.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._noted = Noted(0, "")
        self._looked_at = 0.0
        self._seconds = 0.0

    def is_over(self, noted: Noted, now: float, *, is_stopped: bool) -> bool:
        """Look once; true once the limit is passed."""
        passed, self._looked_at = min(now - self._looked_at, 2 * _LOOK_SECONDS), now
        if noted != self._noted or not noted.run_id:
            self._noted, self._seconds = noted, 0.0
        elif not is_stopped:
            self._seconds += passed
        if self._seconds < self._limit:
            return False
        self._seconds = 0.0
        return True


class _Child:
    """One process.

    Attributes:
      was_ready: it said that it works.
      hangs: it was killed for that.
    """

    def __init__(self, command: Sequence[str], note: int, deaths: Sequence[Death]) -> None:
        self._status, status_end = os.pipe()
        lifeline_end, self._lifeline = os.pipe()
        said = {
            "parent": os.getpid(),
            "note": note,
            "status": status_end,
            "lifeline": lifeline_end,
            "deaths": [asdict(death) for death in deaths],
        }
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=[note, status_end, lifeline_end],
                env={**os.environ, _VARIABLE: json.dumps(said)},
                # Ctrl-C in a terminal reaches the parent alone, which passes it on once.
                process_group=0,
            )
        finally:
            os.close(status_end)
            os.close(lifeline_end)
        self._began = time.monotonic()
        self.pid = self._process.pid
        self.was_ready = False
        self.hangs = False

    def is_there(self, awake: socket.socket, seconds: float) -> bool:
        """Wait for a word of the child, a signal, or the end of some time; whether the child lives."""
        ready, _, _ = select.select([self._status, awake.fileno()], [], [], seconds)
        if awake.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                awake.recv(64)
        if self._status in ready:
            if os.read(self._status, 64):
                self.was_ready = True
            else:
                self._process.wait()
        return self._process.poll() is None

    def is_stopped(self) -> bool:
        """Whether it is stopped by a signal, as far as the system says it."""
        try:
            said = Path(f"/proc/{self.pid}/stat").read_bytes()
            return said.rpartition(b")")[2].split()[0] in (b"T", b"t")
        except (OSError, IndexError):
            return False

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def age(self) -> float:
        return time.monotonic() - self._began

    def code(self) -> int:
        """How it ended, once it did."""
        code = self._process.wait()
        os.close(self._status)
        os.close(self._lifeline)
        return code


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


# -- in the child


class CountsDeaths(Protocol):
    """Where deaths are counted."""

    def count(self, run_id: str, reason: str, *, is_certain: bool) -> None:
        """A process died while it advanced this run. Raises `Unreachable`."""
        ...


class Supervised:
    """What a child has of its supervisor.

    Parameters:
      deaths: of processes before it, which nobody counted yet.
      tell_ready: says that it begins to work, and that the deaths are counted.

    Attributes:
      note: where it notes which run it advances.
    """

    def __init__(self, note: RunNote, deaths: Sequence[Death], tell_ready: Callable[[], object]) -> None:
        self.note = note
        self.tell_ready = tell_ready
        self._deaths = list(deaths)

    def count_deaths(self, counts: CountsDeaths) -> None:
        """Have them counted, each once, however often this is tried."""
        while self._deaths:
            death = self._deaths[0]
            counts.count(death.run_id, death.reason, is_certain=death.is_certain)
            del self._deaths[0]


def join() -> Supervised | None:
    """What the supervisor of this process left for it; ``None`` where there is none. From here on it ends with its parent."""
    text = os.environ.pop(_VARIABLE, None)
    if text is None:
        return None
    said = json.loads(text)
    _end_with(said["parent"], said["lifeline"])
    for descriptor in (said["note"], said["status"], said["lifeline"]):
        os.set_inheritable(descriptor, False)
    memory = mmap.mmap(said["note"], SIZE)
    deaths = [Death(**death) for death in said["deaths"]]
    return Supervised(RunNote(memory), deaths, lambda: os.write(said["status"], b"ready\n"))


def _end_with(parent: int, lifeline: int) -> None:
    threading.Thread(target=_end_at_close, args=(lifeline,), name="dramaturg-lifeline", daemon=True).start()
    if sys.platform == "linux":
        # A thread of ours does not run while a call into C holds the interpreter: the kernel does.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _end_at_close(lifeline: int) -> None:
    while os.read(lifeline, 64):
        pass
    os._exit(1)
