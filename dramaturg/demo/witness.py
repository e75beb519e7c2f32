"""The outside record: a ledger file with one line for each execution of a step, written when it begins.

A history says what was recorded; the ledger says what ran. Durability is that the two fit.
"""

from __future__ import annotations

import functools
import json
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from dramaturg import StepContext, current_step

P = ParamSpec("P")
R = TypeVar("R")

#: Environment variables: the ledger's path, and the seconds that each execution takes at least.
LEDGER: Final = "TEXTSTATS_LEDGER"
PACE: Final = "TEXTSTATS_PACE"


@dataclass(frozen=True, slots=True)
class Execution:
    """One line of the ledger: an attempt at a step that began."""

    key: str
    seq: int
    name: str
    attempt: int
    pid: int


def witnessed(fn: Callable[P, R]) -> Callable[P, R]:
    """Note each execution of a step in the ledger and slow it down, where the environment asks for it."""

    @functools.wraps(fn)
    def witness(*args: P.args, **kwargs: P.kwargs) -> R:
        this = current_step()
        ledger = os.environ.get(LEDGER)
        if this is not None and ledger:
            note(Path(ledger), this)
            threading.Event().wait(float(os.environ.get(PACE, "0")))
        return fn(*args, **kwargs)

    return witness


def note(ledger: Path, this: StepContext) -> None:
    """Add one line. A single short write in append mode is whole, also beside other threads and before a SIGKILL."""
    line = json.dumps(asdict(Execution(this.idempotency_key, this.seq, this.name, this.attempt, os.getpid()))) + "\n"
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def read_ledger(ledger: Path) -> list[Execution]:
    """All executions, in the order in which they began."""
    return [Execution(**json.loads(line)) for line in ledger.read_text(encoding="utf-8").splitlines()]
