"""Steps that run in processes of their own, which import them from here."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from dramaturg import FatalError, current_step, step

_calls = itertools.count(1)


@step(isolation="process")
def isolated_pid(path: str = "") -> tuple[int, int]:
    """Where it runs, and how often this process was asked."""
    return os.getpid(), next(_calls)


@step(isolation="process")
def isolated_echo(value: Any) -> Any:
    return value


@step(isolation="process")
def isolated_large(size: int) -> str:
    return "x" * size


@step(isolation="process", retries=0)
def isolated_error() -> None:
    raise LookupError("nobody there")


@step(isolation="process")
def isolated_fatal() -> None:
    raise FatalError("no use")


@step(isolation="process")
def isolated_context() -> dict[str, Any]:
    about = current_step()
    assert about is not None
    return {
        "name": about.name,
        "key": about.idempotency_key,
        "attempt": about.attempt,
        "cancelled": about.cancelled,
        "stopping": about.stopping,
    }


def _tell(path: str) -> None:
    """Say that the step is about to begin what does not end."""
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")


@step(isolation="process", retries=1)
def isolated_beating() -> list[Any]:
    """Tells how far it is, and goes on from there at its second attempt."""
    about = current_step()
    assert about is not None
    if about.attempt == 1:
        about.heartbeat("row", 7)
        about.progress(7, 10, "rows")
        raise ConnectionError("lost")
    return list(about.last_heartbeat)


@step(isolation="process", retries=0)
def isolated_busy(path: str) -> None:
    """A loop in Python."""
    _tell(path)
    while True:
        pass


@step(isolation="process", retries=0)
def isolated_c_call(path: str) -> None:
    """A call into C that holds the lock of the interpreter and does not return."""
    _tell(path)
    re.match(r"(a+)+$", "a" * 60 + "b")


@step(isolation="process", retries=0)
def isolated_sleep(path: str) -> None:
    """A system call."""
    _tell(path)
    ctypes.CDLL(None).sleep(10_000)


@step(isolation="process", retries=0)
def isolated_stubborn(path: str) -> None:
    """Swallows whatever can be swallowed."""
    _tell(path)
    while True:
        with contextlib.suppress(BaseException):
            threading.Event().wait(0.1)


@step(isolation="process", retries=1)
def isolated_dies_once(path: str, how: str) -> str:
    """Ends its process at the first attempt."""
    about = current_step()
    assert about is not None
    if about.attempt == 1:
        _die(how)
    return f"survived {how}"


@step(isolation="process", retries=0)
def isolated_dies(how: str) -> None:
    _die(how)


def _die(how: str) -> None:
    match how:
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(3)
        case "sys.exit":
            sys.exit("bye")
        case _:
            os.kill(os.getpid(), signal.SIGKILL)


def pids_in(path: Path) -> list[int]:
    """Those that said that they began."""
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


@step(name="isolated_left_open", isolation="process")
def isolated_left_open(path: str) -> int:
    context = current_step()
    assert context is not None
    Path(path).write_text(context.complete_later())
    return -1
