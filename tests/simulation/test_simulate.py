"""`dramaturg.testing.simulate`, as a user calls it."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from dramaturg import FatalError, RetryableError, Workflow, approval, current_step, hook, sleep, step, workflow
from dramaturg.testing import simulate

pytestmark = pytest.mark.simulation


def test_a_workflow_of_retried_parallel_and_waiting_steps_ends_the_same_under_all_seeds() -> None:
    @step
    def reserve(item: str) -> str:
        context = current_step()
        assert context is not None
        if context.attempt == 1:
            raise RetryableError("not yet", retry_after="30s")
        return item.upper()

    @step
    async def ship(items: list[str]) -> str:
        return "+".join(items)

    @workflow
    async def order(items: list[str]) -> str:
        reserved = await asyncio.gather(*(reserve(item) for item in items))
        await sleep("1d")
        return await ship(reserved)

    simulate(order, ["a", "b", "c"], seeds=range(60))


def test_a_workflow_that_asks_people_and_waits_for_a_call_ends_the_same_under_all_seeds() -> None:
    @step
    def send(token: str) -> int:
        return len(token)

    @workflow
    async def asks() -> list[object]:
        asked = approval("legal", timeout="2d", details={"cents": 5})
        called = hook("paid", int, timeout="1d")
        length = await send(called.token)
        try:
            await called
        except TimeoutError:
            return [length > 60, (await asked).timed_out]
        return []

    simulate(asks, seeds=range(40))


def test_a_workflow_that_fails_fails_the_same_under_all_seeds() -> None:
    @step
    def refuse() -> None:
        raise FatalError("no")

    @workflow
    async def doomed() -> None:
        await refuse()

    simulate(doomed, seeds=range(40))


def counting() -> Workflow[[], int]:
    counts = itertools.count(1)

    @step
    def count() -> int:
        return next(counts)

    @workflow
    async def counts_attempts() -> int:
        return await count() * 0 + await count()

    return counts_attempts


def test_a_step_whose_result_depends_on_how_often_it_ran_is_told_with_seed_and_faults() -> None:
    with pytest.raises(AssertionError) as caught:
        simulate(counting(), seeds=range(100))

    said = str(caught.value)
    assert "another outcome: run simulated-run ended as COMPLETED" in said
    assert "undisturbed as COMPLETED 2" in said
    assert "to see it again: simulate(counts_attempts, …, seeds=[" in said


def test_code_that_is_not_deterministic_is_told_by_the_invariant_that_it_breaks() -> None:
    chances = itertools.count()

    @step
    def take(number: int) -> int:
        return number

    @workflow
    async def looks_at_a_global() -> None:
        await take(next(chances))
        await take(0)

    with pytest.raises(AssertionError, match="invariant_5_replay_asks_for_the_same"):
        simulate(looks_at_a_global, seeds=range(20))


def test_arguments_that_do_not_fit_are_refused_before_anything_runs() -> None:
    @workflow
    async def takes_one(number: int) -> int:
        return number

    with pytest.raises(TypeError):
        simulate(takes_one, 1, 2)
