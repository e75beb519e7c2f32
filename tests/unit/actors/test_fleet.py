"""The fleet: children of one command, replaced when they die, ended together."""

from __future__ import annotations

import logging
import os
import queue
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dramaturg_actors import fleet as fleet_module
from dramaturg_actors.fleet import Fleet

WAIT_SECONDS = 20.0

pytestmark = pytest.mark.slow

# A child that tells the test its pid over a named pipe; `then` is what it does once it is ready.
CHILD = """
import os, signal, sys, threading
from dramaturg_actors.fleet import enlist
alone = threading.Event()
tell_ready = enlist(alone.set)
def tell(text):
    with open({pipe!r}, "a") as pipe:
        pipe.write(f"{{text}} {{os.getpid()}}\\n")
{then}
"""
UNTIL_TERM = """
signal.signal(signal.SIGTERM, lambda *_: (tell("term"), os._exit(0)))
tell_ready(); tell("up")
while not alone.wait(0.05): pass
tell("alone")
"""
DEAF = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
tell_ready(); tell("up")
alone.wait()
"""
SAYS_NO = "os._exit(7)"
SAYS_NO_LATER = 'tell_ready(); tell("up"); os._exit(7)'


class Lines:
    """What the children tell, line by line."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        # Open for both: reading never ends because a writer went away.
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""

    def next(self) -> tuple[str, int]:
        while b"\n" not in self._rest:
            assert select.select([self._fd], [], [], WAIT_SECONDS)[0], f"nothing came; so far {self._rest!r}"
            self._rest += os.read(self._fd, 4096)
        line, _, self._rest = self._rest.partition(b"\n")
        word, pid = line.decode().split()
        return word, int(pid)

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Lines]:
    made = Lines(tmp_path / "told")
    yield made
    made.close()


def command(tmp_path: Path, then: str) -> list[str]:
    return [sys.executable, "-c", CHILD.format(pipe=str(tmp_path / "told"), then=then)]


class Running:
    """A fleet that runs in a thread."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._codes: queue.Queue[int] = queue.Queue()
        self._thread = threading.Thread(target=lambda: self._codes.put(fleet.run()))
        self._thread.start()

    def code(self) -> int:
        code = self._codes.get(timeout=WAIT_SECONDS)
        self._thread.join(WAIT_SECONDS)
        return code

    def end(self) -> None:
        while self._thread.is_alive():
            self.fleet.stop()
            self._thread.join(0.1)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def run(then: str, **options: Any) -> Running:
        settings: dict[str, Any] = {"processes": 1, "shutdown_seconds": 10.0, **options}
        made.append(Running(Fleet(command(tmp_path, then), **settings)))
        return made[-1]

    yield run
    for each in made:
        each.end()


def test_told_to_stop_it_ends_all_and_gives_0(running: Callable[..., Running], lines: Lines) -> None:
    ended: list[int] = []
    here = running(UNTIL_TERM, processes=2, on_end=ended.append)
    pids = {lines.next()[1] for _ in range(2)}
    assert here.fleet.check() == "2 alive"

    here.fleet.stop()

    assert here.code() == 0
    assert {lines.next(), lines.next()} == {("term", pid) for pid in pids}
    assert set(ended) == pids


def test_a_process_that_is_killed_is_replaced_and_it_says_so(
    running: Callable[..., Running], lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    running(UNTIL_TERM)
    _, first = lines.next()

    os.kill(first, signal.SIGKILL)

    word, second = lines.next()
    assert word == "up"
    assert second != first
    assert f"process 1 (pid {first}) was killed by SIGKILL; another starts in 0.1 s" in caplog.text


def test_a_process_that_keeps_ending_is_replaced_at_growing_pauses(
    running: Callable[..., Running], lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    here = running(SAYS_NO_LATER)

    for _ in range(3):
        lines.next()
    here.fleet.stop()

    assert here.code() == 0
    assert "ended with exit code 7; another starts in 0.1 s" in caplog.text
    assert "ended with exit code 7; another starts in 0.2 s" in caplog.text


def test_one_that_cannot_start_ends_the_fleet_with_its_code(
    running: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    here = running(SAYS_NO, processes=2)

    assert here.code() == 7
    assert "did not start: the worker ends" in caplog.text


def test_one_that_does_not_end_in_time_is_killed(
    running: Callable[..., Running], lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "KILL_GRACE_SECONDS", 0.1)
    here = running(DEAF, shutdown_seconds=0.1)
    lines.next()

    here.fleet.stop()

    assert here.code() == 1


def test_told_twice_it_kills_at_once(running: Callable[..., Running], lines: Lines) -> None:
    here = running(DEAF, shutdown_seconds=3600)
    lines.next()

    here.fleet.stop()
    here.fleet.stop()

    assert here.code() == 1


def test_a_child_ends_when_its_parent_is_gone(tmp_path: Path, lines: Lines) -> None:
    code = "import sys; from dramaturg_actors.fleet import Fleet; Fleet(sys.argv[1:], processes=1, shutdown_seconds=1).run()"
    parent = subprocess.Popen([sys.executable, "-c", code, *command(tmp_path, UNTIL_TERM)])
    _, child = lines.next()

    parent.kill()
    parent.wait()

    assert lines.next() == ("alone", child)


def test_the_fleet_says_when_a_process_is_ready(
    running: Callable[..., Running], lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dramaturg.worker")
    here = running(UNTIL_TERM)
    _, pid = lines.next()

    here.fleet.stop()
    here.code()

    assert f"process 1 (pid {pid}) is ready" in caplog.text
