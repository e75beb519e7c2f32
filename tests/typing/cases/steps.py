"""Steps, as type checkers see them. A line that is to be refused says by which rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, assert_type

import dramatiq

from dramaturg import RetryPolicy, Step, StepFunction, step, step_ref, workflow


@step
def charge(order_id: str, cents: int) -> str:
    return f"{order_id} {cents}"


@step(retries=5, timeout="30s", queue="payments")
def charge_with_options(order_id: str, cents: int) -> str:
    return f"{order_id} {cents}"


@step
async def fetch(url: str, *, depth: int = 1) -> list[int]:
    return [len(url), depth]


@step(retries=RetryPolicy(max_attempts=2, give_up_on=(ValueError,)), timeout=timedelta(seconds=3))
async def fetch_with_options(url: str) -> list[int]:
    return [len(url)]


@dramatiq.actor
def resize(path: str, width: int) -> int:
    return len(path) * width


@dramatiq.actor
async def notify(address: str) -> bool:
    return bool(address)


resize_step = step(resize)
notify_step = step(queue="mail")(notify)


async def actors_are_typed_as_steps() -> None:
    assert_type(await resize_step("a.png", 100), int)
    assert_type(await notify_step("a@example.org"), bool)
    await resize_step("a.png", "100")  # expect-error: argument
    await notify_step(1)  # expect-error: argument


async def calls_are_typed() -> None:
    assert_type(await charge("A-1", 4200), str)
    assert_type(await charge(order_id="A-1", cents=4200), str)
    assert_type(await charge_with_options("A-1", 4200), str)
    assert_type(await fetch("https://example.org", depth=2), list[int])
    assert_type(await fetch_with_options("https://example.org"), list[int])
    await charge("A-1")  # expect-error: argument
    await charge("A-1", "4200")  # expect-error: argument
    await charge("A-1", 4200, 1)  # expect-error: argument
    await charge("A-1", amount=4200)  # expect-error: argument
    await charge_with_options(1, 4200)  # expect-error: argument
    await fetch(1)  # expect-error: argument
    await fetch("https://example.org", 2)  # expect-error: argument
    await fetch_with_options()  # expect-error: argument
    charge("A-1", 4200)  # expect-error: coroutine


def a_step_is_no_plain_function() -> None:
    receipt: str = charge("A-1", 4200)  # expect-error: assignment
    assert_type(charge.name, str)
    plain: Callable[[str, int], Any] = charge.fn
    del receipt, plain


async def options_of_one_call_keep_the_types() -> None:
    assert_type(await charge.options(retries=0)("A-1", 4200), str)
    assert_type(await fetch.options(timeout="5s", queue="slow")("https://example.org"), list[int])
    await charge.options(retries=0)("A-1", "4200")  # expect-error: argument
    charge.options(retry=0)  # expect-error: argument
    charge.options(retries="0")  # expect-error: argument
    charge.options(timeout=["5s"])  # expect-error: argument
    charge.options(name="other")  # expect-error: argument
    charge.options(isolation="container")  # expect-error: argument


step(retry=5)  # expect-error: argument
step(retries="5")  # expect-error: argument
step(queue=7)  # expect-error: argument


@workflow
async def steps_under_asyncio(urls: list[str]) -> int:
    receipt, numbers = await asyncio.gather(charge("A-1", 4200), fetch("https://example.org"))
    assert_type(receipt, str)
    assert_type(numbers, list[int])
    assert_type(await asyncio.gather(*[fetch(url) for url in urls]), list[list[int]])
    assert_type(
        await asyncio.gather(*[charge(url, 1) for url in urls], return_exceptions=True), list[str | BaseException]
    )
    async with asyncio.TaskGroup() as group:
        member = group.create_task(fetch("https://example.org"))
    assert_type(member.result(), list[int])
    task = asyncio.create_task(charge("A-1", 4200))
    assert_type(await task, str)
    assert_type(await asyncio.wait_for(charge("A-1", 4200), 5), str)
    wrong: list[int] = await charge("A-1", 4200)  # expect-error: assignment
    first: list[int] = (await asyncio.gather(charge("A-1", 1), fetch("x")))[0]  # expect-error: assignment
    return len(wrong) + len(first)


def a_call_is_a_coroutine() -> Coroutine[object, None, str]:
    return charge("A-1", 4200)


@step_ref(queue="gpu")
def embed(text: str) -> list[float]:
    raise NotImplementedError


@step_ref(queue="gpu", name="embed_many")
async def embed_many(texts: list[str]) -> list[list[float]]:
    raise NotImplementedError


by_name = step_ref("someones_step", queue="legacy")


async def steps_whose_code_is_elsewhere() -> None:
    assert_type(await embed("text"), list[float])
    assert_type(await embed_many(["text"]), list[list[float]])
    assert_type(await embed.options(retries=1)("text"), list[float])
    assert_type(await by_name("anything", 1), Any)
    await embed(1)  # expect-error: argument
    await embed_many("text")  # expect-error: argument
    step_ref("someones_step", quue="legacy")  # expect-error: argument


class Resize(Step):
    queue = "images"

    def run(self, path: str) -> int:
        return len(path)


async def the_class_form() -> None:
    assert_type(await Resize()("a.png"), Any)
    Resize.options(retry=3)  # expect-error: argument


def helpers_can_name_the_type(step: StepFunction[[str], list[float]]) -> str:
    return step.name


helpers_can_name_the_type(embed)
helpers_can_name_the_type(charge)  # expect-error: argument
