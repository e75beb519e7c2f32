"""Every option that is accepted is obeyed: each has a test that fails where it is ignored. Some stand here."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from dramaturg import AlreadyStarted, IdempotencyMismatch, WorkflowFailed, sleep, step, workflow
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.options import StartOptions, StepOptions, WorkflowOptions
from tests.behaviour.histories import events_of

pytestmark = pytest.mark.behaviour

HERE = Path(__file__).parents[1]

#: By option the test of it, ``folder/module::function``; options of a call are those of a step.
STEP = {
    "name": "behaviour/test_every_option::test_a_step_and_a_workflow_are_known_by_the_name_that_they_are_given",
    "queue": "behaviour/test_every_option::test_the_queue_of_a_call_goes_before_that_of_the_step",
    "priority": "behaviour/test_priorities::test_the_priority_of_a_call_decides_who_is_first",
    "retries": "behaviour/test_retries::test_a_number_of_retries_is_that_many_after_the_first",
    "timeout": "behaviour/test_steps::test_a_step_that_takes_too_long_is_a_timeout",
    "retry_on_timeout": "behaviour/test_steps::test_a_timeout_is_retried_unless_it_is_not_to_be",
    "queue_timeout": "behaviour/test_timeouts::test_a_step_that_nobody_picks_up_within_its_queue_timeout_fails_and_never_runs",
    "total_timeout": "behaviour/test_timeouts::test_the_whole_time_of_a_step_counts_its_retries_and_ends_them",
    "heartbeat_timeout": (
        "behaviour/test_timeouts::test_a_step_without_heartbeats_for_too_long_is_stopped_and_tried_again_from_where_it_was"
    ),
    "local": "behaviour/test_local_steps::test_a_chain_is_recorded_like_any_other_and_no_message_is_sent",
    "isolation": "behaviour/test_isolation::test_a_call_may_choose_it",
    "compensate": "behaviour/test_run_retries::test_what_was_undone_is_done_again",
    "rate_limit": "behaviour/test_limits::test_no_more_begin_in_any_span_of_a_rate",
    "concurrency": "behaviour/test_limits::test_no_more_than_so_many_run_at_once_over_all_runs",
    "on_give_up": (
        "behaviour/test_giving_up::"
        "test_a_step_that_gave_up_is_held_and_goes_on_with_all_of_its_attempts_when_the_run_is_retried"
    ),
    "exactly_once": "behaviour/test_exactly_once::test_an_attempt_whose_report_is_lost_is_not_done_again",
    "cache": "behaviour/test_cache::test_the_same_arguments_have_the_result_of_another_run",
}
WORKFLOW = {
    "name": "behaviour/test_every_option::test_a_step_and_a_workflow_are_known_by_the_name_that_they_are_given",
    "version": "behaviour/test_changed_code::test_a_run_stays_on_the_version_that_it_began_with",
    "timeout": "behaviour/test_run_timeouts::test_a_run_whose_time_is_over_is_cancelled_and_ends_as_timed_out",
    "retries": "behaviour/test_run_retries::test_a_number_is_the_tries_after_the_first",
    "tags": "behaviour/test_every_option::test_tags_of_a_start_are_added_to_those_of_the_workflow",
    "schedule": "behaviour/test_schedules::test_each_time_begins_one_run",
    "concurrency": "behaviour/test_workflow_limits::test_a_number_is_a_limit_over_all_runs",
}
START = {
    "id": "behaviour/test_every_option::test_an_id_names_the_run_and_is_taken_while_it_is_open",
    "idempotency_key": "behaviour/test_every_option::test_a_key_gives_the_same_run_and_refuses_other_arguments",
    "on_conflict": "behaviour/test_every_option::test_who_meets_an_open_run_uses_it_or_ends_it",
    "reuse": "behaviour/test_every_option::test_an_id_that_was_used_is_free_as_the_start_says",
    "version": "behaviour/test_every_option::test_a_start_picks_a_version",
    "delay": "behaviour/test_delayed_starts::test_its_code_begins_after_the_duration",
    "tags": "behaviour/test_every_option::test_tags_of_a_start_are_added_to_those_of_the_workflow",
    "context": "behaviour/test_context::test_steps_and_code_see_what_the_run_was_started_with",
    "priority": "behaviour/test_priorities::test_the_priority_of_a_start_is_that_of_its_steps",
    "signal": "behaviour/test_signal_with_start::test_the_first_one_starts_the_run_and_all_signal_it",
    "connection": "unit/client/test_callers_transactions::test_a_start_in_a_session_that_is_rolled_back_never_was",
}


@pytest.mark.parametrize(
    ("table", "known"),
    [(STEP, StepOptions), (WORKFLOW, WorkflowOptions), (START, StartOptions)],
    ids=["step", "workflow", "start"],
)
def test_the_table_has_every_option_that_is_built(table: dict[str, str], known: Any) -> None:
    assert table.keys() == set(known.__annotations__)


@pytest.mark.parametrize("place", sorted({*STEP.values(), *WORKFLOW.values(), *START.values()}))
def test_the_test_is_there(place: str) -> None:
    module, _, function = place.partition("::")
    tree = ast.parse((HERE / f"{module}.py").read_text(encoding="utf-8"))

    assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_a_step_and_a_workflow_are_known_by_the_name_that_they_are_given(env: WorkflowEnv) -> None:
    @step(name="pay-now")
    def pay() -> str:
        return "paid"

    @workflow(name="check-out")
    async def flow() -> str:
        return await pay()

    handle = env.client.start("check-out")

    assert handle.result() == "paid"
    assert events_of(handle, "step.scheduled")[0]["name"] == "pay-now"
    assert handle.describe().workflow == "check-out"


def test_the_queue_of_a_call_goes_before_that_of_the_step(env: WorkflowEnv) -> None:
    taken: list[str] = []

    @step(queue="declared")
    def look() -> None: ...

    @workflow
    async def flow() -> None:
        await look()
        await look.options(queue="called")()

    publisher: Any = env.broker
    enqueue = publisher.declare_queue

    def declare(name: str, *args: Any, **kwargs: Any) -> Any:
        taken.append(name)
        return enqueue(name, *args, **kwargs)

    publisher.declare_queue = declare
    handle = env.start(flow)
    handle.result()

    assert [each["queue"] for each in events_of(handle, "step.scheduled")] == ["declared", "called"]
    assert {"declared", "called"} <= set(taken)


def test_tags_of_a_start_are_added_to_those_of_the_workflow(env: WorkflowEnv) -> None:
    @workflow(tags={"team": "red", "size": 1})
    async def flow() -> None: ...

    handle = env.client.start(flow, tags={"size": 2, "vip": True})
    handle.result()

    assert handle.describe().tags == {"team": "red", "size": 2, "vip": True}
    assert [run.run_id for run in env.client.runs(tags={"team": "red"})] == [handle.run_id]


def test_an_id_names_the_run_and_is_taken_while_it_is_open(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        return "done"

    handle = env.client.start(flow, id="order-1")
    with pytest.raises(AlreadyStarted, match="order-1"):
        env.client.start(flow, id="order-1")

    assert env.client.handle("order-1").result() == "done"
    assert handle.workflow_id == "order-1"


def test_a_key_gives_the_same_run_and_refuses_other_arguments(env: WorkflowEnv) -> None:
    @workflow
    async def flow(number: int) -> int:
        return number

    first = env.client.start(flow, 1, idempotency_key="k")
    again = env.client.start(flow, 1, idempotency_key="k")
    assert first.result() == 1
    later = env.client.start(flow, 1, idempotency_key="k")

    assert first.run_id == again.run_id == later.run_id
    with pytest.raises(IdempotencyMismatch):
        env.client.start(flow, 2, idempotency_key="k")


def test_who_meets_an_open_run_uses_it_or_ends_it(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        await sleep("1h")
        return "done"

    first = env.client.start(flow, id="order-1")
    used = env.client.start(flow, id="order-1", on_conflict="use_existing")
    other = env.client.start(flow, id="order-1", on_conflict="terminate_existing")
    env.run_until_idle()

    assert used.run_id == first.run_id != other.run_id
    assert first.describe().status == "TERMINATED"
    assert other.result() == "done"


def test_an_id_that_was_used_is_free_as_the_start_says(env: WorkflowEnv) -> None:
    @workflow
    async def flow(is_good: bool) -> None:
        if not is_good:
            raise ValueError("no")

    env.client.start(flow, True, id="good").result()
    failed = env.client.start(flow, False, id="bad")
    with pytest.raises(WorkflowFailed):
        failed.result()

    with pytest.raises(AlreadyStarted):
        env.client.start(flow, True, id="good", reuse="never")
    with pytest.raises(AlreadyStarted):
        env.client.start(flow, True, id="good", reuse="if_failed")
    env.client.start(flow, True, id="bad", reuse="if_failed").result()
    env.client.start(flow, True, id="good").result()


def test_a_start_picks_a_version(env: WorkflowEnv) -> None:
    @workflow(name="flow", version=1)
    async def old() -> str:
        return "old"

    @workflow(name="flow", version=2)
    async def new() -> str:
        return "new"

    assert env.client.start("flow").result() == "new"
    assert env.client.start("flow", version=1).result() == "old"
    assert old.version == 1
    assert new.version == 2
