"""A contract that has to be signed on several levels: in turn, with deputies where somebody does not answer in time.

Escalation is plain code: a loop over people, each with a time-out of their own.

python examples/multi_level_approval.py
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from dramaturg import Client, Decision, NoOpenApproval, approval, engine, step, workflow

#: Who decides on each level, and who stands in for them, in this order.
LEVELS: dict[str, list[str]] = {
    "team": ["tom"],
    "department": ["dora", "dirk", "diana"],
    "board": ["bert"],
}


@step
def file_away(contract: str, signatures: list[str]) -> str:
    """Put the contract where it belongs."""
    return f"{contract} is in force, signed by {', '.join(signatures)}"


@step
def tell(person: str, words: str) -> None:
    """Write to somebody; here, on the terminal."""
    print(f"  to {person}: {words}")


async def ask_in_turn(level: str, people: Sequence[str], contract: str, patience: str) -> Decision | None:
    """Ask one person after the other, until one decides; nothing where nobody does."""
    for person in people:
        await tell(person, f"please look at {contract} for the {level}")
        # Each of these is a request of its own, though all have the same name: what dora decides after her time was
        # over does not answer what dirk was asked.
        decision = await approval(level, timeout=patience, approvers=[person], prompt=f"Sign {contract}?")
        if not decision.timed_out:
            return decision
    return None


@workflow
async def contract(name: str, cents: int, patience: str = "2d") -> str:
    """The higher the sum, the more levels; the board is asked together with legal, at the same time."""
    signatures: list[str] = []
    levels = ["team"] if cents < 100_000 else ["team", "department"]
    for level in levels:
        decision = await ask_in_turn(level, LEVELS[level], name, patience)
        if decision is None:
            return f"nobody of the {level} answered about {name}"
        if not decision.approved:
            return f"{name} was rejected by {decision.by} ({level}): {decision.comment}"
        signatures.append(str(decision.by))
    if cents >= 1_000_000:
        board, legal = await asyncio.gather(
            approval("board", approvers=LEVELS["board"], prompt=f"Sign {name}?"),
            approval("legal", approvers=["lena", "luis"], prompt=f"Is {name} sound?"),
        )
        if not (board.approved and legal.approved):
            return f"{name} was stopped on the last level"
        signatures += [str(board.by), str(legal.by)]
    return await file_away(name, signatures)


@contextmanager
def office(client: Client) -> Generator[None, None, None]:
    """People who decide as soon as they are asked: everybody but dora, who is on holiday; dirk never signs leases."""
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            for waiting in client.approvals.list():
                person = waiting.approvers[0]
                try:
                    if person == "dirk" and "lease" in waiting.prompt:
                        client.approvals.reject(waiting.id, by=person, comment="we buy")
                    elif person != "dora":
                        client.approvals.approve(waiting.id, by=person)
                except NoOpenApproval as late:
                    print(f"  {person} was too late: {late}")
            time.sleep(0.05)

    people = threading.Thread(target=work)
    people.start()
    try:
        yield
    finally:
        ended.set()
        people.join()


def main() -> None:
    """Three contracts: a small one, one that a deputy rejects, and one for the board."""
    with engine() as client, office(client):
        for name, cents in [("the order of paper", 4_200), ("the lease of a car", 250_000), ("the merger", 9_000_000)]:
            print(name)
            print(f"  {client.start(contract, name, cents, '2s').result(timeout='60s')}")


if __name__ == "__main__":
    main()
