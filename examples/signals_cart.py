"""A shopping cart: a run for each customer, told and asked while it is under way, by whoever has its id.

    python examples/signals_cart.py

A click is a signal: the first one starts the cart, in the same decision. The page asks with a query. A voucher is an
update, which its validator may refuse. Leaving the cart alone ends it.
"""

from __future__ import annotations

import asyncio

from pydantic import BaseModel, Field

import dramaturg
from dramaturg import Client, UpdateRejected, on_query, on_update, set_status, signals, step, wait_signal, workflow

PATIENCE = "3s"


class Click(BaseModel):
    """What a click on a shelf tells."""

    item: str
    cents: int = Field(gt=0)


@step
def charge(customer: str, cents: int) -> str:
    """Takes the money, once."""
    print(f"  {customer} pays {cents} cents", flush=True)
    return f"receipt for {customer}: {cents} cents"


@workflow
async def cart(customer: str) -> str:
    """Waits for clicks until the customer pays, or goes away."""
    items: dict[str, int] = {}
    reduction = 0

    @on_query
    def total() -> int:
        return sum(items.values()) - reduction

    def is_worth_it(cents: int) -> None:
        if not 0 < cents <= total():
            raise ValueError(f"a voucher of {cents} cents for a cart of {total()}")

    @on_update(validator=is_worth_it)
    def redeem(cents: int) -> int:
        nonlocal reduction
        reduction += cents
        return total()

    async def take_clicks() -> None:
        async for click in signals("click", type=Click):
            items[click.item] = click.cents
            set_status({"items": sorted(items)})

    clicks = asyncio.create_task(take_clicks())
    try:
        await wait_signal("pay", timeout=PATIENCE)
        return await charge(customer, total())
    except TimeoutError:
        return f"{customer} left {sorted(items)} behind"
    finally:
        clicks.cancel()


def click(client: Client, customer: str, item: str, cents: int) -> None:
    """What the shop does at each click, no matter whether there is a cart yet."""
    told = Click(item=item, cents=cents)
    client.start(cart, customer, id=f"cart-{customer}", on_conflict="use_existing", signal=("click", told))
    print(f"  {customer} clicks on {item}", flush=True)


def main() -> None:
    """Two customers."""
    with dramaturg.engine() as client:
        print("ada")
        click(client, "ada", "pen", 120)
        click(client, "ada", "paper", 500)
        handle = client.handle("cart-ada", wf=cart)
        print(f"  total: {handle.query('total')}, shown: {handle.describe().custom_status}")
        print(f"  with a voucher: {handle.update('redeem', 20)}")
        try:
            handle.update("redeem", 5000)
        except UpdateRejected as refused:
            print(f"  {refused}")
        handle.signal("pay", idempotency_key="tap-1")
        print(f"  {handle.result(timeout='30s')}")
        print("bob")
        click(client, "bob", "ink", 380)
        print(f"  {client.handle('cart-bob').result(timeout='30s')}")


if __name__ == "__main__":
    main()
