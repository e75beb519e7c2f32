"""A worker as a process of its own: ``worker_process.py URL NAMESPACE``. It runs until it is killed."""

from __future__ import annotations

import sys
import threading

from dramaturg_actors.redis_broker import RedisBroker
from dramaturg_actors.worker import StepWorker
from dramaturg_protocol.definitions import Registry, StepDefinition
from dramaturg_protocol.redis_client import connect
from dramaturg_protocol.signatures import CallSchema


def main(url: str, namespace: str) -> None:
    client = connect(url)
    registry = Registry()

    def say_and_stay(name: str) -> None:
        client.rpush(f"{namespace}:signal:{name}", "began")
        threading.Event().wait()

    def say(name: str) -> None:
        client.rpush(f"{namespace}:signal:{name}", "began")

    for fn in (say_and_stay, say):
        registry.add_step(StepDefinition(fn.__name__, fn, CallSchema.of(fn, "step"), {}))
    broker = RedisBroker(url=url, namespace=namespace, middleware=[])
    StepWorker(broker, broker.report, registry=registry).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
