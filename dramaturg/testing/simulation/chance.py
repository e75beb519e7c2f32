"""Draws that follow from a seed: each domain has a stream of its own, so that one more draw here moves none there."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15


class Chance:
    """Seeded draws, the same in every process.

    Parameters:
      seed: any integer.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._streams: dict[str, int] = {}

    def number(self, domain: str) -> float:
        """From 0 up to, not including, 1."""
        return self._bits(domain) / 2**64

    def happens(self, domain: str, probability: float) -> bool:
        """Whether something of this probability happens now."""
        return self.number(domain) < probability

    def below(self, domain: str, limit: int) -> int:
        """An integer from 0 up to, not including, the limit."""
        return int(self.number(domain) * limit)

    def pick(self, domain: str, choices: Sequence[T]) -> T:
        """One of the choices, each as likely."""
        return choices[self.below(domain, len(choices))]

    def _bits(self, domain: str) -> int:
        state = self._streams.get(domain)
        if state is None:
            digest = blake2b(f"{self.seed}:{domain}".encode(), digest_size=8).digest()
            state = int.from_bytes(digest, "big")
        # SplitMix64.
        state = self._streams[domain] = (state + _STEP) & _MASK
        mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)
