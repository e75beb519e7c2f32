"""A workflow over the files of a folder: find, count each, add up, wait, report.

This is user code, to be copied, but for the lines ``@witnessed``: they belong to the demo, which writes down from the
outside what ran.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import keyword
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dramaturg import RetryPolicy, current_step, sleep, step, workflow
from dramaturg.demo.witness import witnessed

SUFFIXES = {".py", ".pyi", ".md", ".rst", ".txt", ".toml", ".cfg", ".ini", ".html", ".css", ".js", ".c", ".h", ".sh"}
LEFT_OUT = {"__pycache__", "site-packages", "dist-packages", "node_modules", "build", "dist", "demo-report"}
LARGEST = 1_000_000  # bytes: what a step returns is kept in the history
WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True, slots=True)
class FileCount:
    """What is in one file; `sha256` is of its bytes, `words` counts each word in lower case."""

    path: str
    size: int
    lines: int
    sha256: str
    words: dict[str, int]


@dataclass(frozen=True, slots=True)
class FileRow:
    """One file in the report."""

    path: str
    size: int
    lines: int
    words: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Report:
    """What is in all files.

    Attributes:
      vocabulary: how many different words.
      top_words: the most frequent ones that are not `common_words`.
      same_content: files that are equal byte for byte, by groups.
    """

    folder: str
    size: int
    lines: int
    words: int
    vocabulary: int
    top_words: dict[str, int]
    same_content: list[list[str]]
    files: list[FileRow]


@step
@witnessed
def find_files(folder: Path, limit: int) -> list[str]:
    """The first text files below a folder, by name."""
    paths = sorted(path.relative_to(folder) for path in _text_files(folder))
    return [str(path) for path in paths[:limit]]


@step(timeout="30s")
@witnessed
def count_file(folder: Path, path: str) -> FileCount:
    """Read a file, hash it, take it apart into words and count them."""
    content = (folder / path).read_bytes()
    text = content.decode("utf-8", errors="replace")
    words = Counter(WORD.findall(text.lower()))
    return FileCount(path, len(content), text.count("\n"), hashlib.sha256(content).hexdigest(), dict(words))


@step(retries=RetryPolicy(max_attempts=5, initial="200ms"))
@witnessed
def common_words() -> list[str]:
    """The words that say nothing, from a service that is not up before the third attempt."""
    this = current_step()
    if this is not None and this.attempt <= 2:
        raise ConnectionError("the word service is not up yet (on purpose)")
    return [*map(str.lower, keyword.kwlist), "an", "are", "be", "by", "of", "self", "str", "int", "that", "the", "to"]


@step
@witnessed
def write_report(report: Report, output: Path) -> list[Path]:
    """Write the report as a table and as JSON; written twice, it is the same."""
    files = {
        output / "report.txt": as_table(report),
        output / "report.json": json.dumps(asdict(report), indent=2, ensure_ascii=False) + "\n",
    }
    output.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        # Renamed into place: a reader finds the whole report or none, also when this step is killed half way.
        draft = path.with_name(path.name + ".draft")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    return list(files)


@workflow
async def textstats(folder: Path, output: Path, limit: int = 150) -> Report:
    """Count the words of a folder's text files and write a report."""
    paths = await find_files(folder, limit)
    counts = await asyncio.gather(*(count_file(folder, path) for path in paths))
    report = add_up(folder, counts, set(await common_words()))
    await sleep("1s")
    await write_report(report, output)
    return report


def add_up(folder: Path, counts: Iterable[FileCount], boring: set[str]) -> Report:
    """Join the counts. Plain arithmetic needs no step: on a replay it gives the same again."""
    words: Counter[str] = Counter()
    by_hash: defaultdict[str, list[str]] = defaultdict(list)
    rows: list[FileRow] = []
    for each in counts:
        words.update(each.words)
        by_hash[each.sha256].append(each.path)
        rows.append(FileRow(each.path, each.size, each.lines, sum(each.words.values()), each.sha256))
    telling = sorted((-count, word) for word, count in words.items() if word not in boring)
    return Report(
        folder=str(folder),
        size=sum(row.size for row in rows),
        lines=sum(row.lines for row in rows),
        words=words.total(),
        vocabulary=len(words),
        top_words={word: -count for count, word in telling[:10]},
        same_content=[group for group in by_hash.values() if len(group) > 1],
        files=rows,
    )


def as_table(report: Report) -> str:
    """The report for people: the totals, the largest files, the most frequent words."""
    table = Table()
    table.add_column("largest files", overflow="fold")
    for name in ("bytes", "lines", "words"):
        table.add_column(name, justify="right")
    for row in sorted(report.files, key=lambda row: -row.size)[:5]:
        table.add_row(row.path, f"{row.size:,}", f"{row.lines:,}", f"{row.words:,}")
    table.add_section()
    table.add_row("all files", f"{report.size:,}", f"{report.lines:,}", f"{report.words:,}")
    words = ", ".join(f"{word} {count:,}" for word, count in report.top_words.items())
    copies = sum(len(group) - 1 for group in report.same_content)
    return (
        f"{len(report.files)} text files below {report.folder}\n{_as_text(table)}"
        f"different words: {report.vocabulary:,}; files that repeat another byte for byte: {copies}\n"
        f"most frequent: {words}\n"
    )


def _as_text(table: Table) -> str:
    console = Console(width=80, color_system=None, force_terminal=False, legacy_windows=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _text_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        # A name that is not printable may not even be text, and then it fits into no history.
        if path.name.startswith(".") or path.name in LEFT_OUT or not path.name.isprintable() or path.is_symlink():
            continue
        if path.is_dir():
            yield from _text_files(path)
        elif path.suffix in SUFFIXES and path.is_file() and path.stat().st_size <= LARGEST:
            yield path
