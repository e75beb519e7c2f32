"""Absurd on PostgreSQL: two worker processes of eight threads; steps run in the process of their task."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from absurd_sdk import Absurd
from measuring import measure

URL = os.environ["PEER_POSTGRES"]
POLL = 0.02


def worker() -> None:
    app, children = Absurd(URL, queue_name="bench"), Absurd(URL, queue_name="children")

    @app.register_task(name="chain")
    def chain(params, ctx):
        value = 0
        for number in range(params["length"]):
            value = ctx.step(f"s{number}", lambda value=value: value + 1)
        return value

    @app.register_task(name="fan_out")
    def fan_out(params, ctx):
        def spawn() -> list[str]:
            return [str(app.spawn("null", {"value": 0}, queue="children")["task_id"]) for _ in range(params["width"])]

        return len([ctx.await_task_result(each, queue_name="children") for each in ctx.step("spawn", spawn)])

    @children.register_task(name="null")
    def null(params, ctx):
        return params["value"] + 1

    threading.Thread(
        target=children.start_worker, kwargs={"concurrency": 8, "poll_interval": POLL}, daemon=True
    ).start()
    app.start_worker(concurrency=8, poll_interval=POLL)


class Tasks:
    def __init__(self) -> None:
        self.app = Absurd(URL, queue_name="bench")

    def chains(self, runs: int, length: int) -> None:
        ids = [self.app.spawn("chain", {"length": length}, queue="bench")["task_id"] for _ in range(runs)]
        self._wait(ids)

    def fan_out(self, width: int) -> None:
        self._wait([self.app.spawn("fan_out", {"width": width}, queue="bench")["task_id"]])

    def _wait(self, ids: list[str]) -> None:
        # Its own way to wait doubles its pauses; this one asks for all at once.
        while left := [each for each in ids if self._is_open(each)]:
            ids = left
            time.sleep(0.002)

    def _is_open(self, task_id: str) -> bool:
        found = self.app.fetch_task_result(task_id, queue_name="bench")
        if found is None or found.state not in ("completed", "failed", "cancelled"):
            return True
        assert found.state == "completed", found
        return False


def main() -> None:
    ctl = Path(sys.executable).parent / "absurdctl"
    environment = {**os.environ, "ABSURD_DATABASE_URL": URL}
    for arguments in (["init"], ["create-queue", "bench"], ["create-queue", "children"]):
        subprocess.run([str(ctl), *arguments], env=environment, check=True, stdout=sys.stderr)
    workers = [subprocess.Popen([sys.executable, __file__, "worker"], stdout=sys.stderr) for _ in range(2)]
    try:
        measure(Tasks())
    finally:
        for each in workers:
            each.kill()
            each.wait(30)


if __name__ == "__main__":
    worker() if sys.argv[1:] == ["worker"] else main()
