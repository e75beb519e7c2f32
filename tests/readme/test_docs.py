"""The documentation, held to the code: its blocks run, its links lead somewhere, its tables are what the code says."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

from dramaturg.cli.app import app
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.options import StartOptions, StepOptions
from tests.readme.documents import blocks_of, first_missing

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
DOCUMENTS = [
    *PAGES,
    ROOT / "README.md",
    ROOT / "examples/README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "tests/README.md",
]
LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?P<target>[^)\s]+)\)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [str(DOCS), *sys.path])
    return importlib.import_module(name)


# The quickstart's blocks are done by test_readme.py, as a reader does them, and so are those that need services.
@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "quickstart.md" and "```python\n" in page.read_text()], ids=name_of
)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)

    with registry.isolated():
        for block in blocks_of(page):
            if block.language == "python" and not block.needs_services:
                # Lines of a traceback are those of the page.
                code = compile("\n" * block.line + block.text, str(page), "exec")
                exec(code, module.__dict__)
        for value in vars(module).values():
            if isinstance(value, WorkflowEnv):
                value.close()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_to_files_and_headings_that_exist(document: Path) -> None:
    broken: list[str] = []
    for match in LINK.finditer(without_code(document.read_text())):
        target = match["target"]
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        found = (document.parent / path).resolve() if path else document
        if not found.is_relative_to(ROOT) or not found.exists() or (heading and heading not in anchors_of(found)):
            broken.append(target)

    assert broken == []


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()

    assert [name_of(page) for page in PAGES if f"({page.relative_to(DOCS).as_posix()})" not in index] == [
        "docs/README.md"
    ]


@pytest.mark.parametrize("name", ["make_charts", "make_tables", "make_performance"])
def test_what_is_made_from_the_code_is_current(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    maker, regions = script(name, monkeypatch), script("regions", monkeypatch)

    for page, parts in maker.PAGES.items():
        path = DOCS / page
        assert regions.renewed(path, maker.SCRIPT, parts) == path.read_text(), f"{page} is not current: make docs"


def test_the_schema_of_graphs_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, make in script("make_tables", monkeypatch).FILES.items():
        assert make() == (DOCS / name).read_text(), f"{name} is not current: make docs"


def test_every_option_of_a_step_is_told() -> None:
    told = options_told(DOCS / "guide/steps.md")

    assert StepOptions.__annotations__.keys() <= told


def test_every_option_of_a_start_is_told() -> None:
    told = options_told(DOCS / "guide/clients.md")

    assert StartOptions.__annotations__.keys() <= told


def test_the_guarantees_name_tests_that_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (DOCS / "guarantees.md").read_text())

    assert len(named) > 25
    assert [f"{path}::{test}" for path, test in named if not has_test(ROOT / path, test)] == []


def test_every_command_is_told_and_every_command_that_is_told_exists() -> None:
    commands = commands_of(typer.main.get_command(app))
    told = set(
        re.findall(
            r"^\| `dramaturg ((?:db |dead |hook |schedule )?[a-z]+)", (DOCS / "guide/cli.md").read_text(), re.MULTILINE
        )
    )

    assert told == commands.keys()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_commands_in_documents_have_the_options_that_are_used(document: Path) -> None:
    commands = commands_of(typer.main.get_command(app))
    lines = [command.line for block in blocks_of(document) if block.language == "console" for command in block.commands]
    lines += re.findall(r"`(dramaturg [a-z][^`]*)`", document.read_text())

    for line in lines:
        words = line.split()
        if words[0] != "dramaturg":
            continue
        name = " ".join(words[1:3]) if words[1] in ("db", "dead", "hook", "schedule") else words[1]
        if name in commands:
            assert {word for word in words if re.fullmatch(r"--[a-z-]+", word)} <= commands[name], line
        else:
            assert name.startswith("-"), line


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_documents_point_nowhere_outside_of_the_repository(document: Path) -> None:
    assert re.findall(r"\]\(/|/home/|/root/|\.\./\.\./\.\./", document.read_text()) == []


@pytest.mark.parametrize(
    ("shown", "printed", "is_found"),
    [
        ("run 01a1fde0-5e5d-776b-b15b-3a711e761720 ends", "run 11111111-2222-7333-8444-555555555555 ends", True),
        ("run 01a1fde0-5e5d-776b-b15b-3a711e761720 ends", "run twelve ends", False),
        ("at 11:31:42 UTC after 2.1s", "at 09:00:00 CEST after 1h30m", True),
        ("A    B", "A           B", True),
        ("started with …", "started with anything", True),
        ("3 steps", "4 steps", False),
    ],
)
def test_what_differs_from_run_to_run_may_differ_and_nothing_else(shown: str, printed: str, is_found: bool) -> None:
    assert (first_missing([shown], ["first", printed, "last"]) is None) is is_found


def test_lines_have_to_come_in_the_order_in_which_they_are_shown() -> None:
    assert first_missing(["a", "c"], ["a", "b", "c"]) is None
    assert first_missing(["c", "a"], ["a", "b", "c"]) == "a"


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors_of(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", without_code(document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def options_told(page: Path) -> set[str]:
    """What stands in the first column of a table."""
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", page.read_text(), re.MULTILINE)
    return {name for names in rows for name in re.findall(r"\w+", names)}


def has_test(path: Path, name: str) -> bool:
    return path.is_file() and re.search(rf"def {name}\(", path.read_text()) is not None


def commands_of(group: Any, prefix: str = "") -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found.update(commands_of(command, f"{prefix}{name} "))
        else:
            options = {
                option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
            }
            found[prefix + name] = {*options, "--help"}
    return found
