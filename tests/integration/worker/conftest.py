"""A real Redis, and real worker processes on it."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from dramaturg_protocol.ids import new_message_id
from dramaturg_protocol.redis_client import connect
from tests.unit.actors.redis_workshop import RedisWorkshop

REDIS_URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
WAIT_SECONDS = 60.0


@pytest.fixture(scope="session")
def redis_client() -> Iterator[redis.Redis]:
    client = connect(REDIS_URL)
    try:
        client.ping()  # pyright: ignore[reportUnknownMemberType]
    except redis.RedisError as error:
        # At a desk it may be missing; where everything is to be tested it may not.
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Redis at {REDIS_URL}: {error}")
    with client:
        yield client


@pytest.fixture
def shop(redis_client: redis.Redis) -> Iterator[RedisWorkshop]:
    """The coordinator's side of a namespace of its own."""
    namespace = f"dramaturg_test_{new_message_id()}"
    client: Any = redis_client
    yield RedisWorkshop(client, namespace)
    for key in client.scan_iter(f"{namespace}:*", count=1000):
        client.delete(key)


class Command:
    """A command that runs, and what it prints."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def line_with(self, text: str) -> str:
        """The next line that contains a text."""
        due = time.monotonic() + WAIT_SECONDS
        while True:
            line = self._lines.get(timeout=max(0.0, due - time.monotonic()))
            assert line is not None, f"it ended and never said {text!r}:\n{''.join(self.said)}"
            if text in line:
                return line

    def pid_ready(self) -> int:
        """The pid of the next process that is ready."""
        return int(self.line_with("is ready").partition("pid ")[2].partition(")")[0])

    def terminate(self) -> int:
        """SIGTERM, and the exit code that follows."""
        self.process.send_signal(signal.SIGTERM)
        return self.code()

    def code(self) -> int:
        """The exit code, once it has ended."""
        code = self.process.wait(WAIT_SECONDS)
        self._reader.join(WAIT_SECONDS)
        return code

    def end(self) -> None:
        """End it by all means; its children end with it."""
        self.process.kill()
        self.process.wait()
        self._reader.join(WAIT_SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            self._lines.put(line)
        self._lines.put(None)


@pytest.fixture
def run(tmp_path: Path, shop: RedisWorkshop) -> Iterator[Callable[..., Command]]:
    """Run ``python -m …`` in a folder with a module ``jobs`` of the given code."""
    made: list[Command] = []

    def start(code: str, *arguments: str, **settings: str) -> Command:
        (tmp_path / "jobs.py").write_text(code)
        here = {name: value for name, value in os.environ.items() if not name.startswith("DRAMATURG_")}
        given = {"BROKER_URL": REDIS_URL, "NAMESPACE": shop.namespace, "METRICS_PORT": "0", **settings}
        environment = {
            **here,
            **{f"DRAMATURG_{name}": value for name, value in given.items()},
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(tmp_path),
            "TEST_REDIS_URL": REDIS_URL,
            "TEST_NAMESPACE": shop.namespace,
        }
        made.append(Command(list(arguments), tmp_path, environment))
        return made[-1]

    yield start
    for each in made:
        each.end()


@pytest.fixture
def unused_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
