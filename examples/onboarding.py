"""The first month of a customer: mails a week apart, an approval with reminders, and a check at the end.

It runs in the engine of the tests, whose clock skips the weeks; the workflow is the same one that a fleet runs in real
time, where a run that sleeps for a week costs one row of a table.

python examples/onboarding.py
"""

from __future__ import annotations

import asyncio

from dramaturg import Decision, approval, now, sleep, step, workflow
from dramaturg.testing import WorkflowEnv


@step
def mail(address: str, subject: str) -> None:
    """Send a mail; here, on the terminal."""
    print(f"    to {address}: {subject}")


@step
def open_account(address: str) -> str:
    """Make the account."""
    return f"account of {address}"


@step
def count_logins(address: str) -> int:
    """How often the customer was there."""
    return 3 if address.startswith("ada") else 0


@workflow
async def onboarding(address: str, company: bool = False) -> str:
    """From the sign-up to the first month's end."""
    if company:
        decision = await ask_with_reminders(address)
        if not decision.approved:
            await mail(address, "we are sorry: we cannot take you on")
            return "not taken on"
    account = await open_account(address)
    await mail(address, "welcome!")
    await sleep("7d")
    await mail(address, "five things that others like")
    await sleep("3w")
    if await count_logins(address) == 0:
        await mail(address, "may we show you around?")
        return f"{account}: quiet"
    return f"{account}: active since {now():%d %B}"


async def ask_with_reminders(address: str) -> Decision:
    """Sales has to check companies, within two weeks; it is reminded every three days."""
    check = approval("company check", timeout="14d", approvers=["sales"], prompt=f"Is {address} one of ours?")
    while True:
        try:
            # Without the shield the time-out would withdraw the request, as asyncio cancels what it waits for.
            return await asyncio.wait_for(asyncio.shield(check), 3 * 24 * 3600)
        except TimeoutError:
            await mail("sales", f"{address} still waits for your check")


def main() -> None:
    """A person, a company that is taken on a week later, and one that sales forgets."""
    with WorkflowEnv() as env:
        print("ada")
        print(f"  {env.run(onboarding, 'ada@example.com')}")

        print("a company")
        company = env.start(onboarding, "office@example.com", company=True)
        env.advance("7d")
        print(f"  waits for {company.describe().waiting_for}")
        company.approve("company check", by="sales", comment="an old friend")
        print(f"  {company.result()}")

        print("a company that is forgotten")
        print(f"  {env.run(onboarding, 'nobody@example.com', company=True)}")
        print(f"it is {env.now:%d %B %Y} there")


if __name__ == "__main__":
    main()
