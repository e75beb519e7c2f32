"""Dead letters in memory: the twin of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from dramaturg_protocol.records import DeadLetter, RunWrites
from dramaturg_store.dialects import storable


def close_letters(kept: list[DeadLetter], write: RunWrites, now: datetime) -> None:
    """What a run says is dealt with."""
    for closing in write.letters_closed:
        for place, letter in enumerate(kept):
            is_meant = (
                letter.run_id == write.run_id
                and letter.closed_at is None
                and closing.seq in (None, letter.seq)
                and closing.kind in (None, letter.source)
            )
            if is_meant:
                kept[place] = replace(
                    letter,
                    closed_at=now,
                    closed_as=closing.outcome,
                    closed_by=closing.by,
                    closed_reason=closing.reason,
                )


def add_letters(kept: list[DeadLetter], letters: Sequence[DeadLetter], now: datetime) -> None:
    """Keep what could not be processed."""
    for letter in letters:
        number = len(kept) + 1
        letter_row = replace(letter, id=number, at=letter.at or now, body=storable(letter.body))
        kept.append(replace(letter_row, reason=storable(letter.reason)))
