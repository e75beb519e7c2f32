"""Steps at the same time, with what asyncio has for that: gather, task groups, time limits, whoever is first.

python examples/parallel.py
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from dramaturg import StepFailed, run, step, workflow


@dataclass
class Offer:
    """What a shop asks for something."""

    shop: str
    cents: int


PRICES = {"north": 1290, "south": 1190, "east": 1450}


@step(retries=0)
def ask_price(shop: str, item: str) -> Offer:
    """Ask one shop; each takes a moment."""
    time.sleep(0.2)
    if shop not in PRICES:
        raise LookupError(f"there is no shop {shop!r}")
    return Offer(shop, PRICES[shop])


@step(retries=0)
def slow_tax_office(cents: int) -> int:
    """An office that takes its time."""
    time.sleep(0.3)
    return cents * 19 // 100


@workflow
async def best_offer(item: str) -> list[str]:
    """Plain asyncio; each call is a durable step, and all of them are on their way at once."""
    told: list[str] = []

    # All at once; results come in the order of the calls.
    offers = await asyncio.gather(*(ask_price(shop, item) for shop in PRICES))
    best = min(offers, key=lambda offer: offer.cents)
    told.append(f"best of {len(offers)}: {best.shop} at {best.cents}")

    # Some may fail: the errors stand among the results.
    found = await asyncio.gather(*(ask_price(shop, item) for shop in ("north", "nowhere")), return_exceptions=True)
    failed = [each.message for each in found if isinstance(each, StepFailed)]
    told.append(f"{len(found) - len(failed)} answered, failed: {failed[0]}")

    # Whoever is first; the other is cancelled and never recorded as done.
    racers = [asyncio.create_task(ask_price(shop, item)) for shop in ("east", "south")]
    done, late = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
    for each in late:
        each.cancel()
    told.append(f"first: {len(done)} answered, {len(late) + len(done)} were asked")

    # A limit for a block; it is a durable timer, so a restart does not begin it anew.
    try:
        async with asyncio.timeout(0.05):
            await slow_tax_office(best.cents)
    except TimeoutError:
        told.append("the tax office was too slow")

    # A group: one failure would cancel the others.
    async with asyncio.TaskGroup() as group:
        tax = group.create_task(slow_tax_office(best.cents))
        again = group.create_task(ask_price(best.shop, item))
    told.append(f"tax {tax.result()} on {again.result().cents}")
    return told


def main() -> None:
    """Run it here and now, on eight threads."""
    began = time.monotonic()
    for line in run(best_offer, "lamp"):
        print(line)
    print("steps ran at the same time" if time.monotonic() - began < 5 else "the machine is busy")


if __name__ == "__main__":
    main()
