"""Workflows, clients and handles, as type checkers see them. A line that is to be refused says by which rules."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from random import Random
from typing import Any, assert_type

import dramaturg
from dramaturg import AsyncClient, AsyncHandle, Client, Handle, now, patched, side_effect, sleep, step, uuid4, workflow
from dramaturg.testing import WorkflowEnv


@step
def charge(order_id: str, cents: int) -> str:
    return f"{order_id} {cents}"


@workflow
async def checkout(order_id: str, cents: int) -> dict[str, str]:
    return {"receipt": await charge(order_id, cents)}


@workflow(version=2, tags={"team": "shop"}, name="checkout")
async def checkout_2(order_id: str, cents: int, *, note: str = "") -> dict[str, str]:
    return {"receipt": await charge(order_id, cents), "note": note}


@workflow
async def greet(name: str, greeting: str = "Hello") -> str:
    return f"{greeting}, {name}"


@workflow  # expect-error: argument
def not_async(order_id: str) -> str:
    return order_id


workflow(versoin=2)  # expect-error: argument
workflow(version="2")  # expect-error: argument


def a_client_starts_it(client: Client) -> None:
    assert_type(client.start(checkout, "A-1", 4200), Handle[dict[str, str]])
    assert_type(client.start(checkout, "A-1", cents=4200), Handle[dict[str, str]])
    assert_type(client.start(checkout, order_id="A-1", cents=4200), Handle[dict[str, str]])
    assert_type(client.start(checkout_2, "A-1", 4200, note="in a hurry"), Handle[dict[str, str]])
    assert_type(client.start(checkout, "A-1", 4200).result(), dict[str, str])
    assert_type(client.start(checkout, "A-1", 4200).result(timeout="5s"), dict[str, str])
    client.start(checkout)  # expect-error: argument
    client.start(checkout, "A-1")  # expect-error: argument
    client.start(checkout, "A-1", "4200")  # expect-error: argument
    client.start(checkout, "A-1", 4200, 1)  # expect-error: argument
    client.start(checkout, "A-1", amount=4200)  # expect-error: argument
    client.start(checkout_2, "A-1", 4200, note=1)  # expect-error: argument
    result: int = client.start(checkout, "A-1", 4200).result()  # expect-error: assignment
    del result


def options_stand_beside_positional_arguments(client: Client) -> None:
    assert_type(client.start(checkout, "A-1", 4200, id="order-A-1"), Handle[dict[str, str]])
    assert_type(client.start(checkout, "A-1", 4200, idempotency_key="A-1", tags={"vip": True}), Handle[dict[str, str]])
    client.start(checkout, "A-1", "4200", id="x")  # expect-error: argument
    client.start(checkout, "A-1", id="x")  # expect-error: argument
    client.start(checkout, "A-1", 4200, id=1)  # expect-error: argument
    client.start(checkout, "A-1", 4200, idd="x")  # expect-error: argument
    client.start(checkout, "A-1", 4200, id="x", on_conflict="retry")  # expect-error: argument


def what_has_a_default_may_be_left_out_beside_options(client: Client) -> None:
    assert_type(client.start(greet, "Ann", id="x"), Handle[str])
    assert_type(client.start(greet, "Ann", "Hi", id="x"), Handle[str])
    client.start(greet, id="x")  # expect-error: argument
    client.start(greet, 1, id="x")  # expect-error: argument
    client.start(greet, "Ann", 1, id="x")  # expect-error: argument


async def so_it_may_for_coroutines_and_children(client: AsyncClient) -> None:
    assert_type(await client.start(greet, "Ann", id="x"), AsyncHandle[str])
    assert_type(await dramaturg.child(greet, "Ann", id="x"), str)
    assert_type(dramaturg.start_child(greet, "Ann", id="x"), dramaturg.ChildHandle[str])
    await client.start(greet, 1, id="x")  # expect-error: argument
    await dramaturg.child(greet, 1, id="x")  # expect-error: argument


def options_on_the_workflow_go_with_any_arguments(client: Client) -> None:
    assert_type(client.start(checkout.options(id="x"), "A-1", cents=4200), Handle[dict[str, str]])
    assert_type(client.start(checkout_2.options(id="x"), "A-1", 4200, note="in a hurry"), Handle[dict[str, str]])
    client.start(checkout.options(id="x"), "A-1", cents="4200")  # expect-error: argument
    checkout.options(idd="x")  # expect-error: argument
    checkout.options(reuse="sometimes")  # expect-error: argument


def other_things_start_too(client: Client) -> None:
    assert_type(client.start(charge, "A-1", 4200), Handle[str])
    assert_type(client.start(charge, "A-1", 4200, id="x"), Handle[str])
    assert_type(client.start("checkout", "A-1", 4200, id="x"), Handle[Any])
    assert_type(
        client.start_many(checkout, [("A-1", 4200), {"order_id": "A-2", "cents": 1}]), list[Handle[dict[str, str]]]
    )
    assert_type(client.start_many(checkout, [("A-1", 4200)], tags={"night": 7}), list[Handle[dict[str, str]]])
    assert_type(client.results(client.start_many(checkout, [("A-1", 4200)])), list[dict[str, str]])
    client.start(charge, "A-1", "4200")  # expect-error: argument
    client.start(charge, "A-1", "4200", id="x")  # expect-error: argument
    client.start(3)  # expect-error: argument
    client.start_many(checkout, [("A-1", 4200)], tagz={})  # expect-error: argument


def handles_know_their_result(client: Client) -> None:
    assert_type(client.handle("order-A-1"), Handle[Any])
    assert_type(client.handle("order-A-1", wf=checkout), Handle[dict[str, str]])
    assert_type(client.handle("order-A-1", wf=checkout).result(), dict[str, str])
    handle = client.handle("order-A-1", wf=checkout)
    wider: Handle[object] = handle
    narrower: Handle[int] = handle  # expect-error: assignment
    del wider, narrower


async def coroutines_have_the_same(client: AsyncClient) -> None:
    handle = await client.start(checkout, "A-1", 4200)
    assert_type(handle, AsyncHandle[dict[str, str]])
    assert_type(await handle, dict[str, str])
    assert_type(await handle.result(timeout="5s"), dict[str, str])
    assert_type(await client.start(checkout, "A-1", 4200, id="x"), AsyncHandle[dict[str, str]])
    assert_type(await client.start(checkout_2.options(id="x"), "A-1", 4200, note=""), AsyncHandle[dict[str, str]])
    assert_type(await client.start(charge, "A-1", 4200, id="x"), AsyncHandle[str])
    assert_type(await client.start_many(checkout, [("A-1", 4200)]), list[AsyncHandle[dict[str, str]]])
    assert_type(await client.results([handle]), list[dict[str, str]])
    assert_type(client.handle("x", wf=checkout), AsyncHandle[dict[str, str]])
    await client.start(checkout, "A-1")  # expect-error: argument
    await client.start(checkout, "A-1", "4200")  # expect-error: argument
    await client.start(checkout, "A-1", "4200", id="x")  # expect-error: argument
    await client.start(checkout, "A-1", 4200, id=1)  # expect-error: argument


def it_runs_in_this_process() -> None:
    assert_type(dramaturg.run(checkout, "A-1", 4200), dict[str, str])
    assert_type(dramaturg.run(checkout.options(id="x"), "A-1", cents=4200), dict[str, str])
    assert_type(dramaturg.run(charge, "A-1", 4200), str)
    dramaturg.run(checkout, "A-1")  # expect-error: argument
    dramaturg.run(checkout, "A-1", "4200")  # expect-error: argument
    with dramaturg.engine(threads=2) as client:
        assert_type(client, Client)


async def an_engine_for_coroutines() -> None:
    async with dramaturg.engine() as client:
        assert_type(client, AsyncClient)


def a_test_runs_it() -> None:
    with WorkflowEnv() as env:
        assert_type(env.run(checkout, "A-1", 4200), dict[str, str])
        assert_type(env.start(checkout, "A-1", 4200), Handle[dict[str, str]])
        env.run(checkout, "A-1", "4200")  # expect-error: argument


@workflow
async def what_a_workflow_can_call(until: datetime) -> None:
    await sleep("1d")
    await sleep(timedelta(hours=1))
    await sleep(until)
    assert_type(now(), datetime)
    assert_type(uuid4(), uuid.UUID)
    assert_type(dramaturg.random(), Random)
    assert_type(side_effect(len, "text"), int)
    assert_type(patched("new-tax"), bool)
    await sleep(None)  # expect-error: argument
    side_effect(len, 1)  # expect-error: argument
