"""A history as it counts: without what retries and resets cut out of it.

A cut is an event. It names the last event that stays, and those later outcomes that stay as well; nothing is ever
deleted. The outcomes that stay follow the cut itself, because the code is told of them in the new generation:

    1 started  2 step a  3 step b  4 a failed  5 b completed  6 failed  7 retried(keep 3, kept 5)  8 …
    effective: 1 2 3 7 5 8 …
"""

from __future__ import annotations

from collections.abc import Sequence

from dramaturg_protocol import events as e


def effective(history: Sequence[e.HistoryEvent]) -> Sequence[e.HistoryEvent]:
    """The events that count, in the order in which they do."""
    if not any(isinstance(line.body, e.Cut) for line in history):
        return history
    lines: list[e.HistoryEvent] = []
    for line in history:
        if isinstance(line.body, e.Cut):
            end = index_of(lines, line.body.keep) + 1
            kept = [each for each in lines[end:] if each.number in line.body.kept]
            lines[end:] = [line, *kept]
        else:
            lines.append(line)
    return lines


def index_of(lines: Sequence[e.HistoryEvent], number: int) -> int:
    """Where an event stands among those that count; `ValueError` where it does not."""
    for index, line in enumerate(lines):
        if line.number == number:
            return index
    raise ValueError(f"no event {number} that counts")
