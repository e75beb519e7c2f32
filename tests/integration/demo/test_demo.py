"""The demo as people start it: a process, its output, the files that it leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dramaturg import Client, Settings

pytestmark = pytest.mark.slow

FILES = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = tmp_path_factory.mktemp("texts [a] b")
    for number in range(FILES):
        (texts / f"file{number:02}.txt").write_text(f"alpha beta_{'gamma ' * number}\nÄrger\n" if number else "")
    return texts


def start(folder: Path, cwd: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dramaturg.demo", str(folder), *options],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def told(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    cwd = tmp_path_factory.mktemp("cwd")
    # Whatever the user has set: the demo is not to touch it.
    users = {"DRAMATURG_DATABASE_URL": "sqlite:///users.db", "DRAMATURG_BROKER_URL": "redis://nowhere.invalid"}
    process = start(folder, cwd, **users)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    return output, cwd


def counted_anew(folder: Path) -> dict[str, Any]:
    words: Counter[str] = Counter()
    files: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.txt")):
        found = [word for word in re.split(r"[\W\d_]+", path.read_text().lower()) if len(word) > 1]
        words.update(found)
        content = path.read_bytes()
        counts = {"size": len(content), "lines": content.count(b"\n"), "words": len(found)}
        files.append({"path": path.name, **counts, "sha256": sha256(content).hexdigest()})
    totals = {name: sum(each[name] for each in files) for name in ("size", "lines", "words")}
    return {**totals, "vocabulary": len(words), "top_words": dict(words), "same_content": [], "files": files}


def test_both_reports_are_what_an_independent_count_gives(told: tuple[str, Path], folder: Path) -> None:
    _, cwd = told
    for report in ("report.json", "resumed/report.json"):
        written = json.loads((cwd / "demo-report" / report).read_text(encoding="utf-8"))
        assert written == {"folder": str(folder), **counted_anew(folder)}


def test_it_says_where_it_is_and_proves_each_claim(told: tuple[str, Path], folder: Path) -> None:
    output, cwd = told
    assert f"text files below {folder}" in (cwd / "demo-report/report.txt").read_text()
    assert f"count_file     {FILES} of {FILES}" in output
    assert output.count("the word service is not up yet") == 2
    assert "FAILED" not in output
    claims = [line.split(maxsplit=1)[1].strip() for line in output.splitlines() if line.startswith("ok ")]
    assert len(claims) == 5
    for claim in claims[1:]:
        good, of = re.match(r"(\d+) of (\d+)", claim).groups()  # type: ignore[union-attr]
        assert good == of
    assert "the same as that of the undisturbed run" in output
    assert "\x1b" not in output


def test_the_kill_came_in_the_middle_and_the_ledger_agrees(told: tuple[str, Path]) -> None:
    output, cwd = told
    pids = {int(pid) for pid in re.findall(r"process (\d+)", output)}
    lines = (cwd / "demo-report/resumed/ledger.jsonl").read_text().splitlines()
    executions = [json.loads(line) for line in lines]
    assert {each["pid"] for each in executions} == pids
    assert len(pids) == 2
    assert {each["seq"] for each in executions if each["name"] == "count_file"} == {*range(2, FILES + 2)}


def test_it_leaves_a_database_of_its_own_and_nothing_elsewhere(told: tuple[str, Path]) -> None:
    output, cwd = told
    assert [path.name for path in cwd.iterdir()] == ["demo-report"]
    assert "DRAMATURG_DATABASE_URL=sqlite:///demo-report/demo.db" in output
    with Client(Settings(database_url=f"sqlite:///{cwd}/demo-report/demo.db")) as client:
        assert {run.workflow_id: run.status for run in client.runs()} == {
            "undisturbed": "COMPLETED",
            "killed-and-resumed": "COMPLETED",
        }


def test_ctrl_c_ends_it_without_a_traceback_and_leaves_no_process(folder: Path, tmp_path: Path) -> None:
    process = start(folder, tmp_path, PYTHONUNBUFFERED="1")
    assert process.stdout is not None
    told = ""
    for line in process.stdout:
        told += line
        if line.startswith("running "):
            break
    process.send_signal(signal.SIGINT)
    told += process.communicate(timeout=30)[0]

    assert process.returncode == 130
    assert "Stopped." in told
    assert "Traceback" not in told
    ledger = tmp_path / "demo-report/resumed/ledger.jsonl"
    for line in ledger.read_text().splitlines():
        with pytest.raises(ProcessLookupError):
            os.kill(json.loads(line)["pid"], 0)


def test_a_folder_without_text_fails_and_says_what_to_do(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    process = start(empty, tmp_path)
    output = process.communicate(timeout=30)[0]

    assert process.returncode == 1
    assert "give another folder" in output


def test_a_folder_with_other_files_is_left_as_it_is(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "report.txt").write_text("mine")
    process = start(folder, tmp_path, "--output", ".")
    output = process.communicate(timeout=30)[0]

    assert process.returncode == 1
    assert "give --output a new or empty folder" in output
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
