"""Servers of one's own, from the binaries that are installed: nobody else is on them, so they may be killed."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psycopg
import redis

from dramaturg_protocol.redis_client import connect

#: Seconds that a server may take to answer, or to end.
PATIENCE = 60.0
_BETWEEN_LOOKS = 0.02


class Missing(Exception):
    """A program or an account that a server needs is not there."""


class Server:
    """A process of a server's binary on a free port of loopback, with a folder of its own.

    Parameters:
      user: whom it runs as where this process is root, which PostgreSQL refuses to run as.

    Raises:
      Missing: the program is not installed, or there is no such user.
    """

    def __init__(self, name: str, user: str) -> None:
        self.name = name
        self._binary = binary(name)
        self._as_user = [] if os.geteuid() else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        # Not below a folder that others may not enter, and short: a socket's path holds at most 108 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix=f"dramaturg-{name}-"))
        if self._as_user:
            _check_account(user)
            shutil.chown(self.folder, user, user)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    def start(self) -> None:
        """Start it, and wait until it answers; one that does not come up is started again.

        Raises:
          TimeoutError: it did not answer in time; the message has the end of its log.
        """
        due = time.monotonic() + PATIENCE
        while not self._comes_up(due):
            if time.monotonic() > due:
                self.stop(signal.SIGKILL)
                raise TimeoutError(f"{self.name} does not answer after {PATIENCE:g} s:\n{self.log()[-2000:]}")
            self._forget()

    def stop(self, number: int = signal.SIGKILL) -> None:
        """End it."""
        if self._process is not None:
            self.signal(number)
            # A process that is frozen takes no other signal.
            self.signal(signal.SIGCONT)
            self._process.wait(PATIENCE)
            self._forget()

    def crash(self) -> None:
        """Kill it with all of its children, as a machine does that loses its power."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(PATIENCE)
            self._forget()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def log(self) -> str:
        """What it said."""
        path = self.folder / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        """End it, and remove its data."""
        self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _comes_up(self, due: float) -> bool:
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as_user, self._binary, *self._arguments()],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                # A group of its own: to be killed whole, and not by a Ctrl-C that is meant for whoever started it.
                start_new_session=True,
            )
        while self._process.poll() is None and time.monotonic() < due:
            if self._answers():
                return True
            threading.Event().wait(_BETWEEN_LOOKS)
        threading.Event().wait(_BETWEEN_LOOKS)
        return False

    def _forget(self) -> None:
        self._process = None

    def _arguments(self) -> Sequence[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError


class RedisServer(Server):
    """A Redis that keeps nothing: it is empty whenever it starts."""

    def __init__(self) -> None:
        super().__init__("redis-server", "redis")
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def _arguments(self) -> Sequence[str]:
        return ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]

    def _answers(self) -> bool:
        try:
            with connect(self.url) as client:
                return bool(client.ping())  # pyright: ignore[reportUnknownMemberType]
        except redis.RedisError:
            return False


class PostgresServer(Server):
    """A PostgreSQL whose data stays.

    Parameters:
      options: settings of the server, like ``fsync=off``.
    """

    def __init__(self, *options: str) -> None:
        super().__init__("postgres", "postgres")
        self._options = options
        command = [*self._as_user, binary("initdb"), "-D", str(self.folder / "data"), "-U", "postgres"]
        choices = ["--auth=trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        subprocess.run([*command, *choices], cwd=self.folder, check=True, stdout=subprocess.DEVNULL)
        self.dsn = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self.url = self.dsn.replace("postgresql://", "postgresql+psycopg://")

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it at once, its clients' transactions undone."""
        super().stop(number)

    def _arguments(self) -> Sequence[str]:
        settings = [part for option in self._options for part in ("-c", option)]
        return ["-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1", "-k", "", *settings]

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.dsn, connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False


def binary(name: str) -> str:
    """Where a program is; what Debian installs comes first, since on the path there may be a wrapper."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    found = str(places[-1]) if places else shutil.which(name)
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _check_account(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise Missing(f"there is no user {name}, and the server does not run as root") from None
