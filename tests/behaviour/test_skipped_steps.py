"""Steps that a middleware of the application's own broker would not have run."""

from __future__ import annotations

from typing import Any

from dramatiq.middleware import Middleware, SkipMessage

from dramaturg import StepFailed, step, workflow
from dramaturg.testing import WorkflowEnv
from tests.behaviour.histories import events_of, types_of


class Gate(Middleware):
    """Lets nothing pass that is for one step."""

    def before_process_message(self, broker: Any, message: Any) -> None:
        if message.actor_name == "skipped_by_gate":
            raise SkipMessage("closed")


@step(name="skipped_by_gate")
def skipped() -> None:
    raise AssertionError("it ran")


@workflow(name="skipped_flow")
async def flow() -> tuple[str, int]:
    try:
        await skipped()
    except StepFailed as error:
        return error.error_type, error.attempts
    return "it ran", 0


def test_a_step_that_a_middleware_skips_is_skipped_once_and_fails_for_the_workflow(env: WorkflowEnv) -> None:
    env.broker.add_middleware(Gate())
    handle = env.start(flow)

    error_type, attempts = handle.result()

    assert error_type.endswith("SkipMessage")
    assert attempts == 1
    assert types_of(handle) == ["run.started", "step.scheduled", "step.skipped", "run.completed"]
    assert len(events_of(handle, "step.skipped")) == 1
