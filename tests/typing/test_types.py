"""The types of the public API: what `cases/` accepts and refuses, by mypy and by pyright, line by line.

A line that is to be refused ends with ``# expect-error: `` and the kind of mistake; each checker must name a rule of
that kind and no other. A line without is clean for both.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
CASES = sorted((Path(__file__).parent / "cases").glob("*.py"))
EXPECTED = re.compile(r"# expect-error: (?P<kind>\w+)$")

RULES = {
    # mypy tells a call that fits no overload in several ways: `misc` is "cannot infer a type parameter".
    "argument": {"arg-type", "call-arg", "call-overload", "misc", "reportArgumentType", "reportCallIssue"},
    "assignment": {"assignment", "arg-type", "call-overload", "reportAssignmentType", "reportArgumentType"},
    "coroutine": {"unused-coroutine", "reportUnusedCoroutine"},
}

Place = tuple[str, int]
Complaints = Mapping[Place, set[str]]


def expected_rules() -> dict[Place, set[str]]:
    found: dict[Place, set[str]] = {}
    for case in CASES:
        for number, line in enumerate(case.read_text().splitlines(), start=1):
            match = EXPECTED.search(line)
            if match is not None:
                found[case.name, number] = RULES[match["kind"]]
    return found


def complaints_of_mypy(_: Path) -> Complaints:
    # A cache of its own: the one beside it may be in use by `make check`.
    cache = ROOT / ".mypy_cache/typing"
    command = [sys.executable, "-m", "mypy", "--strict", "--output=json", f"--cache-dir={cache}", *map(str, CASES)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not result.stderr, result.stderr
    found: defaultdict[Place, set[str]] = defaultdict(set)
    for line in result.stdout.splitlines():
        complaint = json.loads(line)
        if complaint["severity"] == "error":
            found[Path(complaint["file"]).name, complaint["line"]].add(complaint["code"])
    return found


def complaints_of_pyright(folder: Path) -> Complaints:
    # The project's own configuration leaves the cases out, and paths in one are relative to it.
    for case in CASES:
        shutil.copy(case, folder)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pyright"]
    paths = [str(ROOT / path) for path in (".", *project["extraPaths"])]
    settings = {**project, "include": ["."], "exclude": [], "extraPaths": paths, "venvPath": str(ROOT)}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found: defaultdict[Place, set[str]] = defaultdict(set)
    for complaint in json.loads(result.stdout)["generalDiagnostics"]:
        if complaint["severity"] == "error":
            line = complaint["range"]["start"]["line"] + 1
            found[Path(complaint["file"]).name, line].add(complaint.get("rule", "syntax"))
    return found


@pytest.mark.parametrize("check", [complaints_of_mypy, complaints_of_pyright], ids=["mypy", "pyright"])
def test_exactly_the_wrong_lines_are_refused(check: Callable[[Path], Complaints], tmp_path: Path) -> None:
    expected = expected_rules()

    found = check(tmp_path)

    assert len(expected) > 50
    assert sorted(found) == sorted(expected)
    assert {place: rules for place, rules in found.items() if not rules <= expected[place]} == {}
