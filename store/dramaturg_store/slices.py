"""Lists in parts that fit into one statement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# Bound well below what the smallest of the databases allows in one statement.
SLICE = 500


def slices(values: list[Any], size: int = SLICE) -> Iterator[list[Any]]:
    """The values in parts that fit into one statement."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
