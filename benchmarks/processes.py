"""Processes of a stack: started on free ports with their data in one folder, measured together, stopped in the end."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import cpu_seconds

_ROOT = Path(__file__).parent.parent
_PATIENCE_SECONDS = 30.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Missing(Exception):
    """A program that a stack needs is not installed."""


class Processes:
    """What was started, and what all of it used.

    Parameters:
      folder: holds a log for each.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def cpu_seconds(self) -> float:
        """User and system time of this process, of all that run, and of their children, those that ended too."""
        return cpu_seconds() + sum(_cpu_of_tree(each.pid) for each in self._running)

    def pids(self) -> list[int]:
        """Of all that run; their children are not among them."""
        return [each.pid for each in self._running]

    @contextmanager
    def running(
        self,
        name: str,
        command: Sequence[str],
        is_ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
    ) -> Generator[None, None, None]:
        """A process for the time of a block, in which it answers."""
        path = self._folder / f"{name}.log"
        with path.open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=_ROOT, env={**os.environ, **(environment or {})}
            )
        self._running.append(process)
        try:
            _wait_until(is_ready, process, path)
            yield
        finally:
            self._running.remove(process)
            process.terminate()
            try:
                process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def redis_server(processes: Processes, folder: Path) -> Generator[str, None, None]:
    """A Redis without persistence; gives its URL."""
    port = free_port()
    command = [
        *_as_user("redis", folder),
        _binary("redis-server"),
        *("--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)),
    ]
    with processes.running("redis", command, lambda: answers(port)):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def postgresql_server(processes: Processes, folder: Path) -> Generator[str, None, None]:
    """A PostgreSQL with its defaults, which flush each commit; gives the URL without a database."""
    port, data = free_port(), folder / "postgresql"
    data.mkdir()
    user = _as_user("postgres", data)
    log = folder / "initdb.log"
    with log.open("wb") as output:
        initdb = [*user, _binary("initdb"), "-D", str(data), "-U", "bench", "--auth=trust", "-E", "UTF8"]
        subprocess.run(initdb, check=True, stdout=output, stderr=output)
    command = [
        *user,
        _binary("postgres"),
        *("-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-c", "unix_socket_directories="),
    ]
    ready = [_binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    with processes.running("postgresql", command, lambda: subprocess.run(ready, check=False).returncode == 0):
        yield f"postgresql+psycopg://bench@127.0.0.1:{port}"


def look_for(*names: str) -> None:
    """Say what is missing, before anything is started.

    Raises:
      Missing: a program is not installed, or may not run here.
    """
    for name in names:
        _binary(name)
    if "postgres" in names and os.geteuid() == 0:
        _binary("setpriv")
        _account("postgres")


def served_by(role: str) -> int:
    """The pid of the process that serves as this here: a supervisor's child, not the supervisor.

    Raises:
      ProcessLookupError: there is none among this process's descendants.
    """
    found = [
        pid for pid in _tree(os.getpid()) if role.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    ]
    if not found:
        raise ProcessLookupError(f"no process here serves as {role}")
    return found[-1]


def resident_bytes_of(pid: int) -> int:
    """Memory that a process has now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def cpu_seconds_of(pid: int) -> float:
    """User and system time of a process and its children."""
    return _cpu_of_tree(pid)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _wait_until(is_ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    due = time.monotonic() + _PATIENCE_SECONDS
    while not is_ready():
        if process.poll() is not None or time.monotonic() > due:
            raise RuntimeError(f"{log.stem} does not answer:\n{log.read_text()[-2000:]}")
        threading.Event().wait(0.05)


def _tree(pid: int) -> list[int]:
    """The descendants of a process, parents first."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return children + [each for child in children for each in _tree(child)]


def _cpu_of_tree(pid: int) -> float:
    try:
        # After the name, which may hold anything: state, parent, …; user, system, and both of children that ended.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [child for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS + sum(_cpu_of_tree(int(child)) for child in children)


def _binary(name: str) -> str:
    # Debian keeps PostgreSQL's off the path.
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    found = shutil.which(name) or (str(beside[-1]) if beside else None)
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def _account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise Missing(f"there is no user {name}, and the server does not run as root") from None


def _as_user(name: str, folder: Path) -> list[str]:
    """What a command is put behind where root may not, or should not, run it; the folder is given to that user."""
    if os.geteuid() != 0 or name == "redis":
        return []
    account = _account(name)
    shutil.chown(folder, account.pw_uid, account.pw_gid)
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", "--"]
