"""What a coordinator in this process commits, as events for people."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from dramaturg.cli.narration import OF_INTEREST, sentence_of
from dramaturg.views import Event
from dramaturg_protocol.event_codec import encode_body
from dramaturg_protocol.events import type_of
from dramaturg_protocol.records import RunWrites
from dramaturg_protocol.shown import shown_json

logger = logging.getLogger("dramaturg.runs")

# Loggers of their own tell these already.
_TOLD_ELSEWHERE = frozenset({"log", "step.failed"})


def events_of(writes: Sequence[RunWrites], run_id: str | None = None) -> Iterator[Event]:
    """The events of one run among what was committed.

    Parameters:
      run_id: ``None`` for those of all runs.
    """
    for each in writes:
        if run_id in (None, each.run_id):
            for event in each.events:
                yield Event(event.number, type_of(event.body), event.time, shown_json(encode_body(event.body)))


def log_what_happens(writes: Sequence[RunWrites]) -> None:
    """Log a line for each event of interest."""
    for each in writes:
        for event in events_of([each]):
            if event.type in OF_INTEREST - _TOLD_ELSEWHERE:
                logger.info("%s  %s", each.run_id, sentence_of(event))
