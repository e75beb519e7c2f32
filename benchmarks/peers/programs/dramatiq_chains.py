"""dramatiq-workflow: chains and groups of Dramatiq messages over Redis, one process of eight threads. Not durable."""

from __future__ import annotations

import os
import subprocess
import sys
from uuid import uuid4

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.rate_limits.backends import RedisBackend
from dramatiq_workflow import Chain, Group, Workflow, WorkflowMiddleware
from measuring import measure, wait_until

URL = os.environ["PEER_REDIS"]
client = redis.Redis.from_url(URL)
broker = RedisBroker(url=URL)
broker.add_middleware(WorkflowMiddleware(RedisBackend(url=URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(actor_name="null")
def null(value: int) -> int:
    return value + 1


@dramatiq.actor(actor_name="last")
def last(name: str) -> None:
    client.incr(name)


class Workflows:
    # No result passes from one task to the next, and nothing tells of an end: the last step counts.
    def chains(self, runs: int, length: int) -> None:
        name = f"ends:{uuid4()}"
        for _ in range(runs):
            Workflow(Chain(*[null.message(0) for _ in range(length - 1)], last.message(name))).run()
        wait_until(lambda: int(client.get(name) or 0) == runs, period=0.001 if runs == 1 else 0.01)

    def fan_out(self, width: int) -> None:
        name = f"ends:{uuid4()}"
        Workflow(Chain(Group(*[null.message(0) for _ in range(width)]), last.message(name))).run()
        wait_until(lambda: client.get(name))


def main() -> None:
    command = [sys.executable, "-m", "dramatiq", "dramatiq_chains", "--processes", "1", "--threads", "8"]
    worker = subprocess.Popen(command, stdout=sys.stderr)
    try:
        measure(Workflows(), W4=(1, 200))
    finally:
        worker.terminate()
        worker.wait(30)


if __name__ == "__main__":
    main()
