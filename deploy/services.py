"""Redis, PostgreSQL and Prometheus from the binaries that this machine has, with data in a folder of the stack's."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Program:
    """A process that is kept running.

    Attributes:
      user: who it runs as, where the stack is root's.
      stop_seconds: until it is killed.
      priority: lower ones start first and stop last.
    """

    name: str
    command: str
    environment: dict[str, str] = field(default_factory=dict[str, str])
    user: str | None = None
    stop_signal: str = "TERM"
    stop_seconds: int = 15
    priority: int = 1


class Services:
    """The services of a stack.

    Parameters:
      folder: holds their data.
      port: gives the port of a service by its name.
    """

    def __init__(self, folder: Path, port: Callable[[str], int]) -> None:
        self._folder = folder
        self._port = port

    def prepare(self) -> None:
        """Make what they need before their first start."""
        for name in ("redis", "postgres", "prometheus"):
            path = self._folder / name
            path.mkdir(exist_ok=True)
            self._give(path, name)
        data = self._folder / "postgres" / "data"
        if not (data / "PG_VERSION").exists():
            subprocess.run(
                [*as_user("postgres"), binary("initdb"), "-D", data, "-U", "dramaturg", "--auth=trust", "-E", "UTF8"],
                check=True,
                stdout=subprocess.DEVNULL,
            )

    def programs(self) -> list[Program]:
        """Redis and PostgreSQL, on loopback only."""
        redis = f"{binary('redis-server')} --bind 127.0.0.1 --port {self._port('redis')} --appendonly yes"
        postgres = (
            f"{binary('postgres')} -D {self._folder}/postgres/data -h 127.0.0.1 -p {self._port('postgres')} "
            "-c unix_socket_directories="
        )
        return [
            Program("redis", f"{redis} --dir {self._folder}/redis", user=user_for("redis")),
            # INT: roll back and go at once. TERM would wait for the last client.
            Program("postgres", postgres, user=user_for("postgres"), stop_signal="INT", stop_seconds=30),
        ]

    def prometheus(self, config: Path) -> list[Program]:
        """Prometheus with the configuration of a folder, where it is installed."""
        path = shutil.which("prometheus")
        if path is None:
            print("prometheus is not installed: nobody scrapes /metrics", file=sys.stderr)
            return []
        home = self._folder / "prometheus"
        for name in ("prometheus.yml", "rules.yml"):
            shutil.copyfile(config / name, home / name)
        command = (
            f"{path} --config.file={home}/prometheus.yml --storage.tsdb.path={home}/data "
            f"--web.listen-address=127.0.0.1:{self._port('prometheus')}"
        )
        return [Program("prometheus", command, user=user_for("prometheus"), priority=5)]

    def _give(self, path: Path, name: str) -> None:
        user = user_for(name)
        if user is not None:
            shutil.chown(path, user)


def user_for(name: str) -> str | None:
    """Who a service runs as where the stack is started by root: an account of its name, if there is one."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(name).pw_name
    except KeyError:
        if name == "postgres":
            raise SystemExit("PostgreSQL does not run as root, and there is no user postgres") from None
        return None


def as_user(name: str) -> list[str]:
    """What a command is put behind to run as a service's user."""
    user = user_for(name)
    if user is None:
        return []
    return ["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups", "--"]


def binary(name: str) -> str:
    """The path of an installed program; Debian keeps PostgreSQL's off the path."""
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    found = shutil.which(name) or (str(beside[-1]) if beside else None)
    if found is None:
        raise SystemExit(f"{name} is not installed")
    return found


def free_port(taken: Collection[int]) -> int:
    """A port that nobody listens on now."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = int(server.getsockname()[1])
        if port not in taken:
            return port


def wait_for(name: str, port: int) -> None:
    """Wait until a service answers, which PostgreSQL does some time after it listens."""
    due = time.monotonic() + _PATIENCE_SECONDS
    while not _answers(name, port):
        if time.monotonic() > due:
            raise SystemExit(f"{name} is not there after {_PATIENCE_SECONDS:g} s: make logs service={name}")
        threading.Event().wait(0.1)


def wait_until_ready(name: str, port: int) -> None:
    """Wait until a process of the application says so of itself; tell what it says where it does not."""
    due = time.monotonic() + _PATIENCE_SECONDS
    said = f"{name} does not answer"
    while time.monotonic() < due:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except urllib.error.HTTPError as error:
            said = f"{name} is not ready:\n{error.read().decode()}"
        except OSError:
            pass
        threading.Event().wait(0.2)
    print(said, file=sys.stderr)


def _answers(name: str, port: int) -> bool:
    if name == "postgres":
        command = [binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        return subprocess.run(command, check=False).returncode == 0
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
