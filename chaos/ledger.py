"""What steps did, told outside everything that Dramaturg writes: one line a fact, appended to one file.

A line is one `os.write` to a file opened for appending, so lines of many processes do not mix, and what was written
stays when its process is killed a moment later.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dramaturg import current_step

#: The environment variable in which a worker finds the file.
LEDGER = "CHAOS_LEDGER"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line.

    Attributes:
      what: ``begun``, or ``done`` just before the step returns or raises.
      at: seconds since the epoch, by the machine's clock.
      key: the idempotency key that the step was given.
    """

    what: str
    at: float
    run_id: str
    seq: int
    attempt: int
    key: str
    pid: int


def note(what: str) -> None:
    """Write down what the step that calls this does now; outside a step there is nothing to write."""
    context = current_step()
    if context is None:
        return
    facts: dict[str, Any] = {
        "what": what,
        "at": time.time(),
        "run_id": context.run_id,
        "seq": context.seq,
        "attempt": context.attempt,
        "key": context.idempotency_key,
        "pid": os.getpid(),
    }
    descriptor = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, json.dumps(facts).encode() + b"\n")
    finally:
        os.close(descriptor)


def read(path: Path) -> Iterator[Entry]:
    """Every line of a ledger."""
    if path.exists():
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield Entry(**json.loads(line))


def count_done(path: Path) -> int:
    """How many steps came to their end so far."""
    return sum(entry.what == "done" for entry in read(path))
