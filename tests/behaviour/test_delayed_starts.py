"""A start with a delay: accepted at once, listed and cancelled as any run, and its code begins when it is time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dramaturg import Handle, WorkflowCancelled, WorkflowTimedOut, info, now, sleep, step, workflow
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import types_of

begun: list[datetime] = []


@pytest.fixture(autouse=True)
def flow() -> Any:
    begun.clear()

    @step(name="delayed_step")
    def work(number: int) -> int:
        return number * 2

    @workflow(name="delayed_flow")
    async def flow_(number: int) -> str:
        begun.append(now())
        assert info().started_at <= now()
        return f"{await work(number)} at {now():%Y-%m-%d %H:%M}"

    return flow_


def is_put_off(env: WorkflowEnv, handle: Handle[Any]) -> None:
    env.run_until_idle()
    described = handle.describe()
    assert described.status == "PENDING"
    assert described.waiting_for.startswith("its start, in ")
    assert [run.run_id for run in env.client.runs(status="PENDING")] == [handle.run_id]
    assert not begun


@pytest.mark.selection
def test_its_code_begins_after_the_duration(env: WorkflowEnv, flow: Any) -> None:
    handle = env.client.start(flow, 4, delay="2h")
    is_put_off(env, handle)

    env.advance("1h59m59s")
    is_put_off(env, handle)
    env.crash()
    is_put_off(env, handle)
    env.advance("1s")

    assert handle.result() == "8 at 2030-01-01 02:00"
    assert set(begun) == {datetime(2030, 1, 1, 2, tzinfo=UTC)}


def test_it_begins_at_a_moment_in_years(env: WorkflowEnv, flow: Any) -> None:
    moment = datetime(2055, 7, 1, 9, tzinfo=UTC)
    handle = env.client.start(flow, 4, delay=moment)
    is_put_off(env, handle)

    assert handle.result() == "8 at 2055-07-01 09:00"


@pytest.mark.parametrize("delay", [0, timedelta(0), datetime(2001, 1, 1, tzinfo=UTC)])
def test_one_that_is_over_begins_at_once(env: WorkflowEnv, flow: Any, delay: Any) -> None:
    handle = env.client.start(flow, 4, delay=delay)

    assert handle.result() == "8 at 2030-01-01 00:00"
    assert "timer.started" not in types_of(handle)


@pytest.mark.parametrize("crashes", [False, True])
def test_one_that_is_cancelled_before_never_begins(env: WorkflowEnv, flow: Any, crashes: bool) -> None:
    handle = env.client.start(flow, 4, delay="3d")
    if crashes:
        env.run_until_idle()
        env.crash()

    handle.cancel(by="ada")

    with pytest.raises(WorkflowCancelled):
        handle.result()
    env.advance("4d")
    assert not begun
    assert handle.describe().status == "CANCELLED"


def test_one_that_is_terminated_before_never_begins(env: WorkflowEnv, flow: Any) -> None:
    handle = env.client.start(flow, 4, delay="3d")
    handle.terminate()
    env.advance("4d")

    assert not begun
    assert handle.describe().status == "TERMINATED"


def test_one_that_is_paused_begins_when_it_is_resumed(env: WorkflowEnv, flow: Any) -> None:
    handle = env.client.start(flow, 4, delay="1h")
    handle.pause()
    env.advance("2h")
    assert not begun
    assert handle.describe().status == "PAUSED"

    handle.resume()

    assert handle.result().startswith("8 at")


def test_its_time_counts_from_its_beginning(env: WorkflowEnv) -> None:
    @workflow(name="delayed_with_timeout", timeout="1h")
    async def flow() -> None:
        begun.append(now())
        await sleep("2h")

    handle = env.client.start(flow, delay="5h")
    env.advance("5h30m")
    assert handle.describe().status == "WAITING"

    with pytest.raises(WorkflowTimedOut):
        handle.result()
    assert env.now == datetime(2030, 1, 1, 6, tzinfo=UTC)


def test_its_id_is_taken_meanwhile(env: WorkflowEnv, flow: Any) -> None:
    first = env.client.start(flow, 4, id="bill", delay="1d")
    second = env.client.start(flow, 5, id="bill", on_conflict="use_existing")

    assert second.run_id == first.run_id
    assert second.result() == "8 at 2030-01-02 00:00"


def test_the_same_key_gives_the_same_run(env: WorkflowEnv, flow: Any) -> None:
    first = env.client.start(flow, 4, idempotency_key="k", delay="1d")
    second = env.client.start(flow, 4, idempotency_key="k", delay="9d")

    assert second.run_id == first.run_id
    assert first.result() == "8 at 2030-01-02 00:00"


def test_a_reset_to_its_start_waits_no_longer_than_it_did(env: WorkflowEnv, flow: Any) -> None:
    handle = env.client.start(flow, 4, delay="1h")
    handle.result()
    env.advance("1d")

    handle.reset(1)

    assert handle.result() == "8 at 2030-01-02 01:00"


def test_a_fork_of_it_does_not_wait_again(env: WorkflowEnv, flow: Any) -> None:
    handle = env.client.start(flow, 4, delay="1h")
    handle.result()

    fork = handle.fork(2)
    other = handle.fork(1, args=(5,))

    assert fork.result().startswith("8 at")
    assert other.result().startswith("10 at")
    assert env.now == datetime(2030, 1, 1, 1, tzinfo=UTC)


def test_through_an_options_object_and_for_many(env: WorkflowEnv, flow: Any) -> None:
    one = env.client.start(flow.options(delay="1h"), 1)
    many = env.client.start_many(flow, [(2,), (3,)], delay="2h")

    assert one.result() == "2 at 2030-01-01 01:00"
    assert env.client.results(many) == ["4 at 2030-01-01 02:00", "6 at 2030-01-01 02:00"]


@pytest.mark.parametrize(
    ("delay", "error", "match"),
    [
        ("soon", ValueError, "option delay: 'soon' is not a duration"),
        (-1, ValueError, "negative"),
        (datetime(2030, 1, 1), ValueError, "no time zone"),  # noqa: DTZ001
        (True, TypeError, "not a duration"),
        ("900000w", ValueError, "later than the last moment"),
    ],
)
def test_one_that_cannot_be_meant_is_refused(
    env: WorkflowEnv, flow: Any, delay: Any, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        env.client.start(flow, 4, delay=delay)
    assert env.client.count() == 0
