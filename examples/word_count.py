"""Map and reduce: a step for each file, all at once, and one that adds the parts up.

python examples/word_count.py [FOLDER]
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from pathlib import Path

from dramaturg import run, step, workflow


@step
def find_files(folder: str) -> list[str]:
    """What there is to count. The file system may change between two looks: so a look is a step, recorded once."""
    return sorted(str(path) for path in Path(folder).rglob("*") if path.suffix in (".md", ".py", ".txt"))


@step(retries=2)
def count_words(path: str) -> dict[str, int]:
    """Map: the words of one file. Each file that is counted stays counted, whatever happens to the others."""
    return Counter(re.findall(r"[a-z]{4,}", Path(path).read_text(encoding="utf-8").lower()))


@step
def most_frequent(parts: list[dict[str, int]], limit: int) -> list[tuple[str, int]]:
    """Reduce."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return sorted(total.items(), key=lambda item: (-item[1], item[0]))[:limit]


@workflow
async def word_count(folder: str, limit: int = 5) -> list[tuple[str, int]]:
    """asyncio as you know it: gather gives the results in the order of the files, whichever is ready first."""
    files = await find_files(folder)
    parts = await asyncio.gather(*[count_words(path) for path in files])
    return await most_frequent(parts, limit)


def main() -> None:
    """Count the words of a folder."""
    folder = sys.argv[1] if len(sys.argv) > 1 else "."
    for word, count in run(word_count, folder):
        print(f"{count:6}  {word}")


if __name__ == "__main__":
    main()
