"""supervisord: keeps programs running, starts and stops single ones, tells how they do.

Chosen among what is kept well and installs from PyPI and Debian alike: it adds and removes single programs of a
running set (so that scaling leaves the others alone), reports them, restarts one that dies with growing pauses, rotates
logs, and lets root give each program a user. honcho knows none of these; it runs a Procfile in a terminal.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from services import Program

#: The word of a program that is well, in a line of `status`.
RUNNING = "RUNNING"

_ON_ITS_WAY = ("STARTING", "BACKOFF", "STOPPING")
_SETTLE_SECONDS = 15.0
_SHUTDOWN_SECONDS = 90.0


class Supervisor:
    """The supervisord of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config = folder / "supervisord.conf"
        self._pidfile = folder / "supervisord.pid"

    def apply(self, programs: Sequence[Program]) -> None:
        """Have exactly these run: start what is new, stop what is gone, restart what changed, leave the rest alone."""
        self._config.touch(mode=0o600)
        self._config.write_text(self._head() + "".join(self._section(program) for program in programs))
        if self.is_running():
            self._control("update")
        else:
            self._run("supervisord", check=True)

    def status(self) -> list[str]:
        """A line for each program."""
        return self._control("status").splitlines()

    def wait_until_settled(self) -> None:
        """Return when every program runs, or has failed, or after a while."""
        due = time.monotonic() + _SETTLE_SECONDS
        while any(state in line for line in self.status() for state in _ON_ITS_WAY) and time.monotonic() < due:
            threading.Event().wait(0.5)

    def shut_down(self) -> None:
        """Stop all of them, and supervisord; returns when it is gone."""
        if not self.is_running():
            print("no stack runs")
            return
        self._control("shutdown")
        due = time.monotonic() + _SHUTDOWN_SECONDS
        while self.is_running() and time.monotonic() < due:
            threading.Event().wait(0.1)
        print("stopped" if not self.is_running() else f"still stopping: {self._pidfile}")

    def is_running(self) -> bool:
        """Whether the supervisord of this folder runs, not another process of its number."""
        try:
            pid = int(self._pidfile.read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return False
        command = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return str(self._config) in command.stdout

    def _control(self, command: str) -> str:
        done = self._run("supervisorctl", command)
        # `status` ends with 3 where any program does not run.
        if done.returncode not in (0, 3):
            raise SystemExit(f"supervisorctl {command}: {done.stdout}{done.stderr}")
        return done.stdout

    def _run(self, tool: str, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        # By a path of its own: the arguments tell one stack's supervisord from another's.
        command = [sys.executable, "-m", f"supervisor.{tool}", "-c", str(self._config), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=check)

    def _head(self) -> str:
        folder = self._folder
        return (
            f"[supervisord]\npidfile={self._pidfile}\nlogfile={folder}/logs/supervisord.log\nchildlogdir={folder}/logs\n"
            f"{'user=root' if os.geteuid() == 0 else ''}\n"
            f"[unix_http_server]\nfile={folder}/supervisor.sock\nchmod=0700\n"
            f"[supervisorctl]\nserverurl=unix://{folder}/supervisor.sock\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        )

    def _section(self, program: Program) -> str:
        values = {
            "command": program.command,
            "directory": str(Path.cwd()),
            "priority": program.priority,
            "autostart": "true",
            "autorestart": "true",
            "startsecs": 2,
            "startretries": 10,
            "stopsignal": program.stop_signal,
            "stopwaitsecs": program.stop_seconds,
            "stopasgroup": "false",
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": f"{self._folder}/logs/{program.name}.log",
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": 2,
        }
        if program.user is not None:
            values["user"] = program.user
        if program.environment:
            pairs = (f'{name}="{value}"' for name, value in sorted(program.environment.items()))
            values["environment"] = ",".join(pairs)
        lines = "".join(f"{name}={str(value).replace('%', '%%')}\n" for name, value in values.items())
        return f"[program:{program.name}]\n{lines}"
