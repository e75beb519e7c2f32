"""Temporal: its development server, one worker process; each step is an activity, which any worker may take."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from uuid import uuid4

from measuring import measure
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

QUEUE = "bench"
LIMIT = timedelta(seconds=60)


@activity.defn
async def null(value: int) -> int:
    return value + 1


@workflow.defn
class Chain:
    @workflow.run
    async def run(self, length: int) -> int:
        value = 0
        for _ in range(length):
            value = await workflow.execute_activity(null, value, start_to_close_timeout=LIMIT)
        return value


@workflow.defn
class FanOut:
    @workflow.run
    async def run(self, width: int) -> int:
        calls = [workflow.execute_activity(null, 0, start_to_close_timeout=LIMIT) for _ in range(width)]
        return sum(await asyncio.gather(*calls))


class Workflows:
    def __init__(self, loop: asyncio.AbstractEventLoop, client: Client) -> None:
        self._loop = loop
        self._client = client

    def chains(self, runs: int, length: int) -> None:
        assert self._all(Chain.run, length, runs) == [length] * runs

    def fan_out(self, width: int) -> None:
        assert self._all(FanOut.run, width, 1) == [width]

    def _all(self, run, argument: int, runs: int) -> list[int]:
        async def start_and_wait() -> list[int]:
            start = self._client.start_workflow
            handles = [await start(run, argument, id=str(uuid4()), task_queue=QUEUE) for _ in range(runs)]
            return [await handle.result() for handle in handles]

        return asyncio.run_coroutine_threadsafe(start_and_wait(), self._loop).result()


async def main() -> None:
    client = await Client.connect(os.environ["PEER_TEMPORAL"])
    runner = UnsandboxedWorkflowRunner()
    async with Worker(client, task_queue=QUEUE, workflows=[Chain, FanOut], activities=[null], workflow_runner=runner):
        work = asyncio.to_thread(measure, Workflows(asyncio.get_running_loop(), client), W4=(1, 500), W5=(500, 1))
        await work


if __name__ == "__main__":
    asyncio.run(main())
