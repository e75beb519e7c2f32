"""Coordinators and workers as processes of their own, and what they did, told while they do it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis

from dramaturg import Client, Handle, Settings
from dramaturg_protocol.redis_client import connect, is_redis_url
from dramaturg_protocol.redis_keys import RedisKeys
from dramaturg_store.database import Database
from dramaturg_store.engines import make_engine
from dramaturg_store.upgrade import upgrade

#: Seconds that anything may take.
PATIENCE = 60.0
STEPS = 10
PARTITIONS = 4

MODULE = """
import os, socket, threading
from dramaturg import current_step, step, workflow

ledger = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
ledger.connect(os.environ["LEDGER"])

def note(what: str = "did") -> None:
    context = current_step()
    ledger.send(f"{what} {context.run_id} {context.seq} {os.getpid()}".encode())

@step
def add(number: int) -> int:
    note()
    threading.Event().wait(0.004)
    return number + 1

@workflow
async def chain(number: int) -> int:
    for _ in range(10):
        number = await add(number)
    return number

@step
def hold(number: int) -> int:
    note("held")
    while number == 1 and not os.path.exists("free"):
        threading.Event().wait(0.02)
    return number

@workflow
async def holds(number: int) -> int:
    return await hold(number)
"""


class Ledger:
    """What steps say while they run, outside everything that Dramaturg writes."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._changed = threading.Condition()
        self.notes: list[tuple[datetime, str, str, int, int]] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def wait_for(self, count: int, seconds: float = PATIENCE) -> None:
        """Wait until that many steps were begun."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.notes) >= count, seconds), f"only {len(self.notes)} steps"

    def executions(self) -> Counter[tuple[str, int]]:
        """How often each step was begun."""
        with self._changed:
            return Counter((run_id, seq) for _, _, run_id, seq, _ in self.notes)

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _listen(self) -> None:
        while True:
            try:
                what, run_id, seq, pid = self._socket.recv(1000).decode().split()
            except (OSError, ValueError):
                return
            with self._changed:
                self.notes.append((datetime.now(UTC), what, run_id, int(seq), int(pid)))  # noqa: TID251 - compared with the machine's
                self._changed.notify_all()


class Process:
    """A process whose words can be waited for."""

    def __init__(self, command: Sequence[str], folder: Path, env: dict[str, str]) -> None:
        self.command = " ".join(command[1:4])
        self._process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.pid = self._process.pid
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._is_over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, pattern: str, seconds: float = PATIENCE, *, times: int = 1) -> str:
        """Wait until it says something, for the n-th time; the first group of it."""

        def find() -> str | None:
            found = [match for line in self.lines if (match := re.search(pattern, line))]
            return None if len(found) < times else (found[times - 1].groups() or (found[times - 1].group(),))[0]

        with self._changed:
            self._changed.wait_for(lambda: find() is not None or self._is_over, seconds)
            said = find()
        assert said is not None, f"{self.command} did not say {pattern!r} {times} time(s):\n" + "\n".join(self.lines)
        return said

    def said(self) -> str:
        with self._changed:
            return "\n".join(self.lines)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def signal_all(self, number: int) -> None:
        """Signal it and its children: a machine that stops, or goes on."""
        for pid in [self.pid, *self.children()]:
            os.kill(pid, number)

    def children(self) -> list[int]:
        """The pids of the processes that its main thread started."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait(PATIENCE)

    def terminate(self) -> int:
        """Stop it gracefully; its exit code."""
        self._process.terminate()
        return self._process.wait(PATIENCE)

    def wait(self) -> int:
        """Wait until it ends by itself; its exit code."""
        return self._process.wait(PATIENCE)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
        self._reader.join(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line.rstrip())
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()


class Fleet:
    """Coordinators and workers of one namespace."""

    def __init__(self, folder: Path, *, database_url: str, broker_url: str, namespace: str, **settings: str) -> None:
        self._folder = folder
        self.namespace = namespace
        self.database_url = database_url
        self.keys = RedisKeys(namespace)
        (folder / "orders.py").write_text(MODULE)
        self.ledger = Ledger(folder / "ledger")
        engine = make_engine(database_url)
        upgrade(engine, namespace, PARTITIONS)
        engine.dispose()
        with Database(database_url, namespace) as database:
            self.partitions = list(database.partitions)
        self.settings = Settings(database_url=database_url, broker_url=broker_url, namespace=namespace)
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DRAMATURG_")},
            "DRAMATURG_DATABASE_URL": database_url,
            "DRAMATURG_BROKER_URL": broker_url,
            "DRAMATURG_NAMESPACE": namespace,
            "DRAMATURG_METRICS_PORT": "0",
            "LEDGER": str(folder / "ledger"),
            **settings,
        }
        # Tests of other brokers do not ask for it.
        self.redis: redis.Redis = connect(broker_url if is_redis_url(broker_url) else "redis://127.0.0.1:1")
        self.processes: list[Process] = []
        self.client = Client(self.settings)

    def write(self, module: str, text: str) -> None:
        """Write a module of workflows."""
        (self._folder / f"{module}.py").write_text(text)

    def coordinator(self, *modules: str) -> Process:
        """Start one; besides the modules named it serves `MODULE`."""
        return self._start("coordinator", "orders", *modules)

    def worker(self, *options: str) -> Process:
        """Start one; its steps run in a child."""
        return self._start("worker", "orders", "-t", "4", "--shutdown-timeout", "1s", *options)

    def child_of(self, worker: Process, *, times: int = 1) -> int:
        """The pid of a worker's process, once it serves."""
        return int(worker.wait_for(r"process 1 \(pid (\d+)\) is ready", times=times))

    def start(self, workflow: str, count: int) -> list[Handle[Any]]:
        """Start many runs; the n-th gets n."""
        return self.client.start_many(workflow, [(number,) for number in range(count)])

    def free(self) -> None:
        """Let `hold` go on."""
        (self._folder / "free").touch()

    def close(self) -> None:
        self.free()
        for process in self.processes:
            process.close()
        self.client.close()
        self.redis.close()
        self.ledger.close()

    def script(self, text: str) -> Process:
        """Run a script."""
        return self._run([sys.executable, "-u", "-c", text])

    def _start(self, *arguments: str) -> Process:
        return self._run([sys.executable, "-u", "-c", "from dramaturg.cli.app import main; main()", *arguments])

    def _run(self, command: Sequence[str]) -> Process:
        process = Process(command, self._folder, self._env)
        self.processes.append(process)
        return process


def balance(fleet: Fleet, handles: Sequence[Handle[Any]], *, seconds: float = 120.0) -> Counter[tuple[str, int]]:
    """Wait for all runs of `chain`, started at once, and compare the books; how often each step was begun.

    Right results; one outcome for each position; events numbered without gaps; nothing begun after it was recorded.
    """
    results = fleet.client.results(handles, timeout=seconds)
    assert results == [number + STEPS for number in range(len(handles))]
    recorded: dict[tuple[str, int], datetime] = {}
    for handle in handles:
        events = list(handle.events())
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        outcomes = [event for event in events if event.type == "step.completed"]
        assert sorted(event.data["seq"] for event in outcomes) == list(range(1, STEPS + 1))
        recorded.update({(handle.run_id, event.data["seq"]): event.time for event in outcomes})
    late = [
        (run_id, seq, f"{(at - recorded[run_id, seq]).total_seconds():.3f} s", f"process {pid}")
        for at, _, run_id, seq, pid in fleet.ledger.notes
        # The time of an event is that of the turn's beginning.
        if (run_id, seq) in recorded and (at - recorded[run_id, seq]).total_seconds() > 1.0
    ]
    assert late == [], f"{len(late)} step(s) were begun after they were recorded, as {late[:3]}"
    executions = fleet.ledger.executions()
    assert recorded.keys() <= executions.keys()
    return Counter({key: executions[key] for key in recorded})


def wait_until(condition: Any, seconds: float = PATIENCE) -> None:
    """Ask again and again, for what tells nobody."""
    due = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < due, "it did not become true in time"
        threading.Event().wait(0.02)
