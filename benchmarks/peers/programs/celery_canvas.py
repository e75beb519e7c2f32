"""Celery: canvas over Redis, a worker of two prefork processes. Not durable: workflows live in Redis alone."""

from __future__ import annotations

import os
import subprocess
import sys

from celery import Celery, chain, chord
from measuring import measure, wait_until

URL = os.environ["PEER_REDIS"]
app = Celery("celery_canvas", broker=URL, backend=URL)
app.conf.task_acks_late = False


@app.task(name="null")
def null(value: int) -> int:
    return value + 1


@app.task(name="total")
def total(values: list[int]) -> int:
    return sum(values)


class Canvas:
    def chains(self, runs: int, length: int) -> None:
        results = [chain(null.s(0), *[null.s() for _ in range(length - 1)]).apply_async() for _ in range(runs)]
        assert all(result.get(timeout=120) == length for result in results)

    def fan_out(self, width: int) -> None:
        assert chord([null.s(0) for _ in range(width)])(total.s()).get(timeout=120) == width


def main() -> None:
    command = ["--app", "celery_canvas", "worker", "--concurrency", "2", "--loglevel", "error"]
    worker = subprocess.Popen([sys.executable, "-m", "celery", *command], stdout=sys.stderr)
    try:
        wait_until(lambda: app.control.ping(timeout=1), 60)
        measure(Canvas(), W4=(1, 200))
    finally:
        worker.terminate()
        worker.wait(30)


if __name__ == "__main__":
    main()
