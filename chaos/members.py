"""Coordinators and workers as processes: started, killed, frozen, started again; each keeps a log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from chaos.servers import PATIENCE

#: What they serve.
MODULES = ("chaos.shapes", "chaos.talking")
_COMMANDS: Mapping[str, Sequence[str]] = {
    "coordinator": ("coordinator", *MODULES),
    "worker": ("worker", *MODULES, "-t", "4", "--shutdown-timeout", "2s"),
}


class Member:
    """One place in the fleet, and the process that has it now.

    Parameters:
      role: ``coordinator`` or ``worker``.
      log: is appended to by every process that has the place.
    """

    def __init__(self, role: str, number: int, folder: Path, environment: Mapping[str, str]) -> None:
        self.role = role
        self.name = f"{role}-{number}"
        self._log = folder / f"{self.name}.log"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        #: Exit codes of processes that ended though nobody had told them to.
        self.own_ends: list[int] = []

    @property
    def is_there(self) -> bool:
        """Whether it has a process that runs, be it frozen."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Have a process in the place."""
        if self.is_there:
            return
        self.look()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dramaturg", *_COMMANDS[self.role]],
                stdout=log,
                stderr=log,
                env=self._environment,
                # A group of its own, with its children: a machine that loses its power kills them all at once.
                start_new_session=True,
            )

    def look(self) -> None:
        """Note an end that nobody asked for."""
        if self._process is not None and self._process.poll() is not None:
            self.own_ends.append(self._process.returncode)
            self._process = None

    def freeze(self) -> None:
        """Stop all of its processes where they are."""
        self._signal_all(signal.SIGSTOP)

    def wake(self) -> None:
        """Let them go on."""
        self._signal_all(signal.SIGCONT)

    def kill(self) -> None:
        """End all of its processes at once."""
        self.look()
        self._signal_all(signal.SIGKILL)
        self._forget()

    def kill_parent(self) -> None:
        """End the process that keeps its children, or that has none."""
        self.look()
        if self._process is not None:
            self._process.kill()
            self._forget()

    def kill_children(self) -> None:
        """End the processes that it keeps: it has to replace them."""
        if self._process is not None:
            for child in self._children():
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)

    def stop(self) -> None:
        """End it as a deploy does; one that does not end in time is killed."""
        self.look()
        if self._process is None:
            return
        self._process.terminate()
        self.wake()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.own_ends.append(-signal.SIGKILL)
            self.kill()
        self._forget()

    def _children(self) -> list[int]:
        assert self._process is not None
        with suppress(FileNotFoundError, ProcessLookupError):
            tasks = Path(f"/proc/{self._process.pid}/task").iterdir()
            return [int(child) for task in tasks for child in (task / "children").read_text().split()]
        return []

    def _signal_all(self, number: int) -> None:
        if self._process is None:
            return
        # A worker gives each child a group of its own, for the sake of terminals.
        for group in (*self._children(), self._process.pid):
            with suppress(ProcessLookupError):
                os.killpg(group, number)

    def _forget(self) -> None:
        if self._process is not None:
            self._process.wait(PATIENCE)
            self._process = None
