from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dramaturg.cli.app import app
from dramaturg.client import Client
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.messages import StepTask, encode_message
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import DeadLetter, LetterKind
from dramaturg_store.database import Database

FLOWS = """
from dramaturg import workflow

@workflow
async def greet(id: str, priority: int = 1) -> str:
    return f"hello {id}"

@workflow(name="other")
async def second() -> None: ...

number = 5
"""


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


@pytest.fixture
def flows(folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    """A module with workflows, under a name that no other test imports."""
    name = f"flows_{abs(hash(request.node.name))}"
    (folder / f"{name}.py").write_text(FLOWS)
    monkeypatch.setattr("sys.path", [str(folder), *sys.path])
    with registry.isolated():
        yield name


def test_help_names_every_command_and_the_exit_codes(runner: CliRunner) -> None:
    text = runner.invoke(app, ["--help"]).stdout
    for name in ["run", "dev", "start", "status", "list", "events", "result", "cancel", "terminate", "db", "doctor"]:
        assert f"\n  {name} " in text
    assert "3    there is no such run or workflow" in text


@pytest.mark.parametrize("name", ["run", "dev", "start", "list", "events", "result", "cancel"])
def test_every_command_has_examples(runner: CliRunner, name: str) -> None:
    assert f"dramaturg {name} " in runner.invoke(app, [name, "--help"]).stdout.partition("Examples:")[2]


@pytest.mark.parametrize(
    "typed",
    [
        [],
        ["nonsense"],
        ["run"],
        ["run", "no_colon"],
        ["run", "m:w", "--input", "{"],
        ["run", "nowhere_at_all:w"],
        ["start", "w", "--input", "3"],
        ["start", "w", "--on-conflict", "maybe"],
        ["start", "w", "--delay", "soon"],
        ["list", "--status", "ASLEEP"],
        ["list", "--since", "yesterday"],
        ["list", "--limit", "0"],
        ["dev"],
        ["db", "prune", "--older-than", "old"],
    ],
)
def test_what_cannot_be_meant_ends_with_2(runner: CliRunner, typed: list[str]) -> None:
    done = runner.invoke(app, typed)
    assert done.exit_code == 2
    assert "Traceback" not in done.output


@pytest.mark.parametrize("verb", ["status", "events", "result", "cancel", "terminate"])
def test_an_unknown_run_ends_with_3(runner: CliRunner, verb: str) -> None:
    done = runner.invoke(app, [verb, "nobody"])
    assert done.exit_code == 3
    assert done.stderr == "Error: there is no run or workflow id 'nobody'\n"


@pytest.mark.parametrize("typed", [["result", "x"], ["events", "x", "--follow"], ["start", "w", "--wait"]])
def test_waiting_without_a_coordinator_ends_with_4(runner: CliRunner, typed: list[str]) -> None:
    assert runner.invoke(app, ["start", "w", "--id", "x"]).exit_code == 0

    done = runner.invoke(app, typed)

    assert done.exit_code == 4
    assert "no coordinator is running" in done.stderr
    assert "dramaturg dev MODULE" in done.stderr


def test_a_start_prints_the_run_id_alone(runner: CliRunner) -> None:
    done = runner.invoke(app, ["start", "w", "--input", "[1]", "--arg", "id=7"])
    assert done.exit_code == 2
    assert "'id' goes into --input" in done.stderr

    done = runner.invoke(app, ["start", "w", "--arg", "id=7", "--tag", "a=1"])
    run_id = done.stdout.strip()
    status = json.loads(runner.invoke(app, ["status", run_id, "--json"]).stdout)
    assert (status["run_id"], status["status"]) == (run_id, "PENDING")


def test_a_taken_id_is_told_in_one_line(runner: CliRunner) -> None:
    runner.invoke(app, ["start", "w", "--id", "x"])
    done = runner.invoke(app, ["start", "w", "--id", "x"])
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: workflow id 'x' is taken")
    again = runner.invoke(app, ["start", "w", "--id", "x", "--on-conflict", "use_existing", "--json"])
    assert json.loads(again.stdout)["workflow_id"] == "x"


def test_the_same_key_gives_the_same_run(runner: CliRunner) -> None:
    first, second = (runner.invoke(app, ["start", "w", "--key", "k"]).stdout for _ in range(2))
    assert first == second
    assert runner.invoke(app, ["start", "w", "--key", "k", "--arg", "x=1"]).exit_code == 2


def test_a_name_that_coordinators_do_not_have_ends_with_3(runner: CliRunner) -> None:
    from dramaturg_store.database import Database

    with Client() as client, Database(client.settings.database_url) as database:
        database.registry.announce("me", fingerprint="f", workflows={"checkout": [1]})

    done = runner.invoke(app, ["start", "chekout"])

    assert done.exit_code == 3
    assert "did you mean 'checkout'?" in done.stderr
    assert runner.invoke(app, ["start", "checkout"]).exit_code == 0


def test_a_private_database_has_nobody_to_talk_to(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAMATURG_DATABASE_URL", "sqlite://")
    assert runner.invoke(app, ["list"]).exit_code == 2


def test_run_names_what_the_module_has(runner: CliRunner, flows: str) -> None:
    done = runner.invoke(app, ["run", f"{flows}:number"])
    assert done.exit_code == 2
    assert "it has greet, second" in done.stderr


def test_run_gives_arguments_that_bear_the_name_of_an_option(runner: CliRunner, flows: str) -> None:
    done = runner.invoke(app, ["run", f"{flows}:greet", "--arg", "id=you", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["result"] == "hello you"


def test_run_refuses_arguments_that_do_not_fit(runner: CliRunner, flows: str) -> None:
    done = runner.invoke(app, ["run", f"{flows}:greet", "--arg", "id=x", "--arg", "nope=1"])
    assert done.exit_code == 2
    assert "nope" in done.stderr


def test_a_module_that_breaks_is_told_with_its_place(runner: CliRunner, folder: Path) -> None:
    (folder / "broken_flows.py").write_text("x = 1\n1 / 0\n")
    done = runner.invoke(app, ["run", "broken_flows:w"])
    assert done.exit_code == 2
    assert "ZeroDivisionError" in done.stderr
    assert "broken_flows.py:2)" in done.stderr


def test_db_current_makes_nothing_and_upgrade_does(runner: CliRunner, folder: Path) -> None:
    before = json.loads(runner.invoke(app, ["db", "current", "--json"]).stdout)
    assert before["revision"] is None
    assert not list(folder.glob("*.db*"))

    assert runner.invoke(app, ["db", "upgrade"]).exit_code == 0
    after = json.loads(runner.invoke(app, ["db", "current", "--json"]).stdout)
    assert after["revision"] == after["head"]
    assert json.loads(runner.invoke(app, ["db", "prune", "--older-than", "30d", "--json"]).stdout) == {"deleted": 0}


def test_the_doctor_tells_where_settings_come_from_and_makes_nothing(
    runner: CliRunner, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "dramaturg.toml").write_text('namespace = "shop"\n')
    monkeypatch.setenv("DRAMATURG_MODULES", "orders")

    done = runner.invoke(app, ["doctor"])

    assert done.exit_code == 0
    assert "namespace = shop (dramaturg.toml)" in done.stdout
    assert "modules = ['orders'] (DRAMATURG_MODULES)" in done.stdout
    assert "broker_url = memory:// (default)" in done.stdout
    assert "does not exist yet" in done.stdout
    assert not list(folder.glob("*.db*"))


def test_the_doctor_warns_of_requests_that_nobody_takes(runner: CliRunner) -> None:
    runner.invoke(app, ["start", "w"])

    found = json.loads(runner.invoke(app, ["doctor", "--json"]).stdout)

    assert found["ok"]
    levels = {each["check"]: each["level"] for each in found["findings"]}
    assert levels["coordinators"] == levels["inbox"] == "warn"
    assert levels["sqlite"] == levels["lock"] == levels["dead letters"] == "ok"


def test_the_doctor_warns_of_what_does_not_get_on(runner: CliRunner, folder: Path) -> None:
    runner.invoke(app, ["start", "w"])
    with closing(sqlite3.connect(folder / "dramaturg.db")) as connection, connection:
        connection.execute("INSERT INTO dramaturg_parked VALUES ('r1', 1, 'why', '2026-01-01')")
        connection.execute(
            "INSERT INTO dramaturg_open_work (run_id, generation, seq, partition, kind, attempt, republished)"
            " VALUES ('r2', 1, 4, 1, 'step', 1, 3), ('r3', 1, 1, 1, 'step', 1, 2)"
        )
        task = StepTask("r4", 1, 1, 1, 1, "mail", "mails", "flow", "w", Payload('{"args":[]}'), 8)
        connection.execute(
            "INSERT INTO dramaturg_open_work (run_id, generation, seq, partition, kind, attempt, republished, message)"
            " VALUES ('r4', 1, 1, 1, 'step', 1, 3, ?)",
            [encode_message(task)],
        )
    letter = DeadLetter(
        LetterKind.NOT_REPORTED,
        "NotReported: …",
        '{"queue":"prints"}',
        "r5",
        1,
        datetime(2026, 5, 1, tzinfo=UTC),
        seq=1,
        step="print",
    )
    with Database(f"sqlite:///{folder / 'dramaturg.db'}", "dramatiq") as database:
        database.store.put_aside([letter])

    text = runner.invoke(app, ["doctor", "--json"]).stdout

    warned = [each["text"] for each in json.loads(text)["findings"] if each["level"] == "warn"]
    assert "1 parked: they wait for a coordinator with other code" in warned
    assert "queue mails: 2 sent 3 times more without a report: step 4 of run r2, step 1 of run r4" in warned
    assert "queue prints: 1 failed as NotReported, whose worker told nothing of them" in warned


@pytest.mark.parametrize(
    ("name", "value"), [("DATABASE_URL", "nonsense"), ("BROKER_URL", "carrier://pigeon"), ("MAX_PAYLOAD", "much")]
)
def test_the_doctor_ends_with_1_where_something_is_broken(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"DRAMATURG_{name}", value)
    done = runner.invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "\nfail " in f"\n{done.stdout}"


def test_passwords_are_not_shown() -> None:
    from dramaturg.cli.settings_shown import without_password

    assert without_password("postgresql://me:s3cret@host/db") == "postgresql://me:***@host/db"
    assert without_password("redis://:s3@cret@host") == "redis://:***@host"
    assert without_password("sqlite:///a.db") == "sqlite:///a.db"


def test_the_commands_are_known_before_anything_heavy_is_imported() -> None:
    # The package itself stands aside, so that only what the command line asks for counts.
    program = """
import sys, types
import dramaturg_protocol
package = types.ModuleType("dramaturg")
package.__path__ = [sys.argv[1]]
sys.modules["dramaturg"] = package
import dramaturg.cli.app
heavy = {"sqlalchemy", "alembic", "apscheduler", "dramatiq", "pydantic", "dramaturg_coordinator"}
print(sorted(heavy & sys.modules.keys()))
"""
    import dramaturg

    done = subprocess.run(
        [sys.executable, "-c", program, str(Path(dramaturg.__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
