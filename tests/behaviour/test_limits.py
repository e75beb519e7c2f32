"""Limits of steps over all workers: so many at once, so many in a time; for all, or for each value of a key."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from dramaturg import Handle, Limit, StepFailed, step, workflow
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import outcomes_of


class Meter:
    """How many are under way at once, by key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.began: list[str] = []

    def enter(self, key: str = "") -> None:
        with self._lock:
            self.began.append(key)
            self.running[key] += 1
            self.most[key] = max(self.most[key], self.running[key])

    def leave(self, key: str = "") -> None:
        with self._lock:
            self.running[key] -= 1


@pytest.fixture
def meter() -> Meter:
    return Meter()


def slots_of(env: WorkflowEnv) -> list[Any]:
    return list(env.database.store.slots(env.database.partitions, env.now))


def many(work: Any, count: int) -> Any:
    @workflow(name="many")
    async def flow() -> int:
        await asyncio.gather(*[work(number) for number in range(count)])
        return count

    return flow


@pytest.mark.selection
def test_no_more_than_so_many_run_at_once_over_all_runs(env: WorkflowEnv, meter: Meter) -> None:
    @step(concurrency=2)
    async def work(number: int) -> None:
        meter.enter()
        await asyncio.sleep(0)
        meter.leave()

    flow = many(work, 7)
    handles = [env.start(flow) for _ in range(3)]
    for handle in handles:
        assert handle.result() == 7

    assert meter.most[""] <= 2
    assert len(meter.began) == 21
    assert slots_of(env) == []


def test_each_value_of_a_key_has_a_limit_of_its_own(env: WorkflowEnv, meter: Meter) -> None:
    @step(concurrency=Limit(1, key="tenant"))
    def work(number: int, tenant: str = "none") -> None:
        meter.enter(tenant)
        meter.leave(tenant)

    @workflow
    async def flow() -> None:
        calls = [work(number, tenant=f"t{number % 2}") for number in range(6)]
        await asyncio.gather(*calls, work(6))

    handle = env.start(flow)
    env.turn()
    scheduled = [event.data["limits"] for event in handle.events() if event.type == "step.scheduled"]
    granted = [slot.key for slot in slots_of(env) if slot.granted_at is not None]
    handle.result()

    assert scheduled[0] == {"concurrency": "t0"}
    assert scheduled[6] == {"concurrency": "none"}
    if len(env.database.partitions) == 1:
        assert sorted(granted) == ["none", "t0", "t1"]
    assert meter.most == {"t0": 1, "t1": 1, "none": 1}
    assert slots_of(env) == []


def test_a_key_may_be_a_function_of_the_arguments(env: WorkflowEnv, meter: Meter) -> None:
    @step(concurrency=Limit(1, key=lambda user: user["tenant"]))
    def work(user: dict[str, str]) -> None:
        meter.enter(user["tenant"])
        meter.leave(user["tenant"])

    @workflow
    async def flow() -> None:
        await asyncio.gather(*[work({"tenant": "acme", "name": str(number)}) for number in range(4)])

    env.run(flow)

    assert meter.most == {"acme": 1}


def test_no_more_begin_in_any_span_of_a_rate(env: WorkflowEnv) -> None:
    began: list[datetime] = []

    @step(rate_limit="3/10s")
    def work(number: int) -> None:
        began.append(env.now)

    assert env.run(many(work, 8)) == 8

    assert len(began) == 8
    for moment in began:
        assert sum(1 for other in began if 0 <= (other - moment).total_seconds() < 10) <= 3
    assert (max(began) - min(began)).total_seconds() == 20


@pytest.mark.selection
def test_what_was_spent_of_a_rate_stays_spent_over_a_crash(env: WorkflowEnv) -> None:
    began: list[datetime] = []

    @step(rate_limit="2/1h")
    def work(number: int) -> None:
        began.append(env.now)

    handle = env.start(many(work, 5))
    env.run_until_idle()
    env.crash()
    env.run_until_idle()
    assert len(began) == 2

    env.advance("59m")
    assert len(began) == 2
    assert handle.result() == 5
    assert len(slots_of(env)) == 1


def test_each_attempt_is_one_of_the_rate_and_has_its_place_only_while_it_may_run(
    env: WorkflowEnv, meter: Meter
) -> None:
    tries: list[datetime] = []

    @step(rate_limit="1/m", concurrency=1, retries=2)
    def work() -> None:
        tries.append(env.now)
        raise ValueError("no")

    @step(concurrency=1)
    def other() -> str:
        return "ran"

    @workflow
    async def flow() -> None:
        await work()

    handle = env.start(flow)
    env.run_until_idle()
    assert [slot for slot in slots_of(env) if slot.until is None] == []
    with pytest.raises(Exception, match="no"):
        handle.result()

    spans = [(after - before).total_seconds() for before, after in pairwise(tries)]
    assert len(tries) == 3
    assert min(spans) >= 60


def wait_for_room(env: WorkflowEnv, **options: Any) -> tuple[Handle[Any], Handle[Any], threading.Event]:
    """One run has the only place, as long as the event is not set; another waits for it."""
    go = threading.Event()

    @step(concurrency=1, **options)
    def work(what: str) -> str:
        if what == "first":
            go.wait(20)
        return what

    @workflow
    async def flow(what: str) -> str:
        return await work(what)

    first = env.start(flow, "first")
    env.turn()
    second = env.start(flow, "second")
    for _ in range(6):
        env.turn()
    return first, second, go


def test_a_run_that_waits_for_a_limit_says_so(env: WorkflowEnv) -> None:
    _, second, go = wait_for_room(env)

    about = second.describe()
    (figures,) = env.database.figures.read().limits
    go.set()

    assert (figures.name, figures.granted, figures.waiting) == ("work", 1, 1)
    assert about.status == "WAITING"
    assert "waits for its limit" in about.waiting_for
    assert second.result() == "second"
    assert second.describe().status == "COMPLETED"


END: dict[str, Callable[[Handle[Any]], Any]] = {
    "cancel": lambda handle: handle.cancel(),
    "terminate": lambda handle: handle.terminate(),
}


@pytest.mark.parametrize("how", END)
def test_a_run_that_ends_while_it_waits_leaves_the_queue(env: WorkflowEnv, how: str) -> None:
    first, second, go = wait_for_room(env)

    END[how](second)
    for _ in range(4):
        env.turn()
    waiting = [slot for slot in slots_of(env) if slot.granted_at is None]
    go.set()
    first.result()

    assert waiting == []
    assert slots_of(env) == []
    assert outcomes_of(second).total() in (0, 1)


@pytest.mark.parametrize("how", END)
def test_a_run_that_ends_gives_its_place_to_the_next(env: WorkflowEnv, how: str) -> None:
    first, second, go = wait_for_room(env)

    END[how](first)
    assert second.result() == "second"
    go.set()
    env.run_until_idle()

    assert slots_of(env) == []


def test_who_waits_too_long_is_out_of_its_queue_timeout(env: WorkflowEnv) -> None:
    go = threading.Event()

    @step(concurrency=1, local=True)
    def hold() -> None:
        go.wait(20)

    @step(rate_limit="1/1h", queue_timeout="10m")
    def work(number: int) -> int:
        return number

    @workflow
    async def flow() -> list[Any]:
        return [str(type(each).__name__) for each in await asyncio.gather(work(1), work(2), return_exceptions=True)]

    assert env.run(flow) == ["int", "StepTimeout"]
    assert [slot for slot in slots_of(env) if slot.until is None] == []


@pytest.mark.selection
def test_a_crash_loses_neither_places_nor_those_who_wait(env: WorkflowEnv, meter: Meter) -> None:
    @step(concurrency=2)
    def work(number: int) -> None:
        meter.enter()
        meter.leave()

    handle = env.start(many(work, 9))
    for _ in range(3):
        env.turn()
        env.crash()

    assert handle.result() == 9
    assert slots_of(env) == []


def test_local_steps_wait_too(env: WorkflowEnv, meter: Meter) -> None:
    @step(local=True, concurrency=1)
    def work(number: int) -> None:
        meter.enter()
        meter.leave()

    assert env.run(many(work, 5)) == 5
    assert meter.most[""] == 1
    assert slots_of(env) == []


def test_of_those_who_wait_the_lower_priority_is_first(env: WorkflowEnv) -> None:
    ran: list[int] = []

    @step(concurrency=1)
    def work(priority: int) -> None:
        ran.append(priority)

    @workflow
    async def flow() -> None:
        await asyncio.gather(*[work.options(priority=number)(number) for number in (0, 3, 2, -1, 3)])

    env.run(flow)

    assert ran == [0, -1, 2, 3, 3]


def test_a_limit_of_a_call_goes_before_that_of_the_decorator(env: WorkflowEnv, meter: Meter) -> None:
    @step(concurrency=5)
    def work(number: int) -> None:
        meter.enter()
        meter.leave()

    env.run(many(work.options(concurrency=1), 6))

    assert meter.most[""] == 1


def test_a_retried_run_asks_anew_for_what_it_does_again(env: WorkflowEnv) -> None:
    is_broken = True

    @step(concurrency=1, retries=0)
    def work() -> str:
        if is_broken:
            raise ValueError("no")
        return "done"

    @workflow
    async def flow() -> str:
        return await work()

    handle = env.start(flow)
    with pytest.raises(Exception, match="no"):
        handle.result()
    is_broken = False
    handle.retry()

    assert handle.result() == "done"
    assert slots_of(env) == []


def test_a_limit_that_is_wrong_is_refused_where_it_is_given() -> None:
    amounts: list[Any] = ["100", "0/s", "5/0s", "1/fortnight", 3]
    for wrong in amounts:
        with pytest.raises(ValueError, match="rate_limit"):
            step(rate_limit=wrong)
    with pytest.raises(ValueError, match="concurrency must be at least 1"):
        step(concurrency=0)
    with pytest.raises(TypeError, match="no argument of it: it has number"):

        @step(concurrency=Limit(1, key="tenant"))
        def work(number: int) -> None: ...


def test_a_key_that_cannot_be_read_fails_the_call(env: WorkflowEnv) -> None:
    @step(concurrency=Limit(1, key=lambda number: object()))
    def work(number: int) -> None: ...

    @workflow
    async def flow() -> str:
        try:
            await work(1)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "it ran"

    assert env.run(flow).startswith("PayloadError: step 'work': the key of its concurrency")


def test_a_key_may_be_any_text(env: WorkflowEnv) -> None:
    @step(concurrency=Limit(1, key="what"))
    def work(what: str) -> str:
        return what

    @workflow
    async def flow(*what: str) -> list[str]:
        return list(await asyncio.gather(*[work(each) for each in what]))

    texts = ["", "a\0b", "ü 🎭", "x" * 5000]
    assert env.run(flow, *texts, *texts) == [*texts, *texts]
    assert slots_of(env) == []


def test_a_step_that_fails_gives_its_place_back(env: WorkflowEnv) -> None:
    @step(concurrency=1, retries=0)
    def work(number: int) -> None:
        raise ValueError(number)

    @workflow
    async def flow() -> int:
        found = await asyncio.gather(*[work(number) for number in range(4)], return_exceptions=True)
        return sum(isinstance(each, StepFailed) for each in found)

    assert env.run(flow) == 4
    assert slots_of(env) == []
