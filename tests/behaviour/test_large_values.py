"""Large values: the history is small, each value is stored once, and nobody notices otherwise."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import func, select

from dramaturg import step, workflow
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.large import LARGE
from dramaturg_protocol.records import Unreadable
from dramaturg_store.schema import events, value_uses, values

BIG = "ä" + "x" * (LARGE + 1)


class Document(BaseModel):
    """Something large with a type."""

    text: str
    pages: int = 1


@step(name="large_measure")
def measure(number: int, document: Document, *, note: str = "") -> int:
    return number + len(document.text) + len(note)


@step(name="large_make")
def make(size: int) -> dict[str, str]:
    return {"text": "y" * size, "tag": "$type"}


@workflow(name="large_fan_out")
async def measures(document: Document, count: int) -> list[int]:
    return list(await asyncio.gather(*(measure(number, document, note=document.text) for number in range(count))))


@workflow(name="large_results")
async def makes(size: int) -> dict[str, str]:
    made = await make(size)
    await asyncio.sleep(60)
    return made


def longest_event(env: WorkflowEnv) -> int:
    with env.database.engine.connect() as connection:
        return max(len(text) for text in connection.scalars(select(events.c.data)))


def count(env: WorkflowEnv, table: Any) -> int:
    with env.database.engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def values_of_mine(env: WorkflowEnv) -> int:
    """Other tests may share the database."""
    with env.database.engine.connect() as connection:
        runs = [run.run_id for run in env.client.runs()]
        uses = select(func.count(value_uses.c.hash.distinct())).where(value_uses.c.run_id.in_(runs))
        return int(connection.execute(uses).scalar_one())


@pytest.mark.selection
def test_a_fan_out_with_one_large_argument_stores_it_once(env: WorkflowEnv) -> None:
    handle = env.start(measures, Document(text=BIG), 20)

    assert handle.result() == [number + 2 * len(BIG) for number in range(20)]
    assert longest_event(env) < LARGE
    assert values_of_mine(env) == 2  # the document, and its text alone


@pytest.mark.selection
def test_a_large_result_comes_back_after_a_crash(env: WorkflowEnv) -> None:
    handle = env.start(makes, 3 * LARGE)
    env.run_until_idle()
    env.crash()

    assert handle.result() == {"text": "y" * 3 * LARGE, "tag": "$type"}
    assert longest_event(env) < LARGE
    assert values_of_mine(env) == 1


def test_people_are_shown_the_values(env: WorkflowEnv) -> None:
    handle = env.start(measures, Document(text=BIG), 1)
    handle.result()

    assert BIG in json.dumps([event.data for event in handle.events()], ensure_ascii=False)
    assert next(iter(handle.events())).data["input"]["args"][0]["text"] == BIG
    assert handle.fork(1).result() == [2 * len(BIG)]


def test_a_retried_and_a_reset_run_has_its_values(env: WorkflowEnv) -> None:
    handle = env.start(makes, 2 * LARGE)
    handle.result()
    handle.reset(2)
    env.crash()

    assert handle.result()["text"] == "y" * 2 * LARGE


def test_a_value_goes_with_the_last_run_that_has_it(env: WorkflowEnv) -> None:
    first, second = (env.start(makes, 2 * LARGE) for _ in range(2))
    first.result()
    env.advance("2d")
    second.result()
    third = env.start(makes, 2 * LARGE)
    third.result()
    env.database.prune.closed_runs(timedelta(days=1))
    env.database.prune.leftovers()
    assert third.result()["text"] == "y" * 2 * LARGE
    assert values_of_mine(env) == 1

    env.advance("2d")
    env.database.prune.closed_runs(timedelta(days=1))
    env.database.prune.leftovers()
    assert count(env, values.alias()) == 0 or env.database.engine.dialect.name != "sqlite"


def test_a_run_whose_value_is_lost_is_left_as_it_is(env: WorkflowEnv) -> None:
    handle = env.start(makes, 2 * LARGE)
    env.run_until_idle()
    with env.database.engine.begin() as connection:
        connection.execute(value_uses.delete().where(value_uses.c.run_id == handle.run_id))

    found = env.database.store.load([handle.run_id])[handle.run_id]
    assert isinstance(found, Unreadable)
    assert "large value" in found.reason


def test_values_that_look_like_a_reference_are_values(env: WorkflowEnv) -> None:
    odd = {"$type": "large", "hash": "0" * 40}

    @step
    def echo(value: dict[str, str]) -> dict[str, str]:
        return value

    @workflow
    async def flow(value: dict[str, str]) -> dict[str, str]:
        return await echo(value)

    handle = env.start(flow, odd)
    env.run_until_idle()
    env.crash()
    assert handle.result() == odd
