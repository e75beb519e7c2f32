"""Code that may look at a run and ask for nothing: queries, validators, predicates.

A replay does not call them, or not as often. So they leave no trace: what they would ask for is refused, and the
counters from which values are derived are afterwards what they were before.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from dramaturg_protocol.errors import NonDeterminismError


class Counting(Protocol):
    """What derives values from counters."""

    @property
    def counters(self) -> tuple[int, ...]:
        """Where they are."""
        ...

    @counters.setter
    def counters(self, counters: tuple[int, ...]) -> None: ...


class ReadOnly:
    """Whether such code is being called.

    Parameters:
      counting: whose counters are kept.

    Attributes:
      who: is being called; empty where nobody is.
      was_broken: something was refused since this was made false last: what is in memory may be half changed.
    """

    def __init__(self, *counting: Counting) -> None:
        self._counting = counting
        self.who = ""
        self.was_broken = False

    @contextmanager
    def during(self, who: str) -> Generator[None, None, None]:
        """What is called in this block asks for nothing."""
        before, outer = [each.counters for each in self._counting], self.who
        self.who = who
        try:
            yield
        finally:
            self.who = outer
            for each, counters in zip(self._counting, before, strict=True):
                each.counters = counters

    def check(self, what: str) -> None:
        """Refuse to ask for something.

        Raises:
          NonDeterminismError: such code is being called.
        """
        if self.who:
            self.was_broken = True
            raise NonDeterminismError(f"{self.who} only looks: it cannot {what}; do it in the workflow or in an update")
