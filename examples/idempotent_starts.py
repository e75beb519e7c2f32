"""Many start, one runs: several processes start the same order at the same moment, under one idempotency key.

    python examples/idempotent_starts.py

This is what a web application does that receives the same request twice, or a consumer whose queue delivers at least
once. Clients need no connection to this process: they write into the database, and the engine finds it there. Start the
example a second time in the same folder: nothing is shipped any more.
"""

from __future__ import annotations

import subprocess
import sys

import dramaturg
from dramaturg import Client, IdempotencyMismatch, step, workflow

PROCESSES = 4


@step
def ship(order_id: str, parcels: int) -> str:
    """Runs once for an order, however many asked."""
    print(f"shipping {parcels} parcel(s) of {order_id}", flush=True)
    return f"{order_id} is on its way"


@workflow
async def fulfil(order_id: str, parcels: int) -> str:
    """One run for each order."""
    return await ship(order_id, parcels)


def ask(order_id: str, parcels: int) -> None:
    """Any process that reaches the database: start the order's run, or find it."""
    with Client() as client:
        handle = client.start(fulfil, order_id, parcels, idempotency_key=order_id)
        print(f"{handle.run_id}: {handle.result(timeout='30s')}", flush=True)


def main() -> None:
    """Serve in this process, and let others ask."""
    with dramaturg.engine(threads=2) as client:
        command = [sys.executable, __file__, "ask", "A-1", "2"]
        asking = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
        answers = [process.communicate()[0].strip() for process in asking]
        for answer in answers:
            print(f"process got {answer}")
        print(f"{len(set(answers))} run for {PROCESSES} starts")
        try:
            client.start(fulfil, "A-1", 3, idempotency_key="A-1")
        except IdempotencyMismatch as error:
            print(f"other arguments under the same key: {type(error).__name__}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["ask"]:
        ask(sys.argv[2], int(sys.argv[3]))
    else:
        main()
