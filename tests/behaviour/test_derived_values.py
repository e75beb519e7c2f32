"""Time, chance, side effects, version gates and log records: the same on every replay."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dramaturg import (
    PayloadError,
    RunInfo,
    Settings,
    StepFailed,
    WorkflowFailed,
    info,
    logger,
    now,
    patched,
    random,
    side_effect,
    sleep,
    step,
    uuid4,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.definitions import registry
from tests.behaviour.histories import events_of, types_of


def test_now_is_the_time_of_the_event_and_stands_still_between_awaits(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[datetime]:
        first = [now(), now()]
        await sleep("1h")
        return [*first, now()]

    begin = datetime(2030, 1, 1, tzinfo=UTC)
    assert env.run(flow) == [begin, begin, begin + timedelta(hours=1)]


def test_chance_is_the_same_on_replay_and_differs_within_a_run_and_between_runs(env: WorkflowEnv) -> None:
    @step
    def keep(values: list[str]) -> None: ...

    @workflow
    async def flow() -> list[str]:
        values: list[str] = []
        for _ in range(3):
            values += [str(uuid4()), str(uuid4()), str(random().random()), str(random().random())]
            await keep(values)
            await sleep(1)
        return values

    first, second = env.start(flow), env.start(flow)
    for _ in range(3):
        env.advance(1)
        env.crash()
    drawn = [*first.result(), *second.result()]

    assert len(set(drawn)) == 24
    assert uuid.UUID(drawn[0]).version == 4


def test_a_side_effect_is_called_once_and_its_result_recorded(env: WorkflowEnv) -> None:
    calls: list[int] = []

    def draw(number: int) -> dict[str, Any]:
        calls.append(number)
        return {"number": number, "at": datetime(2030, 1, 1, tzinfo=UTC)}

    @workflow
    async def flow() -> Any:
        drawn = side_effect(draw, 7)
        for _ in range(3):
            await sleep(1)
        return drawn

    handle = env.start(flow)
    for _ in range(3):
        env.run_until_idle()
        env.crash()

    assert handle.result() == {"number": 7, "at": datetime(2030, 1, 1, tzinfo=UTC)}
    assert calls == [7]
    assert len(events_of(handle, "marker.recorded")) == 1


def test_a_side_effect_that_gives_nothing_is_recorded_too(env: WorkflowEnv) -> None:
    calls: list[None] = []

    @workflow
    async def flow() -> Any:
        nothing = side_effect(lambda: calls.append(None))
        await sleep(1)
        return nothing

    handle = env.start(flow)
    env.run_until_idle()
    env.crash()

    assert handle.result() is None
    assert len(calls) == 1


def test_a_side_effect_that_raises_takes_the_same_way_on_replay(env: WorkflowEnv) -> None:
    calls: list[str] = []

    def read() -> str:
        calls.append("read")
        raise FileNotFoundError("settings.toml")

    @workflow
    async def flow() -> str:
        try:
            text = side_effect(read)
        except StepFailed as error:
            text = f"{error.error_type}: {error.message}"
        await sleep("1d")
        await sleep("1d")
        return text

    handle = env.start(flow)
    env.advance("36h")
    env.crash()

    assert handle.result() == "FileNotFoundError: settings.toml"
    assert calls == ["read"]


def test_a_side_effect_whose_result_cannot_be_encoded_takes_the_same_way_on_replay(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        try:
            side_effect(object)
        except PayloadError as error:
            await sleep(1)
            await sleep(1)
            return type(error).__name__
        return "recorded"

    handle = env.start(flow)
    env.advance(1)
    env.crash()

    assert handle.result() == "PayloadError"


def test_an_async_side_effect_is_refused(env: WorkflowEnv) -> None:
    async def fetch() -> None: ...

    @workflow
    async def flow() -> None:
        _ = side_effect(fetch)

    with pytest.raises(WorkflowFailed, match="what has to wait is a step"):
        env.run(flow)


def test_a_new_run_passes_a_patch_with_the_changed_code(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[bool]:
        first = patched("change")
        await sleep(1)
        return [first, patched("change")]

    handle = env.start(flow)

    assert handle.result() == [True, True]
    assert [data["name"] for data in events_of(handle, "marker.recorded")] == ["change"]


def test_an_older_run_passes_a_patch_with_the_code_that_it_began_with(env: WorkflowEnv) -> None:
    @workflow(name="flow")
    async def before() -> list[str]:
        seen: list[str] = []
        for _ in range(4):
            seen.append("old")
            await sleep("1h")
        return seen

    handle = env.start(before)
    env.advance("2h30m")
    registry.workflows.clear()

    @workflow(name="flow")
    async def after() -> list[str]:
        seen: list[str] = []
        for _ in range(4):
            if patched("change"):
                await sleep("1m")
                seen.append("new")
            else:
                seen.append("old")
            await sleep("1h")
        return seen

    env.restart()

    assert handle.result() == ["old"] * 4
    assert env.run(after) == ["new"] * 4


def test_a_patch_that_an_older_run_reaches_only_now_is_passed_with_the_changed_code(env: WorkflowEnv) -> None:
    @workflow(name="flow")
    async def before() -> str:
        await sleep("1h")
        return "old"

    handle = env.start(before)
    env.run_until_idle()
    registry.workflows.clear()

    @workflow(name="flow")
    async def after() -> str:
        await sleep("1h")
        if patched("change"):
            await sleep("1m")
            return "new"
        return "old"

    env.restart()
    env.advance("1h")
    env.crash()

    assert handle.result() == "new"


def test_a_run_that_waited_for_its_code_passes_a_patch_with_the_changed_code(env: WorkflowEnv) -> None:
    handle = env.client.start("flow")
    env.run_until_idle()

    @workflow
    async def flow() -> bool:
        logger.warning("at last")
        answer = patched("change")
        await sleep(1)
        return answer

    env.restart()

    assert handle.result() is True
    assert [data["message"] for data in events_of(handle, "log")] == ["at last"]


def test_the_logger_speaks_once_and_names_the_run_and_the_line(
    env: WorkflowEnv, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow
    async def flow() -> None:
        logger.info("step %d of %d", 1, 2)
        await sleep(1)
        logger.info("%(what)s", {"what": "the end"})

    handle = env.start(flow)
    with caplog.at_level(logging.INFO, "dramaturg.workflow"):
        env.run_until_idle()
        env.crash()
        handle.result()

    records = [record for record in caplog.records if record.name == "dramaturg.workflow"]
    assert [record.getMessage() for record in records] == ["step 1 of 2", "the end"]
    assert {record.filename for record in records} == {"test_derived_values.py"}
    assert records[0].run_id == handle.run_id  # type: ignore[attr-defined]


@pytest.mark.selection
def test_records_from_warning_on_are_events(env: WorkflowEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest-xdist cannot send a captured log with a lone surrogate from one process to another.
    monkeypatch.setattr(logging.getLogger("dramaturg.workflow"), "propagate", False)

    @workflow
    async def flow() -> None:
        logger.info("quiet")
        logger.warning("careful, %s", "you")
        await sleep(1)
        try:
            raise ValueError("why")
        except ValueError:
            logger.exception("broken \x00 \ud800")

    handle = env.start(flow)
    env.run_until_idle()
    env.crash()
    handle.result()

    assert events_of(handle, "log") == [
        {"level": "WARNING", "message": "careful, you"},
        {"level": "ERROR", "message": "broken \x00 \\ud800"},
    ]


def test_the_level_from_which_records_are_events_can_be_set(make_env: Callable[..., WorkflowEnv]) -> None:
    @workflow
    async def flow() -> None:
        logger.warning("careful")
        logger.error("broken")

    settings = Settings(history_log_level="ERROR")
    with make_env(settings=settings) as env:
        handle = env.start(flow)
        handle.result()

        assert [data["message"] for data in events_of(handle, "log")] == ["broken"]


def test_a_record_that_cannot_be_formatted_does_not_end_the_run(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        logging.raiseExceptions = False
        try:
            logger.warning("%d", "no number")
        finally:
            logging.raiseExceptions = True
        return "fine"

    assert env.run(flow) == "fine"


def test_info_is_about_the_run(env: WorkflowEnv) -> None:
    seen: list[RunInfo] = []

    @workflow(version=3)
    async def flow() -> str:
        seen.append(info())
        return info().run_id

    handle = env.start(flow.options(id="mine", tags={"team": "a"}))

    assert handle.result() == handle.run_id
    about = seen[-1]
    assert (about.workflow_id, about.workflow, about.version) == ("mine", "flow", 3)
    assert about.tags == {"team": "a"}
    assert about.started_at == datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "call", [now, random, uuid4, info, lambda: patched("x"), lambda: side_effect(int), lambda: sleep(1)]
)
def test_outside_a_workflow_it_says_so(call: Any) -> None:
    with pytest.raises(RuntimeError, match="inside a workflow only"):
        call()


def test_the_history_of_a_plain_run_holds_nothing_of_all_this(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        assert all((now(), random(), uuid4(), info()))
        logger.info("quiet")

    handle = env.start(flow)
    handle.result()

    assert types_of(handle) == ["run.started", "run.completed"]
