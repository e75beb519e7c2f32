"""Children, chains and fan-outs, as type checkers see them. A line that is to be refused says by which rules."""

from __future__ import annotations

import asyncio
from typing import NoReturn, assert_type

from dramaturg import ChildHandle, StepFailed, child, continue_as_new, fan_out, start_child, step, workflow


@step
def charge(order_id: str, cents: int) -> float:
    return float(cents)


@step
def add_up(numbers: list[int]) -> int:
    return sum(numbers)


@workflow
async def ship(order_id: str, parcels: int) -> list[str]:
    return [order_id] * parcels


@workflow
async def uses_children(order_id: str) -> None:
    assert_type(await child(ship, order_id, 2), list[str])
    assert_type(await child(ship, order_id, parcels=2), list[str])
    assert_type(await child(ship, order_id, 2, id="x"), list[str])
    assert_type(await child(ship, order_id, 2, on_parent_close="abandon"), list[str])
    assert_type(await child(ship.options(id="x"), order_id, parcels=2), list[str])
    assert_type(await asyncio.gather(child(ship, order_id, 1), charge(order_id, 1)), tuple[list[str], float])
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(child(ship, order_id, 2))
    assert_type(task.result(), list[str])
    await child(ship, order_id)  # expect-error: argument
    await child(ship, order_id, "2")  # expect-error: argument
    await child(ship, order_id, "2", id="x")  # expect-error: argument
    await child(ship, order_id, 2, on_parent_close="wait")  # expect-error: argument


@workflow
async def uses_handles(order_id: str) -> None:
    handle = start_child(ship, order_id, 2)
    assert_type(handle, ChildHandle[list[str]])
    assert_type(await handle.result(), list[str])
    assert_type(handle.run_id, str)
    start_child(ship, 2)  # expect-error: argument


@workflow
async def goes_on(number: int) -> int:
    if number:
        return number
    continue_as_new(number + 1)


def never_returns() -> NoReturn:
    continue_as_new(1)


@workflow
async def uses_fan_out(orders: list[str]) -> None:
    assert_type(await fan_out(charge, orders, 100), list[float])
    assert_type(await fan_out(charge, orders, cents=100), list[float])
    assert_type(await fan_out(charge, orders, 100, concurrency=3), list[float])
    assert_type(await fan_out(charge, orders, 100, on_error="collect"), list[float | StepFailed])
    assert_type(await fan_out(charge, orders, 100, min_success=3), list[float | StepFailed])
    assert_type(await fan_out(add_up, [1, 2, 3], chunk=2), list[int])
    await fan_out(charge, orders)  # expect-error: argument
    await fan_out(charge, orders, "100")  # expect-error: argument
    await fan_out(charge, [1, 2], 100)  # expect-error: argument
