"""Signals, queries and updates, as type checkers see them. A line that is to be refused says by which rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from pydantic import BaseModel, TypeAdapter

from dramaturg import (
    AsyncClient,
    Client,
    external,
    on_query,
    on_update,
    set_status,
    signals,
    wait_signal,
    wait_until,
    workflow,
)


class Item(BaseModel):
    cents: int


@workflow
async def cart(customer: str) -> int:
    assert_type(await wait_signal("add"), Any)
    assert_type(await wait_signal("add", "1d"), Any)
    assert_type(await wait_signal("add", type=Item), Item)
    assert_type(await wait_signal("add", timeout="1d", type=list[int]), list[int])
    assert_type(await wait_signal("add", "1d", Item), Item)
    either: TypeAdapter[Item | int] = TypeAdapter(Item | int)
    assert_type(await wait_signal("add", type=either), Item | int)
    async for item in signals("add", type=Item):
        assert_type(item, Item)
    async for anything in signals("add"):
        assert_type(anything, Any)
    assert_type(await wait_until(lambda: True, timeout=5), None)
    await external("cart-1").signal("add", 3)
    external("cart-1").cancel()
    set_status({"items": 3})

    @on_query
    def total() -> int:
        return 3

    @on_query("last")
    def last_ones(count: int) -> list[int]:
        return [count]

    @on_update
    async def rename(new: str) -> str:
        return new

    def check(new: str) -> None:
        del new

    @on_update(validator=check)
    def take(new: str) -> int:
        return len(new)

    assert_type(total(), int)
    assert_type(last_ones(3), list[int])
    assert_type(await rename("x"), str)
    assert_type(take("x"), int)
    total(3)  # expect-error: argument
    take(3)  # expect-error: argument
    await wait_signal(3)  # expect-error: argument
    await wait_until(3)  # expect-error: argument
    number: int = await wait_signal("add", type=Item)  # expect-error: assignment
    return number


def a_client_speaks(client: Client) -> None:
    handle = client.start(cart, "ada", id="cart-ada", on_conflict="use_existing", signal=("add", 3))
    assert_type(handle.signal("add", {"cents": 3}, idempotency_key="k"), None)
    assert_type(handle.query("last", 3), Any)
    assert_type(handle.update("rename", "x", timeout="1m"), Any)
    assert_type(handle.signal("add", 3, "k", "3d"), None)
    assert_type(handle.signal("add", 3, delay=datetime(2130, 1, 31, tzinfo=UTC)), None)
    handle.signal("add", 3, delay=["3d"])  # expect-error: argument
    handle.signal(3)  # expect-error: argument
    client.start(cart, "ada", signal="add")  # expect-error: argument


async def a_client_of_coroutines_speaks(client: AsyncClient) -> None:
    handle = client.handle("cart-ada", wf=cart)
    assert_type(await handle.signal("add", 3), None)
    assert_type(await handle.signal("add", 3, delay=timedelta(days=3)), None)
    await handle.signal("add", 3, delay=["3d"])  # expect-error: argument
    assert_type(await handle.query("total"), Any)
    assert_type(await handle.update("rename", "x", idempotency_key="k"), Any)
