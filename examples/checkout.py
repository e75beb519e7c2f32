"""One step after the other: an order is charged, packed and announced, or given up politely.

python examples/checkout.py
"""

from __future__ import annotations

from pydantic import BaseModel

from dramaturg import FatalError, RetryableError, RetryPolicy, StepFailed, current_step, run, sleep, step, workflow


class Order(BaseModel):
    """What is bought. Arguments and results keep their types: a model arrives as a model."""

    id: str
    card: str
    cents: int


class Receipt(BaseModel):
    """What the payment provider says."""

    order_id: str
    number: str


# Three attempts after the first, 0.1 s, 0.2 s and 0.4 s apart. Without options it is eight attempts in ten minutes.
@step(retries=RetryPolicy(max_attempts=4, initial="100ms", multiplier=2, jitter=False), timeout="10s")
def charge(order: Order) -> Receipt:
    """Ask the provider for the money."""
    attempt = current_step()
    assert attempt is not None
    if order.card == "stolen":
        raise FatalError("the bank says no")  # never tried again
    if order.card == "slow bank" and attempt.attempt == 1:
        raise RetryableError("come back in a moment", retry_after="50ms")  # tried again when the bank asks for it
    if order.card == "busy bank" and attempt.attempt <= 2:
        raise ConnectionError("connection reset")  # tried again with the back-off
    # A step may run twice: its worker may die after the charge and before that is recorded. The key is the same
    # then, so that the provider can tell a repeat from a second order.
    return Receipt(order_id=order.id, number=f"key {attempt.idempotency_key}")


@step
async def announce(order_id: str, text: str) -> None:
    """Tell the customer. An async step holds no thread while it waits."""
    print(f"  to the customer of {order_id}: {text}")


@workflow
async def checkout(order: Order) -> str:
    """Plain Python: what happened before a crash is not done again after it."""
    try:
        receipt = await charge(order)
    except StepFailed as failure:
        # All attempts are over. The workflow decides what that means.
        await announce(order.id, f"we could not charge you ({failure.message})")
        return f"given up after {failure.attempts} attempt(s)"
    await sleep("100ms")  # "3d" works as well: it is a row in the database, and nothing else
    await announce(order.id, f"thank you, your receipt has {receipt.number}")
    return "paid"


def main() -> None:
    """Run four orders, one after the other."""
    for order_id, card in [("A-1", "good"), ("A-2", "busy bank"), ("A-3", "slow bank"), ("A-4", "stolen")]:
        print(f"{order_id}, {card}")
        outcome = run(checkout, Order(id=order_id, card=card, cents=4200))
        print(f"  {outcome}")


if __name__ == "__main__":
    main()
