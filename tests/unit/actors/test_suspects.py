"""Steps that are delivered again begin one after the other."""

from __future__ import annotations

import threading
from typing import Any

from dramaturg_actors.suspects import Suspects


def attempt() -> Any:
    return object()


def test_the_next_one_begins_when_the_one_before_has_ended() -> None:
    suspects, first, second = Suspects(alone_seconds=60.0), attempt(), attempt()
    begun: list[object] = []
    suspects.enter(first)

    def enter() -> None:
        suspects.enter(second)
        begun.append(second)

    thread = threading.Thread(target=enter)
    thread.start()
    # Whoever left long ago frees nobody.
    suspects.leave(attempt())
    assert begun == []
    suspects.leave(first)
    thread.join(60)

    assert begun == [second]


def test_a_long_one_holds_up_the_others_for_a_moment_only() -> None:
    suspects = Suspects(alone_seconds=0.01)
    for _ in range(5):
        suspects.enter(attempt())
