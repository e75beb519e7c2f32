"""A check every hour that never runs twice at a time, and what an outage leaves of it: made up for, or counted as missed.

python examples/hourly_check.py
"""

from __future__ import annotations

from datetime import timedelta

from dramaturg import info, step, workflow
from dramaturg.testing import WorkflowEnv


@step(local=True)
def look(hour: str) -> None:
    """Looks whether all is well."""
    print(f"checked {hour}")


@workflow
async def check() -> None:
    """One hour's check."""
    await look(str(info().tags["dramaturg.scheduled_for"])[11:16])


if __name__ == "__main__":
    with WorkflowEnv() as env:
        schedules = env.client.schedules
        schedules.create("hourly", check, cron="0 * * * *", overlap="buffer_all", catchup="3h")
        env.advance("2h")

        print("nobody is there for ten hours")
        env.clock.set(env.now + timedelta(hours=10, minutes=30))
        env.run_until_idle()
        hourly = schedules.get("hourly")
        print(f"fired {hourly.fired}, missed {hourly.missed}")

        made = schedules.backfill("hourly", env.now - timedelta(hours=5), env.now)
        print(f"backfilled {', '.join(f'{time:%H:%M}' for time in made)}")
        env.run_until_idle()
