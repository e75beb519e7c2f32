"""A backup every night: all tables at once, and a report, by a schedule that stands in the code.

    python examples/nightly_backup.py

It shows a week in a second, under a virtual clock. In earnest nothing here changes: 'dramaturg dev nightly_backup' serves it, and
the coordinator that starts creates the schedule. 'dramaturg schedule pause nightly' then holds it, over deploys too.
"""

from __future__ import annotations

import asyncio

from dramaturg import Schedule, info, step, workflow
from dramaturg.testing import WorkflowEnv

TABLES = ["orders", "customers", "invoices"]


@step(retries=3)
def copy(table: str, night: str) -> int:
    """Copies one table; tried again where the disk was busy."""
    return len(table) * 1000


@step
def report(night: str, rows: int) -> None:
    """Tells somebody."""
    print(f"{night}: {rows} rows of {len(TABLES)} tables")


@workflow(schedule=Schedule(cron="30 2 * * *", timezone="Europe/Berlin", id="nightly", catchup="6h"))
async def nightly_backup() -> int:
    """One run a night: the night it is for is in its tags, however late it runs."""
    night = str(info().tags["dramaturg.scheduled_for"])[:10]
    rows = sum(await asyncio.gather(*[copy(table, night) for table in TABLES]))
    await report(night, rows)
    return rows


if __name__ == "__main__":
    with WorkflowEnv() as env:
        env.advance("7d")
        nightly = env.client.schedules.get("nightly")
        print(f"{nightly.fired} backups, the next one {nightly.next_time:%A %d %B %Y %H:%M %Z}")
