"""What a step knows of itself."""

from __future__ import annotations

import pytest

from dramaturg_actors.context import StepContext, current_step
from tests.unit.actors.workshop import Workshop


def test_there_is_no_current_step_outside_one() -> None:
    assert current_step() is None


@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_a_step_knows_its_run_position_and_attempt(workshop: Workshop, kind: str) -> None:
    seen: list[StepContext | None] = []

    @workshop.step
    def look() -> None:
        seen.append(current_step())

    @workshop.step
    async def async_look() -> None:
        seen.append(current_step())

    workshop.start()
    workshop.run("look" if kind == "thread" else "async_look", seq=4, attempt=2, generation=1, max_attempts=5)

    (step,) = seen
    assert step is not None
    assert (step.run_id, step.workflow_id, step.workflow) == ("r", "w", "flow")
    assert (step.seq, step.attempt, step.max_attempts) == (4, 2, 5)
    assert step.idempotency_key == "r:1:4"
    assert (step.interrupted, step.stopping, dict(step.state)) == (None, False, {})


def test_records_of_the_logger_carry_the_step(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    @workshop.step
    def talk() -> None:
        step = current_step()
        assert step is not None
        step.logger.warning("hello")

    workshop.start()
    workshop.run("talk", seq=9)

    (record,) = [record for record in caplog.records if record.getMessage() == "hello"]
    assert (vars(record)["run_id"], vars(record)["step"], vars(record)["seq"]) == ("r", "talk", 9)
    assert record.name == "dramaturg.step"
