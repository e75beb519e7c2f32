"""Schedules, as type checkers see them. A line that is to be refused says by which rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from dramaturg import AsyncClient, AsyncHandle, Calendar, Client, Handle, Schedule, ScheduleDescription, step, workflow


@step
def copy(table: str) -> str:
    return f"{table}.bak"


@workflow(schedule=Schedule(cron="0 2 * * *", overlap="buffer_one", args=("orders",)))
async def backup(table: str, keep: int = 7) -> int:
    await copy(table)
    return keep


workflow(schedule="0 2 * * *")  # expect-error: argument
Schedule(cron=5)  # expect-error: argument
Schedule(every="1h", overlap="maybe")  # expect-error: argument
Schedule(evry="1h")  # expect-error: argument


def a_client_schedules_it(client: Client) -> None:
    schedules = client.schedules
    assert_type(schedules.create("nightly", backup, "orders", cron="0 2 * * *"), ScheduleDescription)
    assert_type(schedules.create("nightly", backup, "orders", 7, every=timedelta(hours=1)), ScheduleDescription)
    assert_type(schedules.create("nightly", backup, "orders", calendar={"months": 1}, paused=True), ScheduleDescription)
    assert_type(schedules.create("copy", copy, "orders", calendar=Calendar(days=1)), ScheduleDescription)
    assert_type(schedules.create("named", "backup", "orders", keep=3, every="1h"), ScheduleDescription)
    assert_type(schedules.create("bound", backup.options(priority=5), "orders", every="1h"), ScheduleDescription)
    schedules.create("nightly", backup, cron="0 2 * * *")  # expect-error: argument
    schedules.create("nightly", backup, 5, cron="0 2 * * *")  # expect-error: argument
    schedules.create("nightly", backup, "orders", "7", cron="0 2 * * *")  # expect-error: argument
    schedules.create("nightly", backup, "orders", 7, 8, cron="0 2 * * *")  # expect-error: argument
    schedules.create("nightly", backup, "orders", crom="0 2 * * *")  # expect-error: argument
    schedules.create("nightly", backup, "orders", every="1h", overlap="maybe")  # expect-error: argument
    schedules.create("nightly", backup, "orders", at="tomorrow")  # expect-error: argument
    schedules.create("copy", copy, 5, every="1h")  # expect-error: argument
    schedules.create(5, backup, "orders", every="1h")  # expect-error: argument
    schedules.create("five", 5, every="1h")  # expect-error: argument


def a_client_looks_after_them(client: Client) -> None:
    schedules = client.schedules
    assert_type(schedules.update("nightly", cron="0 3 * * *", overlap="allow_all"), ScheduleDescription)
    assert_type(schedules.pause("nightly", note="disk full"), ScheduleDescription)
    assert_type(schedules.trigger("nightly"), Handle[Any])
    assert_type(schedules.next("nightly", 3), list[datetime])
    begin = datetime(2030, 1, 1, tzinfo=UTC)
    assert_type(schedules.backfill("nightly", begin, begin, overlap="allow_all"), list[datetime])
    schedules.update("nightly", crom="0 3 * * *")  # expect-error: argument
    schedules.backfill("nightly", "yesterday", begin)  # expect-error: argument
    schedules.backfill("nightly", begin, begin, overlap="maybe")  # expect-error: argument


async def coroutines_have_the_same(client: AsyncClient) -> None:
    schedules = client.schedules
    assert_type(await schedules.create("nightly", backup, "orders", cron="0 2 * * *"), ScheduleDescription)
    assert_type(await schedules.trigger("nightly"), AsyncHandle[Any])
    await schedules.create("nightly", backup, 5, cron="0 2 * * *")  # expect-error: argument
    await schedules.create("copy", copy, 5, every="1h")  # expect-error: argument
