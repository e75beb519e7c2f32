"""An expense that a person approves: decided by a colleague, by nobody in time, and not needed below a limit.

python examples/approval.py
"""

from __future__ import annotations

import time

from dramaturg import AlreadyDecided, Client, Handle, NotAnApprover, approval, engine, step, workflow

LIMIT_CENTS = 10_000


@step
def pay(employee: str, cents: int) -> str:
    """Transfer the money."""
    return f"{cents / 100:.2f} paid to {employee}"


@step
def tell(employee: str, words: str) -> None:
    """Write to somebody; here, on the terminal."""
    print(f"  to {employee}: {words}")


@workflow
async def expense(employee: str, cents: int, what: str, patience: str = "7d") -> str:
    """Small ones are paid at once; for the others a manager has to agree."""
    if cents > LIMIT_CENTS:
        # People are asked when this is called. The run then waits in the database, for a week if need be: it holds no
        # worker, and a restart of everything changes nothing.
        decision = await approval(
            "manager",
            timeout=patience,
            approvers=["ada", "grace"],
            prompt=f"Shall we pay {employee} {cents / 100:.2f} for {what}?",
            details={"employee": employee, "cents": cents, "what": what},
        )
        if decision.timed_out:
            await tell(employee, "nobody had time to look at it; hand it in again")
            return "expired"
        if not decision.approved:
            await tell(employee, f"{decision.by} said no: {decision.comment}")
            return f"rejected by {decision.by}"
    receipt = await pay(employee, cents)
    await tell(employee, receipt)
    return receipt


def wait_until_asked(client: Client, handle: Handle[str]) -> None:
    """Give the run a moment to get to its approval."""
    while not any(each.run_id == handle.run_id for each in client.approvals.list(name="manager")):
        time.sleep(0.05)


def main() -> None:
    """What managers do would come from `dramaturg approve`, a web page or a chat bot: here it is done by this script."""
    with engine() as client:
        print("a small one")
        print(f"  {client.start(expense, 'bob', 1_250, 'a keyboard').result(timeout='60s')}")

        print("a large one")
        large = client.start(expense, "bob", 250_000, "a trip to the conference")
        wait_until_asked(client, large)
        for waiting in client.approvals.list(approver="ada"):
            print(f"  waits for {' or '.join(waiting.approvers)}: {waiting.prompt}")
        try:
            large.approve("manager", by="bob")
        except NotAnApprover:
            print("  bob may not approve his own expenses")
        large.approve("manager", by="ada", comment="have fun")
        print(f"  {large.result(timeout='60s')}")
        try:
            large.reject("manager", by="grace")
        except AlreadyDecided:
            print("  grace came too late: ada had decided")

        print("one too many")
        second = client.start(expense, "bob", 900_000, "a throne")
        wait_until_asked(client, second)
        second.reject("manager", by="grace", comment="chairs will do")
        print(f"  {second.result(timeout='60s')}")

        print("one that nobody looks at")
        print(f"  {client.start(expense, 'bob', 20_000, 'books', '1s').result(timeout='60s')}")


if __name__ == "__main__":
    main()
