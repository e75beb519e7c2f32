"""What a run says to others, and shows of itself: durable, sent once, in the commit that records it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dramaturg import (
    PayloadError,
    WorkflowCancelled,
    external,
    set_status,
    signals,
    sleep,
    start_child,
    wait_signal,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of, types_of


@pytest.mark.selection
def test_a_run_signals_another_by_its_workflow_id(env: WorkflowEnv) -> None:
    @workflow
    async def listener() -> list[Any]:
        return [await wait_signal("go"), await wait_signal("go")]

    @workflow
    async def speaker() -> None:
        await external("listener-1").signal("go", {"at": datetime(2030, 1, 1, tzinfo=UTC)})
        await sleep("1h")
        external("listener-1").signal("go", 2)

    listening = env.client.start(listener, id="listener-1")
    speaking = env.start(speaker)
    env.run_until_idle()
    env.crash()
    speaking.result()

    assert listening.result() == [{"at": datetime(2030, 1, 1, tzinfo=UTC)}, 2]
    assert [event["sender"] for event in events_of(listening, "signal.received")] == [speaking.run_id] * 2
    assert [event["workflow_id"] for event in events_of(speaking, "signal.sent")] == ["listener-1"] * 2


def test_a_run_is_named_by_its_run_id_where_it_has_no_other(env: WorkflowEnv) -> None:
    @workflow
    async def plain_listener() -> Any:
        return await wait_signal("go")

    @workflow
    async def speaks_to(run_id: str) -> None:
        external(run_id).signal("go", "by run id")

    handle = env.start(plain_listener)
    env.run(speaks_to, handle.run_id)

    assert handle.result() == "by run id"


def test_what_is_sent_before_the_other_run_begins_waits_for_it(env: WorkflowEnv) -> None:
    @workflow
    async def late() -> list[Any]:
        return [await wait_signal("go"), await wait_signal("go")]

    @workflow
    async def early() -> None:
        external("late-1").signal("go", 1)
        external("late-1").signal("go", 2)

    env.run(early)
    env.advance("1h")
    env.crash()
    env.advance("1h")

    assert env.client.start(late, id="late-1").result() == [1, 2]


def test_what_nobody_comes_for_is_a_dead_letter_after_a_day(env: WorkflowEnv) -> None:
    @workflow
    async def speaks_to_nobody() -> None:
        external("nobody-" + 100 * "x").signal("go", 1)

    env.run(speaks_to_nobody)
    env.advance("23h")
    assert env.client.dead_letters.list() == []
    env.advance("2h")
    env.turn()

    (letter,) = env.client.dead_letters.list()
    assert "became known within 1 day" in letter.reason


def test_a_signal_for_a_closed_run_is_a_dead_letter(env: WorkflowEnv) -> None:
    @workflow
    async def short() -> None:
        """Nothing."""

    @workflow
    async def speaks_too_late() -> None:
        external("short-1").signal("go", 1)

    env.client.start(short, id="short-1").result()
    env.run(speaks_too_late)
    env.run_until_idle()

    (letter,) = env.client.dead_letters.list()
    assert "COMPLETED: it takes no signal 'go'" in letter.reason


def test_a_run_cancels_another(env: WorkflowEnv) -> None:
    @workflow
    async def is_patient() -> None:
        await sleep("30d")

    @workflow
    async def cancels() -> None:
        await external("patient-1").cancel()
        external("patient-1").cancel()

    handle = env.client.start(is_patient, id="patient-1")
    env.run(cancels)

    with pytest.raises(WorkflowCancelled):
        handle.result()
    assert types_of(handle).count("run.cancel_requested") == 1


def test_a_parent_signals_its_child_and_the_child_its_parent(env: WorkflowEnv) -> None:
    @workflow
    async def younger(parent: str) -> int:
        total = 0
        async for number in signals("number", type=int):
            total += number
            external(parent).signal("total", total)
            if number == 0:
                return total
        return 0

    @workflow
    async def elder() -> list[int]:
        handle = start_child(younger, "elder-1")
        seen: list[int] = []
        for number in (1, 2, 0):
            await handle.signal("number", number)
            seen.append(await wait_signal("total", type=int))
            await sleep("1h")
        return [*seen, await handle.result()]

    assert env.client.start(elder, id="elder-1").result() == [1, 3, 3, 3]


def test_a_payload_that_cannot_be_sent_is_refused_at_the_call(env: WorkflowEnv) -> None:
    @workflow
    async def speaks_nonsense() -> list[str]:
        said: list[str] = []
        for call in (
            lambda: external("x").signal("go", object()),
            lambda: external("").signal("go"),
            lambda: external("x").signal(""),
            lambda: set_status(object()),
        ):
            try:
                call()
            except (PayloadError, ValueError) as error:
                said.append(str(error))
        return said

    said = env.run(speaks_nonsense)

    assert "signal 'go'" in said[0]
    assert "workflow id" in said[1]
    assert "name of a signal" in said[2]
    assert "set_status" in said[3]


@pytest.mark.selection
def test_a_status_of_the_runs_own_is_shown_with_it(env: WorkflowEnv) -> None:
    @workflow
    async def tells_how_far_it_is() -> None:
        for done in range(3):
            set_status({"done": done})
            set_status({"done": done})
            await sleep("1h")

    handle = env.start(tells_how_far_it_is)
    env.advance("90m")
    env.crash()
    assert handle.describe().custom_status == {"done": 1}

    handle.result()
    assert handle.describe().custom_status == {"done": 2}
    assert len(events_of(handle, "status.set")) == 3
