"""Commands in processes of their own, as somebody types them into terminals side by side."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

#: No wait of a test takes longer, however busy the machine is.
PATIENCE = 60.0

ORDERS = """
import time

from dramaturg import current_step, sleep, step, workflow

@step(retries=0)
def charge(order_id: str, cents: int) -> str:
    return f"{order_id}:{cents}"

@step(retries=0)
def divide(x: int) -> float:
    return 1 / x

@workflow
async def checkout(order_id: str, cents: int = 5) -> dict:
    return {"receipt": await charge(order_id, cents)}

@step
def copies(pages: int) -> int:
    for page in range(pages):
        current_step().progress(page + 1, pages, f"page {page + 1}")
        time.sleep(1.2)
    return pages

@workflow
async def copy(pages: int) -> int:
    return await copies(pages)

@workflow
async def fails() -> float:
    return await divide(0)

@workflow
async def naps(first: str, second: str = "1s") -> str:
    await sleep(first)
    await charge("between", 1)
    await sleep(second)
    return "rested"
"""


class Terminal:
    """One command that runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.seen: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        assert process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._reader.start()

    def wait_for(self, words: str) -> str:
        """The next line that holds these words."""
        while True:
            line = self._lines.get(timeout=PATIENCE)
            assert line is not None, f"{words!r} was never printed:\n{''.join(self.seen)}"
            if words in line:
                return line

    def end(self) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.end()

    @property
    def output(self) -> str:
        return "".join(self.seen)

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self.seen.append(line)
                self._lines.put(line)
        self._lines.put(None)


Dramaturg = Callable[..., Terminal]


@pytest.fixture
def dramaturg(tmp_path: Path) -> Iterator[Dramaturg]:
    """Types a command; stdout and stderr come together."""
    (tmp_path / "orders.py").write_text(ORDERS)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DRAMATURG_", "PYTEST_"))},
        "DRAMATURG_DATABASE_URL": f"sqlite:///{tmp_path}/dramaturg.db",
        "PYTHONUNBUFFERED": "1",
    }
    terminals: list[Terminal] = []

    def run(*typed: str, stderr: int = subprocess.STDOUT) -> Terminal:
        process = subprocess.Popen(
            [sys.executable, "-m", "dramaturg", *typed],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            # A shell's Ctrl-C reaches this group alone.
            start_new_session=True,
        )
        terminals.append(Terminal(process))
        return terminals[-1]

    yield run
    for terminal in terminals:
        terminal.close()


@pytest.fixture
def dev(dramaturg: Dramaturg) -> Terminal:
    """A running ``dramaturg dev``."""
    terminal = dramaturg("dev", "orders")
    terminal.wait_for("ready")
    return terminal


@pytest.fixture
def interrupt() -> Callable[[Terminal], None]:
    """Ctrl-C."""
    return lambda terminal: terminal.process.send_signal(signal.SIGINT)
