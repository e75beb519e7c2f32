"""Whether new runs may begin: what has begun goes first, while that alone keeps the coordinator busy."""

from __future__ import annotations

from collections.abc import Callable

#: How many runs a turn finds no longer in memory, if these are half of its runs, before there are too many at once.
MANY_LOADED = 20
#: Seconds after which some starts are taken all the same, and how many.
LONGEST_WAIT, SOME = 5.0, 10


class Pressure:
    """How busy the last turn was.

    Parameters:
      monotonic: the clock of this machine, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._is_behind = False
        self._began_last = monotonic()

    def note(self, *, has_more_reports: bool, runs: int, loaded: int) -> None:
        """How a turn ended.

        Parameters:
          has_more_reports: there were as many reports as a turn takes.
          runs: that it touched.
          loaded: those of them that it had to read from the store again.
        """
        self._is_behind = has_more_reports or (loaded >= MANY_LOADED and 2 * loaded >= runs)

    def most_starts(self, limit: int) -> int:
        """How many starts this turn takes at most."""
        now = self._monotonic()
        if not self._is_behind:
            self._began_last = now
            return limit
        if now - self._began_last < LONGEST_WAIT:
            return 0
        self._began_last = now
        return min(SOME, limit)
