"""``@lifespan``: what a worker process sets up before its first step and takes down after its last."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from dramaturg_protocol.definitions import registry

Generate = TypeVar("Generate", bound=Callable[[], Iterator[dict[str, Any]] | AsyncIterator[dict[str, Any]]])


def lifespan(generator: Generate) -> Generate:
    """Register a generator, sync or async, that yields once: a dict that steps find in ``current_step().state``.

    What follows the ``yield`` runs when the worker stops. One that raises ends the worker; no step is taken.

    Raises:
      TypeError: not a generator function, or it takes arguments.
    """
    if not (inspect.isgeneratorfunction(generator) or inspect.isasyncgenfunction(generator)):
        raise TypeError(f"@lifespan decorates a generator (def or async def with one yield), not {generator!r}")
    if inspect.signature(generator).parameters:
        raise TypeError(f"lifespan {generator.__name__!r} must take no arguments")
    registry.add_lifespan(generator)
    return generator
