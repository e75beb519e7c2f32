"""Restate: its server, and one process of handlers. ``run``: steps by `ctx.run`; ``call``: each step a call of another
handler, which any process may take.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import restate
from measuring import measure, wait_until
from restate import Context, Service

WAY = os.environ["PEER_WAY"]
INGRESS, ADMIN, HANDLERS = (int(port) for port in os.environ["PEER_PORTS"].split()[:3])
CONNECTIONS = 200

bench = Service("Bench")


@bench.handler()
async def null(ctx: Context, value: int) -> int:
    return value + 1


def _step(ctx: Context, value: int):
    if WAY == "call":
        return ctx.service_call(null, arg=value)
    return ctx.run_typed("null", lambda: value + 1)


@bench.handler()
async def chain(ctx: Context, length: int) -> int:
    value = 0
    for _ in range(length):
        value = await _step(ctx, value)
    return value


@bench.handler()
async def fan_out(ctx: Context, width: int) -> int:
    futures = [_step(ctx, 0) for _ in range(width)]
    await restate.gather(*futures)
    return sum([await future for future in futures])


app = restate.app([bench])


class Ingress:
    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(CONNECTIONS)
        self._local = threading.local()

    def chains(self, runs: int, length: int) -> None:
        assert all(result == length for result in self._pool.map(lambda _: self._call("chain", length), range(runs)))

    def fan_out(self, width: int) -> None:
        assert self._call("fan_out", width) == width

    def _call(self, handler: str, argument: int) -> int:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection("127.0.0.1", INGRESS)
        headers = {"content-type": "application/json", "idempotency-key": str(uuid4())}
        connection.request("POST", f"/Bench/{handler}", json.dumps(argument), headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {body[:300]!r}")
        return json.loads(body)


def _register() -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", ADMIN, timeout=20)
        body = json.dumps({"uri": f"http://127.0.0.1:{HANDLERS}", "force": True})
        connection.request("POST", "/deployments", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status in (200, 201)
    except OSError:
        return False


def main() -> None:
    command = [sys.executable, "-m", "hypercorn", "--bind", f"127.0.0.1:{HANDLERS}", "restate_handlers:app"]
    handlers = subprocess.Popen(command, stdout=sys.stderr)
    try:
        wait_until(_register, 60, 0.2)
        measure(Ingress())
    finally:
        handlers.terminate()
        handlers.wait(30)


if __name__ == "__main__":
    main()
