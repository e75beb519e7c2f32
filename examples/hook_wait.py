"""A payment that another service reports back: the workflow gives it a callback, and waits for it durably.

The provider here is a thread that answers after a moment, as a real one does with an HTTP request: it knows nothing but
the token that it was given.

python examples/hook_wait.py
"""

from __future__ import annotations

import threading
import time
from typing import Literal

from pydantic import BaseModel

from dramaturg import AlreadyResolved, Client, HookTimeout, PayloadError, engine, hook, step, workflow


class PaymentResult(BaseModel):
    """What the provider reports."""

    status: Literal["paid", "refused"]
    cents: int
    reference: str = ""


#: What the provider was asked to do, for the thread that plays it.
requests: list[tuple[str, int, str]] = []


@step
def ask_provider(card: str, cents: int, callback: str) -> None:
    """Order the payment. A real one would be an HTTP request with the callback's URL in it (`h.url`)."""
    requests.append((card, cents, callback))


@step
def ship(order_id: str, reference: str) -> str:
    """Send the parcel."""
    return f"{order_id} shipped, payment {reference}"


@workflow
async def order(order_id: str, card: str, cents: int, patience: str = "1h") -> str:
    """Pay, wait for the provider, ship."""
    # The token follows from the run and the position: should this process die right here, the next one has the same,
    # and whoever got it already resolves this very hook.
    payment = hook("payment", type=PaymentResult, timeout=patience)
    await ask_provider(card, cents, payment.token)
    try:
        result = await payment
    except HookTimeout:
        return f"{order_id}: the provider never answered"
    if result.status == "refused":
        return f"{order_id}: the card was refused"
    return await ship(order_id, result.reference)


def provider(client: Client, ended: threading.Event) -> None:
    """Another company's service: it calls back late, twice, and once with something else than it promised."""
    number = 0
    while not ended.is_set():
        while requests:
            card, cents, token = requests.pop()
            if card == "lost":
                continue
            number += 1
            status = "refused" if card == "stolen" else "paid"
            try:
                client.resume_hook(token, {"state": status})  # an old version of its format
            except PayloadError as error:
                print(f"  provider: {error}")
            client.resume_hook(token, {"status": status, "cents": cents, "reference": f"P-{number}"})
            try:
                client.resume_hook(token, {"status": status, "cents": cents, "reference": f"P-{number}"})
            except AlreadyResolved:
                print("  provider: they know already")
        time.sleep(0.05)


def main() -> None:
    """Three orders: one that is paid, one with a stolen card, and one whose callback is lost."""
    ended = threading.Event()
    with engine() as client:
        calls = threading.Thread(target=provider, args=(client, ended))
        calls.start()
        try:
            for order_id, card in [("A-1", "good"), ("A-2", "stolen"), ("A-3", "lost")]:
                print(order_id)
                patience = "1s" if card == "lost" else "1h"
                print(f"  {client.start(order, order_id, card, 4_200, patience).result(timeout='60s')}")
        finally:
            ended.set()
            calls.join()


if __name__ == "__main__":
    main()
