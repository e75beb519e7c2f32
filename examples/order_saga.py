"""A saga: what succeeded is undone, the last first, when a later step fails or somebody cancels.

python examples/order_saga.py
"""

from __future__ import annotations

import time

from dramaturg import FatalError, Handle, WorkflowCancelled, WorkflowFailed, engine, sleep, step, workflow


# A compensation is a step like any other, under its own retries: a refund that fails ten times is tried ten times.
# It gets the result of the step that it undoes, then that step's own arguments.
@step(retries=10)
def refund(receipt: str, order_id: str, cents: int) -> None:
    """Give the money back."""
    print(f"  {order_id}: {receipt} refunded, {cents} cents")


@step(retries=10)
def put_back(shelf: str, order_id: str) -> None:
    """Put the goods back where they were."""
    print(f"  {order_id}: goods put back on {shelf}")


@step(compensate=refund)
def charge(order_id: str, cents: int) -> str:
    """Take the money."""
    print(f"  {order_id}: {cents} cents charged")
    return f"receipt of {order_id}"


@step(compensate=put_back)
def reserve(order_id: str) -> str:
    """Take the goods from their shelf."""
    print(f"  {order_id}: goods reserved")
    return "shelf 7"


@step
def ship(order_id: str, address: str) -> str:
    """Hand the parcel over."""
    if address == "nowhere":
        raise FatalError("nobody delivers there")
    return f"parcel to {address}"


@workflow
async def order(order_id: str, address: str, wait: str = "0s") -> str:
    """No clean-up code: what has to be undone is declared where the step is."""
    await charge(order_id, 4200)
    await reserve(order_id)
    await sleep(wait)
    return await ship(order_id, address)


def outcome_of(handle: Handle[str]) -> str:
    """Wait for a run, and say how it ended."""
    try:
        return handle.result(timeout="60s")
    except WorkflowFailed as failure:
        return f"failed: {failure}"
    except WorkflowCancelled:
        return "cancelled"


def main() -> None:
    """One order that arrives, one that cannot, and one that is cancelled while it waits."""
    with engine() as client:
        for order_id, address in [("A-1", "Ada"), ("A-2", "nowhere")]:
            print(order_id)
            print(f"  {outcome_of(client.start(order, order_id, address))}")
        print("A-3")
        handle = client.start(order, "A-3", "Ada", "30d")
        while handle.describe().status != "WAITING":
            time.sleep(0.05)
        handle.cancel(by="ada", reason="changed her mind")
        print(f"  {outcome_of(handle)}")


if __name__ == "__main__":
    main()
