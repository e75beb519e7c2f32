from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from dramaturg.cli.narration import sentence_of
from dramaturg.cli.progress import Lines, Picture
from dramaturg.cli.story import Batch, RunStory
from dramaturg.views import Event

T0 = datetime(2026, 5, 1, 12, tzinfo=UTC)
ERROR = {"type": "ConnectionError", "message": "no\nroute", "traceback": "Traceback: here\n"}


class Teller:
    """Tells a story and its picture, second by second."""

    def __init__(self, height: int = 30) -> None:
        self.story = RunStory("run-1")
        self.out = io.StringIO()
        console = Console(file=self.out, width=120, height=height, color_system=None)
        self.console = console
        self.now = T0
        self.picture = Picture(self.story, console, lambda: self.now)
        self.number = 0
        self.tell("run.started", workflow_id="w", workflow="checkout", version=1, input={"args": []})

    def tell(self, kind: str, **data: Any) -> None:
        self.number += 1
        self.picture.tell(Event(self.number, kind, self.now, data))

    def step(self, kind: str, seq: int, name: str = "charge", attempt: int = 1, **data: Any) -> None:
        if kind != "scheduled":
            data["attempt"] = attempt
        self.tell(f"step.{kind}", seq=seq, name=name, **data)

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def seen(self) -> list[str]:
        self.out.truncate(self.out.seek(0))
        self.console.print(self.picture.draw())
        return [line.rstrip() for line in self.out.getvalue().splitlines()]


def test_a_step_has_a_row_with_its_time_and_a_mark() -> None:
    teller = Teller()
    teller.step("scheduled", 1)
    teller.pass_seconds(2.5)

    head, row = teller.seen()
    assert head == "checkout  run-1  RUNNING  2.5s"
    assert "charge" in row
    assert "2.5s" in row

    teller.step("completed", 1, result=5)
    teller.pass_seconds(10)
    assert teller.seen()[1].split() == ["✓", "charge", "2.5s"]


def test_a_step_that_is_tried_again_shows_its_error_and_the_countdown() -> None:
    teller = Teller()
    teller.step("scheduled", 1)
    teller.step("retrying", 1, error=ERROR, retry_at=(T0 + timedelta(seconds=12)).isoformat())
    teller.pass_seconds(2)

    assert "attempt 2 in 10.0s  ConnectionError: no route" in teller.seen()[1]
    teller.pass_seconds(11)
    assert "attempt 2 now" in teller.seen()[1]


def test_a_handed_back_attempt_does_not_count() -> None:
    teller = Teller()
    teller.step("scheduled", 1)
    teller.step("retrying", 1, error=ERROR, retry_at=T0.isoformat(), counts=False)

    assert teller.story.steps[1].attempt == 1


def test_steps_side_by_side_are_one_bar_that_counts_failures() -> None:
    teller = Teller()
    for seq in range(1, 11):
        teller.step("scheduled", seq, "resize")
    for seq in range(1, 4):
        teller.step("completed", seq, "resize", result=None)
    teller.step("failed", 4, "resize", error=ERROR)
    teller.step("retrying", 5, "resize", error=ERROR, retry_at=T0.isoformat())

    rows = teller.seen()
    assert len(rows) == 2
    assert "3/10, 1 failed, 1 trying again: ConnectionError: no route" in rows[1]


def test_steps_one_after_the_other_are_rows_of_their_own() -> None:
    teller = Teller()
    for seq in range(1, 6):
        teller.step("scheduled", seq)
        teller.step("completed", seq, result=None)

    assert [isinstance(row, Batch) and len(row.steps) for row in teller.story.rows] == [1] * 5
    assert len(teller.seen()) == 6


def test_a_long_run_shows_its_newest_rows() -> None:
    teller = Teller(height=10)
    for seq in range(1, 101):
        teller.step("scheduled", seq, f"s{seq}")
        teller.step("completed", seq, f"s{seq}", result=None)

    rows = teller.seen()
    assert len(rows) == 8
    assert "94 earlier" in rows[1]
    assert "s100" in rows[-1]


def test_a_timer_shows_when_it_is_due_and_the_run_waits() -> None:
    teller = Teller()
    teller.tell("timer.started", seq=1, due=(T0 + timedelta(hours=1)).isoformat())
    teller.pass_seconds(60)

    head, row = teller.seen()
    assert "WAITING" in head
    assert "in 59m" in row
    teller.tell("timer.fired", seq=1)
    assert "in" not in teller.seen()[1].split()


def test_a_failed_run_knows_the_step_that_it_stems_from() -> None:
    teller = Teller()
    for seq in (1, 2):
        teller.step("scheduled", seq, f"s{seq}")
        teller.step("failed", seq, f"s{seq}", error=ERROR)
    teller.step("scheduled", 3, "left")
    teller.tell("run.failed", error={"type": "X", "message": "m", "traceback": ""}, positions=[1])
    teller.pass_seconds(5)

    assert teller.story.last_failed is teller.story.steps[1]
    assert teller.story.document()["status"] == "FAILED"
    assert "FAILED" in teller.seen()[0]


def test_a_run_that_is_tried_again_has_the_steps_that_are_done_again() -> None:
    teller = Teller()
    teller.step("scheduled", 1)
    teller.step("scheduled", 2)
    teller.step("failed", 1, error=ERROR)
    due = (T0 + timedelta(minutes=1)).isoformat()
    teller.tell("run.retrying", error=ERROR, positions=[1], attempt=1, retry_at=due)
    assert teller.story.shown_status == "WAITING"

    teller.tell("run.retried", again=[[1, 2], [2, 2]])
    assert teller.story.shown_status == "RUNNING"
    teller.step("completed", 1, attempt=2, result=1)
    teller.step("completed", 2, attempt=2, result=1)
    assert teller.story.shown_status == "WAITING"

    assert sentence_of(Event(1, "run.retrying", T0, {"error": ERROR, "attempt": 1, "retry_at": due})).startswith(
        "run failed at try 1, next try at "
    )


def test_a_result_is_told_without_the_tags_of_its_types() -> None:
    teller = Teller()
    teller.tell("run.completed", result={"$type": "set", "items": [1]})

    assert teller.story.shown_result == {1}
    assert teller.story.status == "COMPLETED"


def test_a_blocked_run_says_so_until_it_goes_on() -> None:
    teller = Teller()
    teller.tell("run.blocked", reason="unknown_workflow", message="no code")
    assert teller.story.status == "BLOCKED"
    teller.tell("run.unblocked", version=2)
    assert (teller.story.status, teller.story.version, teller.story.error) == ("RUNNING", 2, None)


def test_lines_tell_what_is_of_interest_with_time_and_zone(capsys: Any) -> None:
    lines = Lines(RunStory("run-1"))
    lines.tell(Event(1, "run.started", T0, {"workflow_id": "w", "workflow": "c", "version": 1, "input": {"args": []}}))
    lines.tell(Event(2, "step.scheduled", T0, {"seq": 1, "name": "s", "queue": "q", "input": {"args": []}}))
    lines.tell(Event(3, "step.completed", T0, {"seq": 1, "name": "s", "attempt": 2, "result": 5, "seconds": 0.5}))

    clock = T0.astimezone().strftime("%H:%M:%S %Z")
    assert capsys.readouterr().out.splitlines() == [
        f"{clock}  run run-1",
        f'{clock}  run of c started with {{"args": []}}',
        f"{clock}  step s #1 completed in 500ms, attempt 2: 5",
    ]


def test_an_event_that_nobody_knows_is_told_as_it_is() -> None:
    assert sentence_of(Event(1, "new.thing", T0, {"a": 1})) == 'new.thing {"a": 1}'
    assert sentence_of(Event(1, "run.failed", T0, {"damage": "not JSON"})) == 'run.failed {"damage": "not JSON"}'
    assert len(sentence_of(Event(1, "log", T0, {"level": "INFO", "message": "x" * 999}))) == 200
