"""``dramaturg schedule``: what is typed reaches the client's verbs, and what they say is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dramaturg.cli.app import app
from dramaturg.client import Client


@pytest.fixture
def run(folder: Path) -> Any:
    """Type a command; its output where it is done, else its exit code."""
    runner = CliRunner()

    def type_it(*typed: str) -> Any:
        done = runner.invoke(app, ["schedule", *typed])
        assert "Traceback" not in done.output
        return done.stdout if done.exit_code == 0 else done.exit_code

    return type_it


def test_a_schedule_is_created_shown_and_deleted(run: Any) -> None:
    made = run(
        "create", "nightly", "backup", "--cron", "0 2 * * *", "--timezone", "Europe/Berlin", "--input", '["orders"]',
        "--overlap", "buffer_one", "--catchup", "3h", "--jitter", "1m", "--tag", "team=ops", "--note", "for audit",
    )  # fmt: skip
    assert made.startswith("created: nightly, 0 2 * * * (Europe/Berlin), next ")

    with Client() as client:
        one = client.schedules.get("nightly")
    assert (one.workflow, one.overlap, one.tags, one.note) == ("backup", "buffer_one", {"team": "ops"}, "for audit")
    assert (one.catchup.total_seconds(), one.jitter.total_seconds()) == (10800, 60)
    assert "nightly" in run("list")
    assert "0 fired, 0 skipped, 0 missed" in run("show", "nightly")
    assert len(run("next", "nightly", "-n", "3").splitlines()) == 3
    assert all(moment.endswith("Z") for moment in json.loads(run("next", "nightly", "--json")))
    assert json.loads(run("show", "nightly", "--json"))["timezone"] == "Europe/Berlin"
    assert run("delete", "nightly") == "deleted: nightly\n"
    assert run("list") == "no schedules\n"


def test_it_is_paused_resumed_triggered_and_backfilled(run: Any) -> None:
    run("create", "c", "check", "--arg", "table=orders", "--every", "1h", "--start-at", "2020-01-01T00:00+00:00")

    assert run("pause", "c", "--note", "disk full").startswith("paused: c, every 1h")
    assert "disk full" in run("show", "c")
    assert "paused" in run("list", "--paused")
    assert run("list", "--active") == "no schedules\n"
    assert run("resume", "c").startswith("resumed: c")
    run_id = run("trigger", "c").strip()
    assert run_id in run("show", "c")
    assert json.loads(run("trigger", "c", "--json"))["run_id"] != run_id
    times = json.loads(
        run("backfill", "c", "--start", "2024-01-01T00:00+00:00", "--end", "2024-01-01T03:00+00:00", "--json")
    )
    assert times == [f"2024-01-01T0{hour}:00:00Z" for hour in range(4)]
    with Client() as client:
        assert client.schedules.get("c").waiting == 4  # both that were triggered are open


def test_calendar_and_moment(run: Any) -> None:
    assert "every 1 months at 09:00:00" in run("create", "a", "w", "--calendar", "months=1", "--calendar", "hour=9")
    assert run("create", "b", "w", "--at", "2130-05-01T09:00").startswith("created: b, at ")


@pytest.mark.parametrize(
    "typed",
    [
        ["create", "x", "w"],
        ["create", "x", "w", "--cron", "61 * * * *"],
        ["create", "x", "w", "--cron", "* * * * *", "--timezone", "Nowhere"],
        ["create", "x", "w", "--every", "1h", "--overlap", "maybe"],
        ["create", "x", "w", "--every", "1h", "--catchup", "1s"],
        ["create", "x", "w", "--calendar", "months"],
        ["create", "x", "w", "--calendar", "moons=1"],
        ["create", "x", "w", "--at", "tomorrow"],
        ["create", "x", "w", "--at", "2001-01-01T00:00"],
        ["create", "x", "w", "--every", "1h", "--arg", "cron=5"],
        ["backfill", "x", "--start", "then", "--end", "now"],
    ],
)
def test_what_cannot_be_meant_ends_with_2(run: Any, typed: list[str]) -> None:
    assert run(*typed) == 2
    assert run("list") == "no schedules\n"


@pytest.mark.parametrize("verb", ["show", "next", "pause", "resume", "trigger", "delete"])
def test_one_that_is_not_there_ends_with_3(run: Any, verb: str) -> None:
    assert run(verb, "x") == 3


def test_one_that_is_there_already_ends_with_2(run: Any) -> None:
    run("create", "x", "w", "--every", "1h")
    assert run("create", "x", "w", "--every", "1h") == 2
