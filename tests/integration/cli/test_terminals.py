from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow

Dramaturg = Callable[..., Any]


def test_run_prints_lines_and_the_result(dramaturg: Dramaturg) -> None:
    good = dramaturg("run", "orders:checkout", "--input", '["o1", 500]')
    as_json = dramaturg("run", "orders:fails", "--json", stderr=subprocess.DEVNULL)
    bad = dramaturg("run", "orders:fails")

    assert good.end() == 0, good.output
    assert "step charge #1 completed in" in good.output
    assert good.seen[-1] == 'result: {"receipt": "o1:500"}\n'
    assert as_json.end() == 1
    document = json.loads(as_json.output)
    assert (document["status"], document["workflow"]) == ("FAILED", "fails")
    assert "ZeroDivisionError" in document["error"]["message"]
    assert bad.end() == 1
    assert "return 1 / x" in bad.output
    assert bad.seen[-1].endswith(
        "failed: StepFailed: step 'divide' failed after 1 attempt: ZeroDivisionError: division by zero\n"
    )


def test_terminals_beside_dev_start_and_watch_and_stop_runs(dramaturg: Dramaturg, dev: Any) -> None:
    waited = dramaturg("start", "checkout", "--arg", "order_id=o1", "--wait", "--json", stderr=subprocess.DEVNULL)
    unknown = dramaturg("start", "chekout")
    starts = [dramaturg("start", "naps", "--input", '["1h"]', "--id", name) for name in ("a", "b")]
    assert [start.end() for start in starts] == [0, 0]
    followed = dramaturg("events", "a", "--follow")
    followed.wait_for("timer #1 started")

    assert waited.end() == 0, waited.output
    assert json.loads(waited.output)["result"] == {"receipt": "o1:5"}
    assert unknown.end() == 3
    assert "did you mean 'checkout'?" in unknown.output

    status, doctor = dramaturg("status", "a"), dramaturg("doctor")
    assert (status.end(), doctor.end()) == (0, 0)
    assert "which is alive" in doctor.output
    assert "waits for    a timer, due in" in status.output

    cancelled = dramaturg("cancel", "a", "--by", "ada", "--reason", "no need")
    terminated = dramaturg("terminate", "b")
    assert (cancelled.end(), terminated.end()) == (0, 0)
    followed.wait_for("cancel requested by ada: no need")
    followed.wait_for("run cancelled")
    assert followed.end() == 0

    listed = dramaturg("list", "--json")
    assert listed.end() == 0
    statuses = {run["workflow_id"]: run["status"] for run in json.loads(listed.output)}
    assert (statuses["a"], statuses["b"]) == ("CANCELLED", "TERMINATED")


def test_an_interrupted_wait_says_that_the_run_goes_on(
    dramaturg: Dramaturg, dev: Any, interrupt: Callable[[Any], None]
) -> None:
    waiting = dramaturg("start", "naps", "--input", '["1h"]', "--wait")
    waiting.wait_for("timer #1 started")

    interrupt(waiting)

    assert waiting.end() == 130
    assert "goes on. Look at it with: dramaturg status " in waiting.seen[-1]


def test_an_interrupted_run_is_taken_up_again_under_its_id(
    dramaturg: Dramaturg, interrupt: Callable[[Any], None]
) -> None:
    typed = ("run", "orders:naps", "--input", '["300ms", "4s"]', "--id", "nap")
    first = dramaturg(*typed)
    first.wait_for("timer #3 started")

    interrupt(first)

    assert first.end() == 130
    assert "nothing is lost" in first.seen[-1]
    second = dramaturg(*typed)
    assert second.end() == 0, second.output
    assert second.output.count("step charge #2 completed") == 1
    assert second.seen[-1] == 'result: "rested"\n'


def test_dev_stops_gracefully_and_its_runs_go_on_after_a_restart(dramaturg: Dramaturg, dev: Any) -> None:
    assert dramaturg("start", "naps", "--input", '["10ms", "2s"]', "--id", "nap").end() == 0
    dev.wait_for("timer #3 started")

    dev.process.terminate()

    assert dev.end() == 0, dev.output
    assert dev.seen[-1] == "stopped; what is open goes on at the next start\n"
    gone = dramaturg("result", "nap")
    assert gone.end() == 4
    assert "no coordinator is running" in gone.output
    dramaturg("dev", "orders").wait_for("ready")
    done = dramaturg("result", "nap", "--timeout", "30s")
    assert done.end() == 0, done.output
    assert done.output == '"rested"\n'


def test_events_that_are_followed_tell_how_far_a_step_is(dramaturg: Dramaturg, dev: Any) -> None:
    assert dramaturg("start", "copy", "--input", "[60]", "--id", "copying").end() == 0
    followed = dramaturg("events", "copying", "--follow")

    line = followed.wait_for("has done")

    assert "progress              step copies #1 attempt 1 has done" in line
    assert " of 60: page " in line
    assert dramaturg("terminate", "copying").end() == 0
    assert followed.end() == 0, followed.output
    assert "run terminated" in followed.seen[-1]


def test_dead_letters_are_listed_shown_retried_and_dropped(dramaturg: Dramaturg, dev: Any) -> None:
    for name in ("first", "second"):
        assert dramaturg("start", "fails", "--id", name, "--wait").end() == 1
    listed = dramaturg("dead", "list", "--json")
    assert listed.end() == 0
    letters = json.loads(listed.output)
    assert [letter["step"] for letter in letters] == ["divide", "divide"]
    number = str(letters[0]["id"])

    shown = dramaturg("dead", "show", number)
    assert shown.end() == 0
    assert "ZeroDivisionError" in shown.output
    assert dramaturg("dead", "drop", number, "--by", "ada", "--reason", "seen").end() == 0
    retried = dramaturg("dead", "retry", "--step", "divide")

    assert retried.end() == 0, retried.output
    assert "retried" in retried.output
    assert dramaturg("dead", "show", "999").end() == 3


def test_a_run_is_forked_with_other_input(dramaturg: Dramaturg, dev: Any) -> None:
    assert dramaturg("start", "checkout", "--input", '["A-1"]', "--id", "order", "--wait").end() == 0

    forked = dramaturg("fork", "order", "--from-step", "1", "--by", "ada", "--json")

    assert forked.end() == 0, forked.output
    run_id = json.loads(forked.output)["run_id"]
    done = dramaturg("result", run_id, "--timeout", "30s")
    assert done.end() == 0, done.output
    assert dramaturg("fork", "order", "--from-step", "9").end() == 3
