"""The demo's own arithmetic, and its proof: a ledger that shows a repeat has to be refused."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dramaturg import Event
from dramaturg.demo.proof import Evidence
from dramaturg.demo.textstats import FileCount, add_up, as_table, common_words, count_file, find_files, write_report
from dramaturg.demo.witness import Execution

FIRST, SECOND = 101, 202
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_count(path: str, **words: int) -> FileCount:
    return FileCount(path, 10, 2, path[0], words)


def test_a_file_is_counted_in_bytes_lines_words_and_hashed(tmp_path: Path) -> None:
    content = "Grüße, snake_case x2\nsnake\n\xff".encode("latin-1")
    (tmp_path / "a.txt").write_bytes(content)

    counted = count_file.fn(tmp_path, "a.txt")

    assert counted.size == len(content)
    assert counted.lines == 2
    assert counted.words == {"gr": 1, "snake": 2, "case": 1}
    assert counted.sha256 == hashlib.sha256(content).hexdigest()


def test_an_empty_file_counts_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()

    counted = count_file.fn(tmp_path, "a.txt")

    assert (counted.size, counted.lines, counted.words) == (0, 0, {})


def test_text_files_are_found_by_name_up_to_the_limit_and_no_others(tmp_path: Path) -> None:
    for name in ("b.py", "a/c.md", "a.txt", "x.bin", ".git/d.py", "__pycache__/e.py", "site-packages/f.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / "large.txt").write_bytes(b"x" * 1_000_001)
    (tmp_path / "loop").symlink_to(tmp_path)

    assert find_files.fn(tmp_path, 10) == ["a/c.md", "a.txt", "b.py"]
    assert find_files.fn(tmp_path, 2) == ["a/c.md", "a.txt"]


def test_counts_are_added_up_without_boring_words_in_the_order_of_frequency() -> None:
    counts = [a_count("a.py", run=2, the=9), a_count("b.py", step=2, run=1), a_count("a2.py")]

    report = add_up(Path("/f"), counts, {"the"})

    assert (report.size, report.lines, report.words, report.vocabulary) == (30, 6, 14, 3)
    assert list(report.top_words.items()) == [("run", 3), ("step", 2)]
    assert report.same_content == [["a.py", "a2.py"]]
    assert [row.words for row in report.files] == [11, 3, 0]


def test_the_table_shows_totals_and_writing_twice_changes_nothing(tmp_path: Path) -> None:
    report = add_up(Path("/f"), [a_count("a.py", run=1234)], set())

    first = [path.read_text() for path in write_report.fn(report, tmp_path / "new")]
    second = [path.read_text() for path in write_report.fn(report, tmp_path / "new")]

    assert first == second
    assert "1,234" in as_table(report)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["report.json", "report.txt"]


def test_the_service_fails_only_inside_a_step() -> None:
    assert "the" in common_words.fn()


def events(*types: tuple[str, int]) -> list[Event]:
    data: list[dict[str, Any]] = [{"seq": seq} if seq else {} for _, seq in types]
    return [
        Event(number, kind, NOW, body)
        for number, ((kind, _), body) in enumerate(zip(types, data, strict=True), start=1)
    ]


def ran(seq: int, pid: int, attempt: int = 1, key: str | None = None) -> Execution:
    return Execution(key or f"key:{seq}", seq, "count", attempt, pid)


BEFORE = (("run.started", 0), *(("step.scheduled", seq) for seq in (1, 2, 3)), ("step.completed", 1))
AFTER = (*BEFORE, ("step.completed", 2), ("step.completed", 3), ("run.completed", 0))
LEDGER = (ran(1, FIRST), ran(2, FIRST), ran(2, SECOND), ran(3, SECOND))


def evidence(after: Sequence[tuple[str, int]] = AFTER, ledger: Sequence[Execution] = LEDGER) -> Evidence:
    return Evidence(events(*BEFORE), events(*after), ledger, FIRST)


def verdict(given: Evidence) -> list[bool]:
    return [claim.holds for claim in given.claims()]


def test_a_run_that_was_resumed_rightly_is_proved() -> None:
    assert verdict(evidence()) == [True] * 5
    assert [(row.steps, row.first, row.second, row.outcomes) for row in evidence().rows()] == [
        (1, 1, 0, 1),
        (1, 1, 1, 1),
        (1, 0, 1, 1),
        (0, 0, 0, 0),
    ]


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        (evidence(after=AFTER[:-1]), 0),
        (evidence(after=(BEFORE[0], *AFTER[2:])), 1),
        (evidence(after=(*AFTER, ("step.completed", 3))), 2),
        (evidence(after=(*AFTER[:-2], AFTER[-1])), 2),
        (evidence(ledger=(*LEDGER, ran(1, SECOND, attempt=2))), 3),
        (evidence(ledger=(*LEDGER, ran(1, FIRST))), 3),
        (evidence(ledger=LEDGER[1:]), 3),
        (evidence(ledger=(*LEDGER[:2], ran(2, SECOND, key="another"), LEDGER[3])), 4),
        (evidence(ledger=(LEDGER[0], LEDGER[1], LEDGER[3])), 4),
        (evidence(ledger=(*LEDGER[:3], replace(LEDGER[3], key="key:2"))), 4),
    ],
    ids=[
        "not completed",
        "an event is missing",
        "two outcomes",
        "no outcome",
        "a finished step ran again",
        "a finished step ran twice before",
        "a finished step never ran",
        "another key",
        "an interrupted step did not run again",
        "two steps share a key",
    ],
)
def test_a_run_that_was_resumed_wrongly_is_not_proved(given: Evidence, refused: int) -> None:
    assert not verdict(given)[refused]
