"""A stock worker of bare Dramatiq: ``python -m benchmarks.bare_worker URL PROCESSES THREADS``, until SIGTERM."""

from __future__ import annotations

import os
import signal
import sys

import dramatiq
from dramatiq.brokers.redis import RedisBroker


def null_actor(url: str) -> dramatiq.Actor[[int], int]:
    """An actor as null as our step, on a stock broker with its default middleware."""
    broker = RedisBroker(url=url, namespace="bare")  # type: ignore[no-untyped-call]

    def null(value: int) -> int:
        return value + 1

    return dramatiq.Actor(null, broker=broker, actor_name="null", queue_name="default", priority=0, options={})


def serve(url: str, threads: int) -> None:
    """Work until a signal."""
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    worker = dramatiq.Worker(null_actor(url).broker, worker_threads=threads)
    worker.start()
    signal.sigwait(signals)
    worker.stop()


def main(url: str, processes: int, threads: int) -> None:
    """Serve in as many processes, this one among them."""
    others: list[int] = []
    for _ in range(processes - 1):
        child = os.fork()
        if child == 0:
            serve(url, threads)
            return
        others.append(child)
    serve(url, threads)
    for child in others:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
