"""Clean up in thirty days, unless the customer comes back: a start that is put off, and cancelled.

    python examples/delayed_cleanup.py

No process waits meanwhile, and no timer is held in memory: the run is a row that is due in a month.
"""

from __future__ import annotations

from dramaturg import WorkflowCancelled, step, workflow
from dramaturg.testing import WorkflowEnv


@step
def delete_files(customer: str) -> None:
    """Deletes what the customer has left."""
    print(f"the files of {customer} are deleted")


@workflow
async def clean_up(customer: str) -> None:
    """What is done a month after a customer has gone."""
    await delete_files(customer)


if __name__ == "__main__":
    with WorkflowEnv() as env:
        for customer in ("acme", "blue"):
            env.client.start(clean_up, customer, id=f"clean-up-{customer}", delay="30d")
        env.advance("10d")
        acme = env.client.handle("clean-up-acme")
        print(f"acme: {acme.describe().status}, waits for {acme.describe().waiting_for}")

        acme.cancel(by="ada", reason="the customer is back")
        env.advance("20d")
        try:
            acme.result()
        except WorkflowCancelled:
            print("the files of acme stay")
