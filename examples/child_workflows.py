"""Workflows that start others: an order ships its parcels, each a run of its own; one is lost, the rest arrives.

python examples/child_workflows.py
"""

from __future__ import annotations

import asyncio

from dramaturg import ChildFailed, FatalError, RunTree, child, engine, start_child, step, workflow


@step
def pack(parcel: str) -> str:
    """Put the goods into a box."""
    return f"{parcel} packed"


@step(retries=0)
def drive(parcel: str) -> str:
    """Bring it to the customer."""
    if parcel == "the vase":
        raise FatalError("it fell off the van")
    return f"{parcel} delivered"


@step
def survey(customer: str) -> str:
    """Ask whether all was well."""
    return f"{customer} says thank you"


@workflow
async def ship(parcel: str) -> str:
    """One parcel: a history of its own, a time-out and retries of its own, in whatever partition."""
    await pack(parcel)
    return await drive(parcel)


@workflow
async def ask_later(customer: str) -> str:
    """Nobody waits for this one."""
    return await survey(customer)


@workflow
async def order(customer: str, parcels: list[str]) -> list[str]:
    """Ships all parcels at once. One that fails fails alone."""
    # The survey may outlive the order. Without `abandon` it would be cancelled when the order is done.
    start_child(ask_later, customer, on_parent_close="abandon")
    shipped = await asyncio.gather(*(child(ship, parcel) for parcel in parcels), return_exceptions=True)
    lines: list[str] = []
    for parcel, outcome in zip(parcels, shipped, strict=True):
        if isinstance(outcome, ChildFailed):
            lines.append(f"{parcel}: {outcome.status}, {outcome.message.rpartition(': ')[2]}")
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            lines.append(outcome)
    return lines


def show(tree: RunTree, depth: int = 0) -> None:
    """Print a family of runs."""
    print(f"{'  ' * depth}{tree.run.workflow}: {tree.run.status}")
    for below in sorted(tree.children, key=lambda each: (each.run.workflow, each.run.status)):
        show(below, depth + 1)


if __name__ == "__main__":
    with engine() as client:
        handle = client.start(order, "Ada", ["the book", "the vase", "the lamp"])
        for line in handle.result(timeout="60s"):
            print(line)
        # The whole family is seen from any of its members.
        survey_run = next(each for each in handle.tree().children if each.run.workflow == "ask_later")
        print(client.handle(survey_run.run.run_id).result(timeout="60s"))
        show(handle.tree())
