"""`AsyncClient`: the verbs of `Client`, none of which holds up the event loop or one of its threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

import dramaturg
from dramaturg import (
    AsyncClient,
    NotFound,
    Settings,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowTerminated,
    sleep,
    step,
    workflow,
)

T = TypeVar("T")
PATIENCE = 20.0


def in_loop(main: Coroutine[Any, Any, T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(PATIENCE):
            return await main

    return asyncio.run(bounded())


def test_every_verb_works(url: str) -> None:
    @step
    async def double(number: int) -> int:
        return 2 * number

    @workflow
    async def twice(number: int) -> int:
        return await double(number)

    @workflow
    async def broken() -> None:
        raise ValueError("no")

    async def main() -> None:
        async with dramaturg.engine(config=Settings(database_url=url)) as client:
            handle = await client.start(twice, 4, id="it")
            assert await handle == 8
            assert await handle.result("10s") == 8
            assert (await handle.describe()).status == "COMPLETED"
            assert [event.type async for event in handle.events()][-1] == "run.completed"
            assert [event.type async for event in handle.events(follow=True)][-1] == "run.completed"
            assert client.handle("it").run_id == handle.run_id
            many = await client.start_many(twice, [(1,), (2,)])
            assert await client.results(many, timeout=10) == [2, 4]
            assert len(await client.runs(workflow="twice")) == 3
            assert await client.count(status="COMPLETED") == 3
            with pytest.raises(WorkflowFailed, match="no"):
                await (await client.start(broken))
            with pytest.raises(NotFound):
                await client.handle("nothing").result()

    in_loop(main())


def test_runs_are_stopped(url: str) -> None:
    @workflow
    async def sleeper() -> None:
        await sleep("1h")

    async def main() -> None:
        async with dramaturg.engine(config=Settings(database_url=url)) as client:
            first, second = await client.start(sleeper), await client.start(sleeper)
            await first.cancel(by="ann")
            await second.terminate()
            with pytest.raises(WorkflowCancelled):
                await first
            with pytest.raises(WorkflowTerminated):
                await second

    in_loop(main())


def test_hundreds_that_wait_do_not_keep_others_from_calling(url: str) -> None:
    @workflow
    async def sleeper() -> None:
        await sleep("1h")

    async def main() -> None:
        async with dramaturg.engine(config=Settings(database_url=url)) as client:
            handles = await client.start_many(sleeper, [()] * 100)
            waiting = [asyncio.create_task(handle.result()) for handle in handles]
            following = [asyncio.create_task(_last_of(handle)) for handle in handles[:20]]
            await asyncio.sleep(0)

            for handle in handles:
                await handle.terminate()

            assert await asyncio.gather(*following) == ["run.terminated"] * 20
            ends = await asyncio.gather(*waiting, return_exceptions=True)
            assert {type(end) for end in ends} == {WorkflowTerminated}

    in_loop(main())


async def _last_of(handle: dramaturg.AsyncHandle[Any]) -> str:
    last = ""
    async for event in handle.events(follow=True):
        last = event.type
    return last


def test_a_wait_that_is_given_up_leaves_no_thread_that_waits(url: str) -> None:
    @workflow
    async def sleeper() -> None:
        await sleep("1h")

    before = threading.active_count()

    async def main() -> None:
        async with AsyncClient(Settings(database_url=url)) as client:
            handle = await client.start(sleeper)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(handle.result(), 0.01)
            with pytest.raises(TimeoutError, match="it waits for a coordinator"):
                await handle.result(0.01)

    in_loop(main())

    assert threading.active_count() == before


def test_a_result_is_told_at_once_and_not_at_the_next_look(url: str) -> None:
    may_end = threading.Event()

    @step
    def gate() -> str:
        assert may_end.wait(PATIENCE)
        return "open"

    @workflow
    async def flow() -> str:
        return await gate()

    async def main() -> None:
        engine = dramaturg.engine(config=Settings(database_url=url))
        engine.client._link.notices._period = 3600.0  # pyright: ignore[reportPrivateUsage]
        async with engine as client:
            handle = await client.start(flow)
            waiting = asyncio.create_task(handle.result())
            await handle.describe()
            may_end.set()
            assert await waiting == "open"

    in_loop(main())
