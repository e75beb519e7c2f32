"""A sample that the stack serves: parcels, of which some get lost, on two queues.

dramaturg start parcel --arg parcel_id=p1
"""

from __future__ import annotations

import asyncio
import random

from dramaturg import RetryPolicy, Schedule, sleep, step, workflow


class Lost(Exception):
    """The depot does not find the parcel at once."""


@step(queue="depot", retries=RetryPolicy(max_attempts=5, initial="500ms", maximum="2s"))
def find(parcel_id: str) -> int:
    if random.random() < 0.2:
        raise Lost(parcel_id)
    return len(parcel_id) * 100


@step(queue="depot", timeout="10s")
def weigh(grams: int) -> int:
    return grams + 30


@step
async def deliver(parcel_id: str, street: int) -> str:
    await asyncio.sleep(random.uniform(0.01, 0.2))
    return f"{parcel_id} delivered in street {street}"


@workflow
async def parcel(parcel_id: str, streets: int = 3) -> list[str]:
    """Find it, weigh it, wait for the van, try some streets at once."""
    await weigh(await find(parcel_id))
    await sleep("2s")
    return list(await asyncio.gather(*(deliver(parcel_id, street) for street in range(streets))))


@workflow(schedule=Schedule(every="10s"))
async def round_of_the_depot() -> int:
    """What is on the scales when nobody looks."""
    return await weigh(0)
