"""Approvals and hooks, as type checkers see them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from pydantic import BaseModel, TypeAdapter

from dramaturg import (
    Approval,
    ApprovalInfo,
    AsyncClient,
    AsyncHandle,
    Client,
    Decision,
    Handle,
    Hook,
    approval,
    hook,
    workflow,
)


class Payment(BaseModel):
    cents: int


@workflow
async def asks() -> None:
    asked = approval("legal", timeout="1d", approvers=["ada"], prompt="May we?", details={"cents": 5})
    assert_type(asked, Approval)
    assert_type(await asked, Decision)
    assert_type(asked.link("approve", by="ada"), str)
    asked.link("allow", by="ada")  # expect-error: argument
    asked.link("approve")  # expect-error: argument
    approval("legal", timedelta(days=1), ("ada", "bob"))
    approval("legal", datetime(2030, 1, 1, tzinfo=UTC))
    approval()  # expect-error: argument
    approval("legal", approvers=3)  # expect-error: argument
    first, second = await asyncio.gather(approval("a"), approval("b"))
    assert_type((first, second), tuple[Decision, Decision])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(approval("c"))
    assert_type(task.result(), Decision)
    assert_type(await asyncio.wait_for(asyncio.shield(asked), 60), Decision)


@workflow
async def waits() -> None:
    assert_type(hook("paid", Payment), Hook[Payment])
    assert_type(await hook("paid", Payment, timeout="1h"), Payment)
    assert_type(await hook("paid", type=list[int]), list[int])
    assert_type(await hook("paid", TypeAdapter[int | str](int | str)), int | str)
    assert_type(await hook("paid"), Any)
    assert_type(hook("paid").token, str)
    wrong: int = await hook("paid", str)  # expect-error: assignment
    del wrong
    hook(3)  # expect-error: argument


def somebody_answers(client: Client, handle: Handle[str]) -> None:
    handle.approve("legal", "ada", "fine")
    handle.reject("legal", by="ada", comment="no")
    handle.approve("legal")  # expect-error: argument
    client.decide_by_token("token", comment="by mail")
    client.resume_hook("token", {"cents": 5})
    assert_type(client.approvals.list(workflow="order", approver="ada", limit=5), list[ApprovalInfo])
    assert_type(client.approvals.get("id").decision, Decision | None)
    client.approvals.list(person="ada")  # expect-error: argument
    client.approvals.approve("id")  # expect-error: argument


async def somebody_answers_in_a_coroutine(client: AsyncClient, handle: AsyncHandle[str]) -> None:
    await handle.approve("legal", "ada")
    await client.resume_hook("token", 5)
    assert_type(await client.approvals.list(), list[ApprovalInfo])
    handle.reject("legal", "ada")  # expect-error: coroutine
