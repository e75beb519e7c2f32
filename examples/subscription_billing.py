"""A subscription that is billed every month, for as long as the customer wants: each year is a run of its own.

A workflow that loops for ever would have a history that grows for ever. `continue_as_new` ends the run and begins the next
under the same id, with what is to go on as its arguments.

python examples/subscription_billing.py
"""

from __future__ import annotations

from dramaturg import continue_as_new, step, wait_signal, workflow
from dramaturg.testing import WorkflowEnv

MONTHS_IN_A_RUN = 12


@step(retries=10)
def charge(customer: str, cents: int, month: int) -> str:
    """Take the money for a month."""
    return f"month {month}: {cents} cents from {customer}"


@step
def say_goodbye(customer: str, months: int) -> str:
    """Confirm the end of the subscription."""
    return f"{customer} leaves after {months} months"


@workflow
async def subscription(customer: str, cents: int, month: int = 1) -> str:
    """Bill every thirty days, until a signal says that it is enough."""
    for _ in range(MONTHS_IN_A_RUN):
        await charge(customer, cents, month)
        month += 1
        try:
            # A signal that came while the run went on as the next one is not lost: it goes on with it.
            await wait_signal("leave", timeout="30d")
        except TimeoutError:
            continue
        return await say_goodbye(customer, month - 1)
    continue_as_new(customer, cents, month)


if __name__ == "__main__":
    # Two and a half years in a moment, under a virtual clock.
    with WorkflowEnv() as env:
        handle = env.client.start(subscription.options(id="subscription-ada"), "Ada", 990)
        env.advance("900d")
        # The id means the newest run of the chain.
        now = env.client.handle("subscription-ada").describe()
        print(f"after 900 days: {now.status}, {env.client.count(status='CONTINUED')} years in the books")
        handle.signal("leave")
        print(handle.result())
        print(f"the last run has {len(list(env.client.handle('subscription-ada').events()))} events")
