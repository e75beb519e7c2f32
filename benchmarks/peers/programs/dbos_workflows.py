"""DBOS on PostgreSQL: steps run in the process of their workflow, each recorded in a transaction of its own."""

from __future__ import annotations

import asyncio
import os

from dbos import DBOS
from measuring import measure

DBOS(config={"name": "bench", "system_database_url": os.environ["PEER_POSTGRES"], "log_level": "ERROR"})


@DBOS.step()
def null(value: int) -> int:
    return value + 1


@DBOS.step()
async def null_async(value: int) -> int:
    return value + 1


@DBOS.workflow()
def chain(length: int) -> int:
    value = 0
    for _ in range(length):
        value = null(value)
    return value


@DBOS.workflow()
async def fan_out(width: int) -> int:
    return sum(await asyncio.gather(*[null_async(0) for _ in range(width)]))


class InProcess:
    def chains(self, runs: int, length: int) -> None:
        handles = [DBOS.start_workflow(chain, length) for _ in range(runs)]
        assert all(handle.get_result() == length for handle in handles)

    def fan_out(self, width: int) -> None:
        assert asyncio.run(fan_out(width)) == width


def main() -> None:
    DBOS.launch()
    try:
        measure(InProcess())
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    main()
