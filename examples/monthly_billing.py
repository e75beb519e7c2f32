"""A bill on the last day of each month at nine, on the customer's own clock: one schedule a customer, over summer time.

python examples/monthly_billing.py
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from dramaturg import info, step, workflow
from dramaturg.testing import WorkflowEnv

CUSTOMERS = {"acme": "America/New_York", "blau": "Europe/Berlin", "kiwi": "Pacific/Auckland"}


@step
def send_bill(customer: str, month: str) -> str:
    """Sends it; the idempotency key of the step keeps a repeat from being a second bill."""
    return f"bill of {month} to {customer}"


@workflow
async def monthly_bill(customer: str, zone: str) -> str:
    """Bills the month that the time of the schedule is in, on the customer's clock, whenever this runs."""
    due = datetime.fromisoformat(str(info().tags["dramaturg.scheduled_for"])).astimezone(ZoneInfo(zone))
    return await send_bill(customer, f"{due:%Y-%m}")


if __name__ == "__main__":
    with WorkflowEnv(start=datetime(2030, 2, 1, tzinfo=UTC)) as env:
        for customer, zone in CUSTOMERS.items():
            env.client.schedules.create(
                f"bill-{customer}", monthly_bill, customer, zone, cron="0 9 L * *", timezone=zone, catchup="7d"
            )
        env.advance("65d")
        for customer in CUSTOMERS:
            schedule = env.client.schedules.get(f"bill-{customer}")
            for firing in reversed(schedule.firings):
                assert firing.run_id is not None
                print(f"{firing.time:%d %b %H:%M %Z}  {env.client.handle(firing.run_id).result()}")
