"""Documents and their fenced blocks: what is a file, what is a command, and what a command is said to print."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# ([\w/]+\.\w+)\n")

# What differs from run to run, in what a document shows; each becomes a pattern.
_VARIABLE = re.compile(
    r"(?P<uuid>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
    r"|(?P<clock>(?:\d{4}-\d{2}-\d{2} )?\d{2}:\d{2}:\d{2}(?:\.\d+)? [A-Z]{3,5})"
    r"|(?P<took>\b\d+(?:\.\d+)?m?s\b)"
    r"|(?P<rest>…)"
)
_PATTERNS = {
    "uuid": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "clock": r"(?:\d{4}-\d{2}-\d{2} )?\d{2}:\d{2}:\d{2}(?:\.\d+)? [A-Z+\d:-]+",
    "took": r"[\d.hms]+",
    "rest": r".*",
}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
      language: the first word after the fence.
      exit_code: what the commands of a console block end with.
      line: of the document, from 1.
      needs_services: whether it is done where a database server and a Redis are: the word ``fleet`` after the language.
    """

    language: str
    exit_code: int
    text: str
    line: int
    needs_services: bool = False

    @property
    def file_name(self) -> str | None:
        """The file that a block of code is to be pasted into, from the comment on its first line."""
        match = _FILE_NAME.match(self.text)
        return match[1] if match else None

    @property
    def commands(self) -> list[Command]:
        """The commands of a console block, each with the lines that it is said to print."""
        found: list[Command] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append(Command(line[2:], []))
            elif line.strip():
                found[-1].printed.append(line)
        return found


@dataclass(frozen=True, slots=True)
class Command:
    """A command line and what it is said to print."""

    line: str
    printed: list[str]

    def missing_from(self, output: str) -> str | None:
        """The first of the printed lines that an output does not have, in this order; ``None`` for none."""
        return first_missing(self.printed, output.splitlines())


def blocks_of(document: Path) -> list[Block]:
    """The fenced blocks of a document, in order."""
    text = document.read_text(encoding="utf-8")
    found: list[Block] = []
    for match in _FENCE.finditer(text):
        language, _, options = match["info"].partition(" ")
        exit_code = re.search(r"exit=(\d+)", options)
        line = text.count("\n", 0, match.start()) + 1
        needs_services = "fleet" in options.split()
        found.append(Block(language, int(exit_code[1]) if exit_code else 0, match["text"], line, needs_services))
    return found


def first_missing(expected: Sequence[str], actual: Sequence[str]) -> str | None:
    """The first expected line that does not come, in order, among the actual ones."""
    rest = iter(actual)
    for line in expected:
        pattern = pattern_of(line)
        if not any(pattern.fullmatch(each.rstrip()) for each in rest):
            return line
    return None


def pattern_of(line: str) -> re.Pattern[str]:
    """What a line that a document shows stands for: ids, times and durations may differ, … is anything."""
    parts: list[str] = []
    last = 0
    for match in _VARIABLE.finditer(line):
        parts += [_literal(line[last : match.start()]), _PATTERNS[match.lastgroup or ""]]
        last = match.end()
    return re.compile("".join([*parts, _literal(line[last:])]))


def _literal(text: str) -> str:
    # Columns are as wide as what stands in them.
    return r"\s+".join(re.escape(word) for word in re.split(r"\s{2,}", text))
