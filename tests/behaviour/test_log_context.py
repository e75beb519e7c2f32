"""Log records say which run and step they belong to, whoever's logger they are from."""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

import pytest
from pydantic_core import from_json

from dramaturg import LogContextFilter, sleep, step, workflow
from dramaturg.testing import WorkflowEnv
from dramaturg_actors.logs import FIELDS, JsonFormatter, TextFormatter

theirs = logging.getLogger("somebody.else")


class Kept(logging.Handler):
    """Keeps what a handler with the filter would write."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.addFilter(LogContextFilter())

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def kept() -> Generator[Kept, None, None]:
    handler = Kept()
    theirs.addHandler(handler)
    theirs.setLevel(logging.INFO)
    yield handler
    theirs.removeHandler(handler)
    theirs.setLevel(logging.NOTSET)


@step(name="log_context_work")
def work() -> None:
    theirs.info("in the step")


@workflow(name="log_context_flow")
async def flow() -> None:
    theirs.info("in the workflow")
    await work()
    await sleep("1d")
    theirs.info("at the end")


def fields_of(record: logging.LogRecord) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in FIELDS)


def test_records_of_any_logger_bear_run_step_and_context(env: WorkflowEnv, kept: Kept) -> None:
    context = {"tenant": "acme", "message": "not mine", "step": "nor this"}
    handle = env.client.start(flow.options(id="order-1", context=context))
    handle.result()

    run_id = handle.run_id
    assert [(record.getMessage(), *fields_of(record)) for record in kept.records] == [
        ("in the workflow", run_id, "order-1", "log_context_flow", "", "", 1),
        ("in the step", run_id, "order-1", "log_context_flow", "log_context_work", 1, 1),
        ("at the end", run_id, "order-1", "log_context_flow", "", "", 1),
    ]
    assert {getattr(record, "tenant", None) for record in kept.records} == {"acme"}


def test_code_that_is_replayed_is_silent(env: WorkflowEnv, kept: Kept) -> None:
    handle = env.start(flow)
    env.run_until_idle()
    env.crash()
    handle.result()

    assert [record.getMessage() for record in kept.records] == ["in the workflow", "in the step", "at the end"]


def test_outside_of_runs_the_fields_are_empty(kept: Kept) -> None:
    theirs.info("by itself", extra={"attempt": "mine"})

    (record,) = kept.records
    assert fields_of(record) == ("", "", "", "", "", "mine")


def test_json_lines_have_what_the_record_bears_and_what_went_wrong(kept: Kept) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        theirs.exception("it %s", "failed", extra={"run_id": "r-1", "odd": object})

    said = from_json(JsonFormatter().format(kept.records[0]))
    assert (said["message"], said["level"], said["logger"], said["run_id"]) == (
        "it failed",
        "ERROR",
        "somebody.else",
        "r-1",
    )
    assert "ValueError: broken" in said["exception"]
    assert "seq" not in said


def test_text_lines_name_run_and_step_at_the_end_of_their_first_line(kept: Kept) -> None:
    theirs.info("one\ntwo", extra={"run_id": "r-1", "seq": 3})

    text = TextFormatter("%(levelname)s %(message)s").format(kept.records[0])
    assert text == "INFO one [run_id=r-1 seq=3]\ntwo"
