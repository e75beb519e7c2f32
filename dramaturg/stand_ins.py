"""Where clients without a configuration of their own go while a test's engine is open."""

from __future__ import annotations

from dataclasses import dataclass

from dramaturg.links import Link
from dramaturg_protocol.config import Settings
from dramaturg_store.clock import Now


@dataclass(frozen=True, slots=True, eq=False)
class StandIn:
    """What a client of the engine under test is made of."""

    settings: Settings
    link: Link
    now: Now


_open: list[StandIn] = []


def put(stand_in: StandIn) -> None:
    """From now on clients without a configuration go here."""
    _open.append(stand_in)


def take_away(stand_in: StandIn) -> None:
    """Clients go where they went before."""
    if stand_in in _open:
        _open.remove(stand_in)


def current() -> StandIn | None:
    """Of the engine that was opened last."""
    return _open[-1] if _open else None
