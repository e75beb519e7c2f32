"""Map and reduce: how long the lines of a large text are, counted in chunks by many steps, put together by one.

python examples/map_reduce.py [LINES]
"""

from __future__ import annotations

import sys
import time
from collections import Counter

import dramaturg
from dramaturg import fan_out, step, workflow

WORDS = ["curtain", "stage", "lamp", "prompt", "wing", "trapdoor", "applause"]


@step
def count_lengths(numbers: list[int]) -> dict[int, int]:
    """How many lines of each length there are, among some; here the text is made up as it is read."""
    lines = (" ".join(WORDS[: number % len(WORDS) + 1]) for number in numbers)
    return dict(Counter(len(line) for line in lines))


@step
def add_up(counts: list[dict[int, int]]) -> list[tuple[int, int]]:
    """Put the parts together, the longest lines first."""
    total: Counter[int] = Counter()
    for each in counts:
        total.update(each)
    return sorted(total.items(), reverse=True)


@workflow
async def line_lengths(lines: int) -> list[tuple[int, int]]:
    """Count in chunks of a thousand, twenty of them at a time."""
    # Were it more than a thousand chunks, they would be spread over child runs by themselves.
    parts = await fan_out(count_lengths, range(lines), chunk=1000, concurrency=20)
    return await add_up(parts)


if __name__ == "__main__":
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    started = time.perf_counter()
    for length, number in dramaturg.run(line_lengths, lines):
        print(f"{number:8} lines of {length:2} characters")
    print(f"{lines} lines in {time.perf_counter() - started:.1f} s")
