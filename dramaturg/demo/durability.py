"""Kills a run half way and resumes it in a new process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from dramaturg import Client, Event, NotFound
from dramaturg.demo.proof import OUTCOMES, Evidence
from dramaturg.demo.witness import LEDGER, PACE, read_ledger

T = TypeVar("T")

RUN_ID: Final = "killed-and-resumed"

#: Seconds that counting all files is to take in the process that is killed; the shortest and the longest for a file.
SECONDS: Final = 2.0
PACES: Final = (0.02, 0.25)

#: Steps at a time, as `dramaturg.run` does.
THREADS: Final = 8

#: Seconds between two looks, and until a child that does not get on is given up.
LOOK: Final = 0.03
PATIENCE: Final = 60.0


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Job:
    """What the children run, and where.

    Attributes:
      folder: whose files are counted.
      output: where the report, the ledger and the children's log go.
      limit: of files.
      database_url: of the demo's own database.
    """

    folder: Path
    output: Path
    limit: int
    database_url: str

    @property
    def ledger(self) -> Path:
        """Where the steps note that they run."""
        return self.output / "ledger.jsonl"

    @property
    def log(self) -> Path:
        """Where the children's own output goes."""
        return self.output / "child.log"


@dataclass(frozen=True, slots=True)
class Killed:
    """What the first process left.

    Attributes:
      seconds: that it lived.
    """

    pid: int
    history: list[Event]
    seconds: float


@dataclass(frozen=True, slots=True)
class Resumed:
    """What the second process did.

    Attributes:
      first_outcome: seconds from its start, Python's own included, until the history had a new outcome.
      seconds: until it ended.
    """

    pid: int
    history: list[Event]
    first_outcome: float
    seconds: float


def run_and_kill(job: Job, client: Client, on_progress: Callable[[int, int], object]) -> Killed:
    """Start the run in a process group of its own and kill it once half of its steps are recorded.

    Parameters:
      on_progress: told how many steps are completed and scheduled.

    Raises:
      DemoFailed: the process ended, or does not get on.
    """
    started = time.monotonic()
    with child(job) as process:
        _until(lambda: _half_way(client, on_progress), process, job)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    # Nobody writes any more: what is read now is what the kill left.
    return Killed(process.pid, history_of(client), time.monotonic() - started)


def resume(job: Job, client: Client, killed: Killed) -> Resumed:
    """Start a new process on the same run and wait until it ends.

    Raises:
      DemoFailed: the process failed, or does not get on.
    """
    started = time.monotonic()
    outcomes = _outcomes(killed.history)
    with child(job) as process:
        _until(lambda: _outcomes(history_of(client)) > outcomes or None, process, job)
        first_outcome = time.monotonic() - started
        if _wait(process) != 0:
            raise DemoFailed(f"the process that resumes the run failed:\n{_tail(job.log)}")
    return Resumed(process.pid, history_of(client), first_outcome, time.monotonic() - started)


def evidence_of(job: Job, killed: Killed, resumed: Resumed) -> Evidence:
    """Both histories and the ledger."""
    return Evidence(killed.history, resumed.history, read_ledger(job.ledger), killed.pid)


def history_of(client: Client) -> list[Event]:
    """The run's history, as it is recorded now."""
    return list(client.handle(RUN_ID).events())


@contextmanager
def child(job: Job) -> Generator[subprocess.Popen[bytes]]:
    """A process of the demo's in a session of its own; whatever happens, nothing of it is left."""
    command = [sys.executable, "-m", "dramaturg.demo.child", RUN_ID, str(job.folder), str(job.output), str(job.limit)]
    with job.log.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 -- our own module
            command,
            # There: no dramaturg.toml of the user's is found, and no folder of theirs shadows a package.
            cwd=job.output,
            env=environment_of(job),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def environment_of(job: Job) -> dict[str, str]:
    """The environment of a child: the demo's database, and no setting of the user's."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("DRAMATURG_")}
    pace = min(max(SECONDS * THREADS / job.limit, PACES[0]), PACES[1])
    return {**own, "DRAMATURG_DATABASE_URL": job.database_url, LEDGER: str(job.ledger), PACE: str(pace)}


def _half_way(client: Client, on_progress: Callable[[int, int], object]) -> bool | None:
    try:
        progress = client.handle(RUN_ID).describe().progress
    except NotFound:
        return None
    scheduled, completed = progress.get("scheduled", 0), progress.get("completed", 0)
    on_progress(completed, scheduled)
    return (completed >= 2 and completed * 2 >= scheduled) or None


def _until(look: Callable[[], T | None], process: subprocess.Popen[bytes], job: Job) -> T:
    deadline = time.monotonic() + PATIENCE
    while True:
        has_ended = process.poll() is not None
        seen = look()
        if seen is not None:
            return seen
        if has_ended:
            raise DemoFailed(f"the process ended too early, with {process.returncode}:\n{_tail(job.log)}")
        if time.monotonic() > deadline:
            raise DemoFailed(f"the process does not get on since {PATIENCE:g} s; see {job.log}")
        threading.Event().wait(LOOK)


def _wait(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        raise DemoFailed(f"the process that resumes the run has not ended after {PATIENCE:g} s") from None


def _outcomes(events: list[Event]) -> int:
    return sum(event.type in OUTCOMES for event in events)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
